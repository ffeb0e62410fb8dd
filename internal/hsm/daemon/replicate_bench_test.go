package daemon

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"slices"
	"sync"
	"testing"
	"time"

	"moongate/client"
)

// BenchmarkClones is what cloning takes between two HSMs on this machine, with
// their logs and stores on disk: one pair of keys from the offer to the answer,
// 1000 RSA keys in packages as large as there may be, and what another client's
// signatures on the target take meanwhile.
func BenchmarkClones(b *testing.B) {
	ctx := b.Context()
	dirs := [2]string{b.TempDir(), b.TempDir()}
	configs := provisionPair(b, dirs)
	var clients, others [2]*client.Client
	var replicas [2]client.Replica
	for i, config := range configs {
		at, stop := run(b, options(dirs[i]))
		defer func() { must(b, stop()) }()
		config.Address = at.NTLS
		for _, c := range []**client.Client{&clients[i], &others[i]} {
			var err error
			*c, err = client.Dial(ctx, config)
			must(b, err)
			defer (*c).Close()
		}
		var err error
		replicas[i], err = clients[i].Replica(ctx)
		must(b, err)
	}
	source, target := clients[0], clients[1]
	must(b, source.SetPeer(ctx, replicas[1].HSM, replicas[1].Serial, true))
	must(b, target.SetPeer(ctx, replicas[0].HSM, replicas[0].Serial, true))
	clone := func(ids []client.ID) (left []client.ID) {
		offer, err := target.OfferClone(ctx, replicas[0].HSM, replicas[0].Serial)
		must(b, err)
		pkg, in, err := source.CloneOut(ctx, offer, ids)
		must(b, err)
		results, err := target.CloneIn(ctx, pkg)
		must(b, err)
		if len(results) != len(in) || len(in) == 0 {
			b.Fatalf("%d results of %d objects", len(results), len(in))
		}
		return slices.DeleteFunc(slices.Clone(ids), func(id client.ID) bool { return slices.Contains(in, id) })
	}

	b.Run("pair", func(b *testing.B) {
		pairs := make([][]client.ID, b.N)
		for i := range pairs {
			pair, err := source.GenerateEC(ctx, elliptic.P256(), nil, nil)
			must(b, err)
			pairs[i] = []client.ID{pair.Public, pair.Private}
		}
		b.ResetTimer()
		for _, pair := range pairs {
			clone(pair)
		}
	})

	b.Run("many", func(b *testing.B) {
		private, err := source.GenerateEC(ctx, elliptic.P256(), nil, nil)
		must(b, err)
		clone([]client.ID{private.Public, private.Private})
		for b.Loop() {
			b.StopTimer()
			var ids []client.ID
			var mu sync.Mutex
			var making sync.WaitGroup
			for range 8 {
				making.Go(func() {
					for range 125 {
						pair, err := source.GenerateEC(ctx, elliptic.P384(), nil, nil)
						if err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						ids = append(ids, pair.Private)
						mu.Unlock()
					}
				})
			}
			making.Wait()
			key, err := others[1].Key(ctx, private.Private)
			must(b, err)
			signing, stop := context.WithCancel(ctx)
			var took []time.Duration
			var signer sync.WaitGroup
			signer.Go(func() {
				for signing.Err() == nil {
					began := time.Now()
					if _, err := key.Sign(nil, make([]byte, 32), crypto.SHA256); err != nil {
						b.Error(err)
						return
					}
					took = append(took, time.Since(began))
				}
			})
			b.StartTimer()
			for len(ids) > 0 {
				ids = clone(ids)
			}
			b.StopTimer()
			stop()
			signer.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/signature")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99-signature")
			b.StartTimer()
		}
	})
}
