package ha

import (
	"context"
	"crypto"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/client"
)

// BenchmarkSign compares signatures through a group with those through a client
// of one of its HSMs alone: the same key, the same servers.
func BenchmarkSign(b *testing.B) {
	c := newCluster(b, 2)
	config := c.config(client.RoleCryptoOfficer)
	for i := range config.Members {
		config.Members[i].Address = c.hsms[i].address // past the proxies
	}
	g := c.create(config)
	key := newEC(b, g, "bench")
	alone, err := c.direct(0).Key(b.Context(), key.ID())
	must(b, err)
	// A group of which only one member is there, so that the same HSM does the
	// same work: what is left is the group's own cost.
	must(b, c.hsms[1].kill())
	eventually(b, "one left", func() bool { return g.stateOf("hsmb") == Lost })
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint("client/", n), func(b *testing.B) { inFlight(b, n, alone) })
		b.Run(fmt.Sprint("group/", n), func(b *testing.B) { inFlight(b, n, key) })
	}
}

// BenchmarkRouting is what a group adds to each call: it is divided by the time
// that a signature takes.
func BenchmarkRouting(b *testing.B) {
	c := newCluster(b, 2)
	g := c.create(c.config(client.RoleCryptoOfficer))
	b.ReportAllocs()
	for b.Loop() {
		_, err := repeatable(b.Context(), g, need{none: true}, func(context.Context, *client.Client) (struct{}, error) { return struct{}{}, nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

// inFlight signs from n goroutines until the benchmark's end.
func inFlight(b *testing.B, n int, key client.Key) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var callers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := processorTime(b)
	for range n {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := key.Sign(nil, digest[:], crypto.SHA256); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// processorTime is what this process has used, HSMs included: it compares well
// also where the machine is busy with other things.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
