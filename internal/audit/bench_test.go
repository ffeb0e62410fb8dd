package audit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// benchEvent is a key use as the HSM records it.
func benchEvent() Event {
	return Event{
		Kind: Use, Action: "key.sign", Op: [16]byte{1, 2, 3}, Client: "gateway-1", Remote: "127.0.0.1:40112", Partition: "forward-proxy",
		Role: "crypto-user", Object: [16]byte{4, 5, 6}, Mechanism: "RSA_PKCS_SHA256", Outcome: OK,
	}
}

func benchLog(b *testing.B) *Log {
	opts := testOptions()
	opts.CheckpointInterval = 10 * time.Second
	l := openTest(b, b.TempDir(), opts)
	b.Cleanup(func() { closeLog(b, l) })
	return l
}

// parallel runs op from n goroutines. Beside the time that it takes it reports
// the process's processor time, which a busy machine changes less.
func parallel(b *testing.B, n int, op func() error) {
	b.ReportAllocs()
	before := processorTime(b)
	defer func() { b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	if n == 1 {
		for b.Loop() {
			if err := op(); err != nil {
				b.Fatal(err)
			}
		}
		return
	}
	b.SetParallelism(n / 2) // of GOMAXPROCS, 2 on the machine of the published numbers
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := op(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 32, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			l, ev := benchLog(b), benchEvent()
			parallel(b, n, func() error { return l.Append(ev) })
		})
	}
}

// BenchmarkNote is a use's share of a batch of sixteen.
func BenchmarkNote(b *testing.B) {
	l, ev := benchLog(b), benchEvent()
	i := 0
	parallel(b, 1, func() error {
		r, err := l.Note(ev)
		if i++; err == nil && i%16 == 0 {
			err = r.Written()
		}
		return err
	})
}

func BenchmarkAppendDurable(b *testing.B) {
	for _, n := range []int{1, 32, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			l, ev := benchLog(b), benchEvent()
			parallel(b, n, func() error { return l.AppendDurable(b.Context(), ev) })
		})
	}
}

// BenchmarkSign is a P-256 signature, the cheapest key use, alone and with its
// record: the difference is what recording costs.
func BenchmarkSign(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := make([]byte, 32)
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprintf("goroutines=%d/alone", n), func(b *testing.B) {
			parallel(b, n, func() error { _, err := ecdsa.SignASN1(rand.Reader, key, digest); return err })
		})
		b.Run(fmt.Sprintf("goroutines=%d/recorded", n), func(b *testing.B) {
			l, ev := benchLog(b), benchEvent()
			parallel(b, n, func() error {
				if _, err := ecdsa.SignASN1(rand.Reader, key, digest); err != nil {
					return err
				}
				return l.Append(ev)
			})
		})
	}
}

// BenchmarkEncode is a record without its write: line, leaf and tree.
func BenchmarkEncode(b *testing.B) {
	ev := benchEvent()
	ev.Time = time.Now()
	var tree frontier
	var line, stored []byte
	b.ReportAllocs()
	for b.Loop() {
		line = ev.AppendJSON(line[:0])
		stored = tree.push(tlog.RecordHash(line), stored[:0])
	}
	b.SetBytes(int64(len(line)))
}

func BenchmarkParse(b *testing.B) {
	ev := benchEvent()
	ev.Time = time.Now()
	line := ev.AppendJSON(nil)
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseRecord(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l := openTest(b, dir, testOptions())
	const records = 100_000
	for range records {
		if err := l.Append(benchEvent()); err != nil {
			b.Fatal(err)
		}
	}
	key := l.VerifierKey()
	closeLog(b, l)
	for b.Loop() {
		if r := verify(b, dir, key); !r.OK() || r.Records != records {
			b.Fatal(r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}
