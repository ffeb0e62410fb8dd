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

// reading is the processor time taken up to a moment.
type reading struct {
	processes  map[string]time.Duration // each watched process with its living descendants
	busy, idle time.Duration            // of all cores
}

// readCPU reads the times of the watched processes and of this one.
func readCPU(watch map[string]int) (reading, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return reading{}, fmt.Errorf("reading the machine's times: %w", err)
	}
	busy, idle, err := parseMachine(stat)
	if err != nil {
		return reading{}, fmt.Errorf("reading the machine's times: %w", err)
	}
	processes, err := listProcesses()
	if err != nil {
		return reading{}, err
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
	r := reading{busy: busy, idle: idle, processes: map[string]time.Duration{selfName: byPID[os.Getpid()].cpu}}
	for name, pid := range watch {
		p, alive := byPID[pid]
		if !alive {
			return reading{}, fmt.Errorf("%s, process %d, is gone", name, pid)
		}
		r.processes[name] = total(p)
	}
	return r, nil
}

// since is what each process took after an earlier reading, and the share of
// all cores that went to anything else. A descendant that ended in between
// only makes its process's time smaller.
func (r reading) since(earlier reading) (map[string]time.Duration, float64) {
	took := make(map[string]time.Duration, len(r.processes))
	others := r.busy - earlier.busy
	for name, cpu := range r.processes {
		took[name] = max(0, cpu-earlier.processes[name])
		others -= took[name]
	}
	all := r.busy - earlier.busy + r.idle - earlier.idle
	if all <= 0 {
		return took, 0
	}
	return took, max(0, others.Seconds()/all.Seconds())
}

// parseMachine reads the first line of /proc/stat (proc(5)): user, nice,
// system, idle, iowait, irq, softirq, steal; what follows is in user already.
func parseMachine(stat []byte) (busy, idle time.Duration, err error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, 0, errors.New("no line for all cores")
	}
	for i, field := range fields[1:9] {
		n, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, 0, err
		}
		if i == 3 || i == 4 {
			idle += time.Duration(n) * tick
		} else {
			busy += time.Duration(n) * tick
		}
	}
	return busy, idle, nil
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
