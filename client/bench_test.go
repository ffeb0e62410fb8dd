package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"moongate/internal/hsm/server"
)

// inFlight runs f from n goroutines until the benchmark's end.
func inFlight(b *testing.B, n int, f func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var callers sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkEcho is the cost of the protocol alone, client and server together.
func BenchmarkEcho(b *testing.B) {
	k := newToken(b)
	k.wrap = func(s server.Session) server.Session { return echo{s} }
	k.run(b)
	c := dial(b, k.config(b))
	data := []byte{1} // which is not held up
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			inFlight(b, n, func() error {
				_, err := c.Encrypt(context.Background(), ID{1}, data, nil)
				return err
			})
		})
	}
}

// BenchmarkSign compares P-256 signatures over TLS on loopback with those of
// the same key in this process.
func BenchmarkSign(b *testing.B) {
	digest := sha256.Sum256([]byte("m"))
	local, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("in-process/64", func(b *testing.B) {
		inFlight(b, 64, func() error {
			_, err := local.Sign(rand.Reader, digest[:], crypto.SHA256)
			return err
		})
	})
	_, c := newClient(b)
	key := newECKey(b, c, "bench")
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint("hsm/", n), func(b *testing.B) {
			inFlight(b, n, func() error {
				_, err := key.Sign(nil, digest[:], crypto.SHA256)
				return err
			})
		})
	}
}
