package p11host

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"moongate/client"
	"moongate/internal/p11/p11test"
)

// BenchmarkSign signs through every layer, with one call in flight and with 32.
func BenchmarkSign(b *testing.B) {
	store := p11test.NewStore(b, label)
	store.Generate(b, label, "rsa:2048", "rsa", "01")
	store.Generate(b, label, "EC:prime256v1", "p256", "02")
	h, err := Start(Config{
		Module: p11test.Module, Token: label, Program: program, Dir: b.TempDir(), Env: []string{store.Env()},
		PIN: func() ([]byte, error) { return []byte(p11test.PIN), nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	config := h.Client()
	config.Role = client.RoleCryptoUser
	c, err := client.Open(config)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	digest := sha256.Sum256(nil)
	for _, name := range []string{"rsa", "p256"} {
		key, err := c.FindKeyByLabel(b.Context(), name)
		if err != nil {
			b.Fatal(err)
		}
		for _, flight := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/%d", name, flight), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range flight {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
			})
		}
	}
}
