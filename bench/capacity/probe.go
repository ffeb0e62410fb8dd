package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"moongate/internal/hsm/object"
)

// probe is a client that behaves, and is asked how it fares.
type probe struct {
	c       *connection
	session uint32
	key     object.ID
}

// latencies are of one-at-a-time signatures, sorted.
type latencies []time.Duration

func (l latencies) at(q float64) time.Duration {
	return l[min(len(l)-1, int(q*float64(len(l))))]
}

func (l latencies) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, worst %v of %d signatures", l.at(0.5).Round(time.Microsecond), l.at(0.99).Round(time.Microsecond),
		l[len(l)-1].Round(time.Microsecond), len(l))
}

// measure signs for a while, a hundred times a second at most, so that the
// probe itself is no load.
func (p *probe) measure(ctx context.Context, during time.Duration) (latencies, error) {
	var list latencies
	for end := time.Now().Add(during); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if err := p.c.sign(p.session, p.key); err != nil {
			return nil, fmt.Errorf("the probe's signature: %w", err)
		}
		list = append(list, time.Since(start))
		time.Sleep(10*time.Millisecond - min(10*time.Millisecond, time.Since(start)))
	}
	if len(list) == 0 {
		return nil, ctx.Err()
	}
	slices.Sort(list)
	return list, nil
}

// memory is what a process has in memory, in MiB.
func memory(pid int) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, is := strings.CutPrefix(line, "VmRSS:"); is {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kib >> 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS for process %d", pid)
}
