package partition

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// bench is an HSM on disk with one partition.
func newBench(b *testing.B, journal Journal) (*HSM, *partition, store.PartitionKey) {
	b.Helper()
	dir := b.TempDir()
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	root, err := store.LoadOrCreateRootKey(filepath.Join(dir, "device.key"))
	check(err)
	st, err := store.Open(dir, root, store.Options{})
	check(err)
	check(Initialize(st, "lab", soPassword, mech.Policy{}, time.Now()))
	id := object.NewID()
	check(st.Update(func(tx *store.Tx) error {
		if err := tx.CreatePartition(id); err != nil {
			return err
		}
		return save(tx, kindPartition, partitionKey(id), &partitionRecord{ID: id, Label: "p"})
	}))
	h, err := Open(Options{Store: st, Journal: journal, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	b.Cleanup(func() {
		check(h.Close())
		check(st.Close())
	})
	return h, h.partitions[id], *store.NewPartitionKey()
}

func unlock(b *testing.B, h *HSM, p *partition, key store.PartitionKey) *Session {
	b.Helper()
	if err := p.activate(h, &key); err != nil {
		b.Fatal(err)
	}
	return &Session{h: h, p: p, role: object.RoleCryptoOfficer, client: "c", remote: "192.0.2.7:1234"}
}

// BenchmarkSign is what recording costs a P-256 signature: the key alone, the
// session with a journal that writes nothing, and with the audit log; one at a
// time, and sixteen at once, as a server has them. Of the figures cpu-ns/op, the
// processor's time, tells most on a machine that does other things besides.
func BenchmarkSign(b *testing.B) {
	log, err := audit.Open(filepath.Join(b.TempDir(), "audit"), audit.Options{Origin: "bench/1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	digest := make([]byte, 32)
	for _, journal := range []struct {
		name string
		Journal
	}{{"silent", silent{}}, {"audit", log}} {
		h, p, key := newBench(b, journal.Journal)
		s := unlock(b, h, p, key)
		_, id, err := s.Generate(b.Context(), newOp(), ec, p256, nil)
		if err != nil {
			b.Fatal(err)
		}
		k, err := p.parsed(h, p.objects[id])
		if err != nil {
			b.Fatal(err)
		}
		session := func() error {
			_, err := recorded(s).Sign(context.Background(), object.OperationID{1}, id, ecdsa256, digest)
			return err
		}
		if journal.name == "silent" {
			benchmarkSigning(b, "key", func() error { _, err := k.Sign(ecdsa256, digest); return err })
		}
		benchmarkSigning(b, journal.name, session)
	}
}

func benchmarkSigning(b *testing.B, name string, sign func() error) {
	b.Run(name+"/1", func(b *testing.B) {
		defer reportCPU(b)()
		for b.Loop() {
			if err := sign(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run(name+"/16", func(b *testing.B) {
		b.SetParallelism(16 / runtime.GOMAXPROCS(0))
		defer reportCPU(b)()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := sign(); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// reportCPU measures the processor's time until the function that it returns is
// called.
func reportCPU(b *testing.B) func() {
	spent := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := spent()
	return func() { b.ReportMetric(float64(spent()-before)/float64(b.N), "cpu-ns/op") }
}

const manyKeys = 10_000

func fill(b *testing.B, h *HSM, p *partition, key store.PartitionKey) {
	b.Helper()
	material, err := h.policy.GenerateKey(aes, secretTemplate(32))
	if err != nil {
		b.Fatal(err)
	}
	_, private, err := h.policy.GenerateKeyPair(ec, p256, nil)
	if err != nil {
		b.Fatal(err)
	}
	err = h.store.Update(func(tx *store.Tx) error {
		for i := range manyKeys {
			attrs := private.Attributes
			secret := private.Secret
			if i%2 == 1 {
				attrs, secret = material.Attributes, material.Secret
			}
			o := object.Object{ID: object.NewID(), Secret: secret, Attributes: attrs.Merge(object.New(
				object.Text(object.AttrLabel, fmt.Sprint("key ", i)), object.Bytes(object.AttrID, fmt.Append(nil, i))))}
			if _, err := tx.PutObject(p.id, &key, &o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkActivate is the first login to a partition of 10,000 keys, less the
// password's derivation, with the memory that it takes.
func BenchmarkActivate(b *testing.B) {
	h, p, key := newBench(b, silent{})
	fill(b, h, p, key)
	unlock(b, h, p, key)
	p.deactivate(false)
	before := heap()
	unlock(b, h, p, key)
	after := heap()
	p.deactivate(false)
	for b.Loop() {
		unlock(b, h, p, key)
		p.deactivate(false)
	}
	b.ReportMetric((after-before)/manyKeys, "B/key")
}

// heap is what is in use of it once nothing is left to collect.
func heap() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func BenchmarkFind(b *testing.B) {
	h, p, key := newBench(b, silent{})
	fill(b, h, p, key)
	s := unlock(b, h, p, key)
	for name, pattern := range map[string]object.Template{
		"label": object.New(object.Text(object.AttrLabel, "key 9998")),
		"id":    object.New(object.Bytes(object.AttrID, []byte("9998"))),
		"none":  object.New(object.Text(object.AttrLabel, "no such")),
		"class": object.New(object.Number(object.AttrClass, uint64(object.ClassCertificate))),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.Find(context.Background(), object.OperationID{}, pattern, []object.AttributeType{object.AttrHandle}, 0, 100); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
