package load

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of the times in /proc/PID/stat (proc(5)): USER_HZ, which is
// 100 on every Linux architecture that Go runs on.
const tick = 10 * time.Millisecond

// selfName is the load's own entry in a CPU map.
const selfName = "load"

// process is one line of /proc/PID/stat.
type process struct {
	pid, parent int
	cpu         time.Duration // user and system, of all its threads
}

// readCPU sums the processor time of each watched process and its living
// descendants, and of this process.
func readCPU(watch map[string]int) (map[string]time.Duration, error) {
	processes, err := listProcesses()
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	byPID := map[int]process{}
	for _, p := range processes {
		children[p.parent] = append(children[p.parent], p)
		byPID[p.pid] = p
	}
	var total func(process) time.Duration
	total = func(p process) time.Duration {
		sum := p.cpu
		for _, child := range children[p.pid] {
			sum += total(child)
		}
		return sum
	}
	cpu := map[string]time.Duration{selfName: byPID[os.Getpid()].cpu}
	for name, pid := range watch {
		p, alive := byPID[pid]
		if !alive {
			return nil, fmt.Errorf("%s, process %d, is gone", name, pid)
		}
		cpu[name] = total(p)
	}
	return cpu, nil
}

// since is what each process took between two readings. A descendant that
// ended in between can only make it smaller.
func since(before, after map[string]time.Duration) map[string]time.Duration {
	took := make(map[string]time.Duration, len(after))
	for name, cpu := range after {
		took[name] = max(0, cpu-before[name])
	}
	return took
}

func listProcesses() ([]process, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	processes := make([]process, 0, len(paths))
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // ended since it was listed
		}
		p, err := parseStat(line)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		processes = append(processes, p)
	}
	if len(processes) == 0 {
		return nil, fmt.Errorf("reading processor times: %w", fs.ErrNotExist)
	}
	return processes, nil
}

// parseStat reads fields 1, 4, 14 and 15 of proc(5)'s stat. The second field,
// the command in parentheses, may itself hold spaces and parentheses.
func parseStat(line []byte) (process, error) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return process{}, errors.New("no command in parentheses")
	}
	rest := bytes.Fields(line[end+1:])
	if len(rest) < 13 {
		return process{}, errors.New("too few fields")
	}
	var numbers [4]int
	for i, field := range [][]byte{bytes.TrimSpace(line[:open]), rest[1], rest[11], rest[12]} {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return process{}, err
		}
		numbers[i] = n
	}
	return process{
		pid:    numbers[0],
		parent: numbers[1],
		cpu:    time.Duration(numbers[2]+numbers[3]) * tick,
	}, nil
}
