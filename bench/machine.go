package main

import (
	"bufio"
	"os"
	"runtime"
	"strings"
)

// machine is what the figures were measured on.
type machine struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Kernel   string   `json:"kernel"`
	Go       string   `json:"go"`
	Load     string   `json:"load"` // of the last 1, 5 and 15 minutes, before measuring
	Versions []string `json:"versions"`
}

// describeMachine leaves out what cannot be read.
func describeMachine(contestants []*contestant) machine {
	m := machine{
		CPU:    cpuModel(),
		Cores:  runtime.NumCPU(),
		Kernel: firstLine("/proc/sys/kernel/osrelease"),
		Go:     runtime.Version(),
	}
	if fields := strings.Fields(firstLine("/proc/loadavg")); len(fields) > 3 {
		m.Load = strings.Join(fields[:3], " ")
	}
	seen := map[string]bool{"": true}
	for _, c := range contestants {
		if !seen[c.version] {
			seen[c.version] = true
			m.Versions = append(m.Versions, c.version)
		}
	}
	return m
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
