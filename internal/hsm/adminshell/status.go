package adminshell

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

var statusCommands = []command{
	{words: "status", roles: lookers, options: []option{optJSON}, needs: nothing, control: true, run: (*Shell).status,
		help: "The HSM's vital signs: services, connections, operations, load, memory, disk."},
	{words: "syslog tail", roles: lookers, options: []option{optEntries, optJSON}, needs: nothing, control: true, run: (*Shell).syslogTail,
		help: "The newest lines of the HSM's own log."},
	{words: "syslog show", roles: lookers, options: []option{optJSON}, needs: nothing, control: true, run: (*Shell).syslogShow,
		help: "Where messages are sent to."},
	{words: "network show", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).networkShow,
		help: "The machine's name and addresses."},
	{words: "version", roles: everyone, options: []option{optJSON}, needs: nothing, run: (*Shell).version,
		help: "The version of the software."},
}

var optEntries = option{name: "entries", short: "n", value: "N", help: fmt.Sprintf("how many; %d by default", defaultTail)}

// defaultTail and maxTail bound what a tail prints.
const (
	defaultTail = 20
	maxTail     = 10_000
)

// entries reads -entries.
func (a args) entries() (int, error) {
	if !a.has("entries") {
		return defaultTail, nil
	}
	n, err := strconv.Atoi(a.get("entries"))
	if err != nil || n < 1 || n > maxTail {
		return 0, fmt.Errorf("%w: -entries %q; expected a number from 1 to %d", errUsage, a.get("entries"), maxTail)
	}
	return n, nil
}

// machineView is the machine that the HSM runs on; what its kernel does not
// tell is left out.
type machineView struct {
	Load          string `json:"load,omitempty"` // over 1, 5 and 15 minutes
	MemoryTotal   int64  `json:"memory_total_bytes,omitempty"`
	MemoryFree    int64  `json:"memory_available_bytes,omitempty"`
	ProcessMemory int64  `json:"process_memory_bytes,omitempty"`
}

type statusView struct {
	Figures
	Services []Service   `json:"services"`
	Machine  machineView `json:"machine"`
}

func (s *Shell) status(_ context.Context, a args) error {
	v := statusView{Figures: s.appliance.Control.Figures(), Services: s.appliance.Control.Services(), Machine: machine()}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "Started:\t%s (%s ago)\n", v.Started.Format(time.RFC3339), time.Since(v.Started).Round(time.Second))
	for _, service := range v.Services {
		fmt.Fprintf(t, "Service %s:\t%s\n", service.Name, strings.TrimSpace(yesNo(service.Running, "running ", "stopped ")+service.Address+" "+service.Detail))
	}
	fmt.Fprintf(t, "Client connections:\t%d, %d sessions\n", v.Connections, v.Sessions)
	fmt.Fprintf(t, "Requests:\t%d queued, %d in flight\n", v.Queued, v.InFlight)
	fmt.Fprintf(t, "Operations:\t%d, %d of them failed\n", v.Operations, v.Failed)
	fmt.Fprintf(t, "Audit records:\t%d, checkpoint of %s\n", v.Records, moment(v.Checkpoint))
	fmt.Fprintf(t, "Storage:\t%s\n", storageView{v.StoreBytes, v.AuditBytes, v.FreeBytes})
	fmt.Fprintf(t, "Load:\t%s\n", v.Machine.Load)
	fmt.Fprintf(t, "Memory:\t%s available of %s, this process %s\n", size(v.Machine.MemoryFree), size(v.Machine.MemoryTotal), size(v.Machine.ProcessMemory))
	return t.Flush()
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}

// machine reads proc(5).
func machine() machineView {
	var v machineView
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		if fields := strings.Fields(string(raw)); len(fields) >= 3 {
			v.Load = strings.Join(fields[:3], " ")
		}
	}
	memory := kibibytes("/proc/meminfo")
	v.MemoryTotal, v.MemoryFree = memory["MemTotal"], memory["MemAvailable"]
	v.ProcessMemory = kibibytes("/proc/self/status")["VmRSS"]
	return v
}

// kibibytes reads those lines of a file of proc(5) that are "Name: N kB", in
// bytes.
func kibibytes(path string) map[string]int64 {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	found := map[string]int64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if fields := strings.Fields(rest); len(fields) == 2 && fields[1] == "kB" {
			if n, err := strconv.ParseInt(fields[0], 10, 53); err == nil {
				found[name] = n << 10
			}
		}
	}
	return found
}

func (s *Shell) syslogTail(_ context.Context, a args) error {
	n, err := a.entries()
	if err != nil {
		return err
	}
	lines := s.appliance.Control.Log(n)
	if a.has("json") {
		return s.printJSON(append([]string{}, lines...))
	}
	for _, line := range lines {
		fmt.Fprintln(s.term, oneLine(line))
	}
	return nil
}

func (s *Shell) syslogShow(_ context.Context, a args) error {
	for _, service := range s.appliance.Control.Services() {
		if service.Name == "syslog" {
			return s.showServices(a, []Service{service}, service)
		}
	}
	return fmt.Errorf("this HSM sends no messages to a collector")
}

type networkView struct {
	Hostname   string          `json:"hostname"`
	Interfaces []interfaceView `json:"interfaces"`
}

type interfaceView struct {
	Name      string   `json:"name"`
	Hardware  string   `json:"hardware,omitempty"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
}

func (s *Shell) networkShow(_ context.Context, a args) error {
	v, err := network()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	fmt.Fprintf(t, "Hostname:\t%s\n", v.Hostname)
	for _, i := range v.Interfaces {
		fmt.Fprintf(t, "%s:\t%s\t%s\t%s\n", i.Name, yesNo(i.Up, "up", "down"), i.Hardware, strings.Join(i.Addresses, ", "))
	}
	return t.Flush()
}

func network() (networkView, error) {
	host, err := os.Hostname()
	if err != nil {
		return networkView{}, fmt.Errorf("reading the host name: %w", err)
	}
	list, err := net.Interfaces()
	if err != nil {
		return networkView{}, fmt.Errorf("reading the network interfaces: %w", err)
	}
	v := networkView{Hostname: host, Interfaces: []interfaceView{}}
	for _, i := range list {
		one := interfaceView{Name: i.Name, Hardware: i.HardwareAddr.String(), Up: i.Flags&net.FlagUp != 0, Addresses: []string{}}
		addresses, err := i.Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		for _, address := range addresses {
			one.Addresses = append(one.Addresses, address.String())
		}
		v.Interfaces = append(v.Interfaces, one)
	}
	return v, nil
}

func (s *Shell) version(_ context.Context, a args) error {
	if a.has("json") {
		return s.printJSON(map[string]string{"version": s.appliance.Version})
	}
	fmt.Fprintf(s.term, "moongate-hsm %s\n", s.appliance.Version)
	return nil
}
