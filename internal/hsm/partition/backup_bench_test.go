package partition

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// BenchmarkBackup measures a partition of 10,000 private keys of 1,200 bytes:
// time, size of the backup, and by how much the process's memory grew at most.
func BenchmarkBackup(b *testing.B) {
	h, p, key := newBench(b, silent{})
	const n = 10_000
	check(b, h.updatePartition(p, func(_ *store.Tx, record *partitionRecord) error { record.Serial = NewSerial(); return nil }))
	for range n / 1000 {
		check(b, h.store.Update(func(tx *store.Tx) error {
			for range 1000 {
				o := &object.Object{ID: object.NewID(), Secret: make([]byte, 1200), Attributes: object.Defaults(object.ClassPrivateKey)}
				if _, err := tx.PutObject(p.id, &key, o); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	o, err := h.AuthenticateOfficer(context.Background(), operator, soPassword)
	check(b, err)
	var raw bytes.Buffer
	check(b, o.Backup(context.Background(), &raw))
	b.Run("backup", func(b *testing.B) {
		grown := memoryGrowth(b)
		for b.Loop() {
			check(b, o.Backup(context.Background(), io.Discard))
		}
		b.ReportMetric(grown(), "MB-grown")
		b.ReportMetric(float64(raw.Len())/n, "B/object")
	})
	b.Run("replace", func(b *testing.B) {
		grown := memoryGrowth(b)
		for b.Loop() {
			_, err := o.Restore(context.Background(), bytes.NewReader(raw.Bytes()), true)
			check(b, err)
		}
		b.ReportMetric(grown(), "MB-grown")
	})
	b.Run("restore", func(b *testing.B) {
		grown := memoryGrowth(b)
		for b.Loop() {
			b.StopTimer()
			check(b, o.DeletePartition(context.Background(), "p"))
			b.StartTimer()
			_, err := o.Restore(context.Background(), bytes.NewReader(raw.Bytes()), false)
			check(b, err)
		}
		b.ReportMetric(grown(), "MB-grown")
	})
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// memoryGrowth returns by how many MB the most memory that the process had
// since is above what it has now.
func memoryGrowth(b *testing.B) func() float64 {
	b.Helper()
	check(b, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // begins the peak anew
	before := statusMB(b, "VmRSS:")
	return func() float64 { return statusMB(b, "VmHWM:") - before }
}

func statusMB(b *testing.B, field string) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(b, err)
	_, rest, _ := strings.Cut(string(status), field)
	var kB float64
	_, err = fmt.Sscan(rest, &kB)
	check(b, err)
	return kB / 1000
}
