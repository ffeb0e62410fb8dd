package logstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/flow"
)

func record(id string) *flow.Record {
	return &flow.Record{
		ID: id, Start: time.Date(2026, 11, 23, 15, 4, 5, 6000, time.UTC), Duration: flow.Millis(1500 * time.Microsecond),
		Kind: flow.Forward, Client: "10.1.2.3:4567", Target: "a.example:443", Server: "192.0.2.7:443", SNI: "a.example",
		Action: "decrypt", Rule: "default rule", Reason: "default", Verdict: flow.Trusted,
		Revocation: "not-checked", FailureCause: "a <cause> & \"more\"\n", BytesUp: 5, BytesDown: 70, HSMCalls: 1,
		ClientLeg: &flow.Leg{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Group: "X25519MLKEM768"},
		ServerLeg: &flow.Leg{Version: "TLS 1.2", Cipher: "TLS_ECDHE", Certificate: &flow.Certificate{
			Subject: "CN=a", Issuer: "CN=ca", Serial: "1f", NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Key: "P-256", SHA256: "abcd",
		}},
	}
}

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "log")
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

type querier interface {
	Query(context.Context, Query) ([]Entry, error)
}

func query(t testing.TB, s querier, q Query) []Entry {
	t.Helper()
	list, err := s.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// until waits for n entries that a query chooses.
func until(t testing.TB, s querier, q Query, n int) []Entry {
	t.Helper()
	q.Limit = MaxLimit
	for limit := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		list := query(t, s, q)
		if len(list) >= n {
			return list
		}
		if time.Now().After(limit) {
			t.Fatalf("%d entries of %+v, want %d", len(list), q, n)
		}
	}
}

func decode(t testing.TB, raw []byte) *flow.Record {
	t.Helper()
	var r flow.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatalf("decoding %s: %v", raw, err)
	}
	return &r
}

// syncBuffer is a log to look into.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestFlows: a record comes back as it was, from this process and another's
// reader, with fields beside it; plain HTTP is traffic only.
func TestFlows(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	reader := OpenReader(dir)
	defer reader.Close()
	if list := query(t, reader, Query{Log: Traffic}); list != nil {
		t.Errorf("entries of nothing: %v", list)
	}
	s := openStore(t, Options{Dir: dir})
	plain := record("2")
	plain.Action, plain.ClientLeg, plain.ServerLeg, plain.Server = "plain", nil, nil, ""
	s.Write(record("1"))
	s.Write(plain)
	got := until(t, reader, Query{Log: Traffic}, 2)
	if diff := cmp.Diff([]*flow.Record{plain, record("1")}, []*flow.Record{decode(t, got[0].Record), decode(t, got[1].AppendJSON(nil))}); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if list := query(t, s, Query{Log: Decryption}); len(list) != 1 || list[0].Get("sessionid") != "1" || list[0].Get("type") != "DECRYPTION" {
		t.Errorf("decryption log: %v", list)
	}
	e := got[1]
	if e.Seq != 1 || time.Since(e.Time) > time.Minute {
		t.Errorf("number %d at %v", e.Seq, e.Time)
	}
	e.Fields = e.Fields[4:] // without number and times
	want := []string{
		"sessionid=1", "src=10.1.2.3", "sport=4567", "dst=192.0.2.7", "dport=443", "proxy_type=forward", "target=a.example:443",
		"sni=a.example", "rule=default rule", "action=decrypt", "reason=default", "elapsed=1", "bytes=75", "bytes_sent=5",
		"bytes_received=70", "tls_version=TLS1.3", "tls_cipher=TLS_AES_128_GCM_SHA256", "tls_keyxchg=X25519MLKEM768",
		"server_tls_version=TLS1.2", "server_tls_cipher=TLS_ECDHE", "subject=CN=a", "issuer=CN=ca", "fingerprint=abcd",
		"chain_status=trusted", "revocation=not-checked", "authority=", "leaf_cached=no", "hsm_calls=1", "hsm_time=0", "err_index=",
		"error=a <cause> & \"more\"\n", "tls=yes",
	}
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Name+"="+f.Value)
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if got[0].Get("dst") != "" {
		t.Errorf("address %q where there is none", got[0].Get("dst"))
	}
	for _, name := range []string{"traffic-1.db", "system-1.db", "config-1.db"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Write(record("late"))
	if s.Lost() != 1 {
		t.Errorf("%d lost after Close, want 1", s.Lost())
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	// Another start goes on with the numbers.
	s = openStore(t, Options{Dir: dir})
	s.Write(record("3"))
	if list := until(t, reader, Query{Log: Traffic}, 3); list[0].Seq != 3 {
		t.Errorf("number %d after another start, want 3", list[0].Seq)
	}
}

// TestEvents: what goes into the system and configuration logs comes out.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	at := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
	s.System(Event{Time: at, Severity: Critical, Type: "hsm", EventID: "hsm-down", Object: "hsm1", Description: "No answer \x00\xff."})
	if err := s.Config(Change{Admin: "alice", From: "10.0.0.1", Via: "cli", Command: "set", Path: "/config/shared", Before: "", After: "<a/>", Result: "Succeeded"}); err != nil {
		t.Fatal(err)
	}
	// Durable: it is there at once.
	list := query(t, s, Query{Log: Config})
	if len(list) != 1 || list[0].Get("admin") != "alice" || list[0].Get("after-change-detail") != "<a/>" {
		t.Errorf("configuration log: %v", list)
	}
	e := until(t, s, Query{Log: System}, 1)[0]
	if !e.Time.Equal(at) || e.Get("severity") != "critical" || e.Get("opaque") != "No answer \uFFFD\uFFFD." {
		t.Errorf("system log: %+v", e)
	}
	var object map[string]any
	if err := json.Unmarshal(e.AppendJSON(nil), &object); err != nil || object["eventid"] != "hsm-down" || object["seqno"] != 1.0 || object["time"] != at.UTC().Format(time.RFC3339Nano) {
		t.Errorf("%s: %v", e.AppendJSON(nil), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Config(Change{}); err == nil {
		t.Error("a change after Close was taken")
	}
}

// TestNeverWaits: where the disk is too slow, records are lost, counted and
// told of; nobody waits.
func TestNeverWaits(t *testing.T) {
	t.Parallel()
	var told syncBuffer
	s := openStore(t, Options{Queue: 10, Logger: slog.New(slog.NewTextHandler(&told, nil))})
	const writers, each = 8, 2_000
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				s.Write(record("x"))
			}
		})
	}
	all.Wait()
	until(t, s, Query{Log: System, Filter: "eventid eq log-entries-lost"}, 1)
	dir := s.traffic.dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lost := s.traffic.lost.Load()
	if lost == 0 {
		t.Fatal("16,000 records in no time went through a queue of 10")
	}
	reader := OpenReader(dir)
	defer reader.Close()
	got := 0
	for {
		list := query(t, reader, Query{Log: Traffic, Limit: MaxLimit, Skip: got})
		if got += len(list); len(list) < MaxLimit {
			break
		}
	}
	if got+int(lost) != writers*each {
		t.Errorf("%d there and %d lost of %d", got, lost, writers*each)
	}
	if !strings.Contains(told.String(), "entries of a log were lost") {
		t.Errorf("the log was told %q", told.String())
	}
}

// TestLongTexts: what a stranger's certificate says is stored up to a bound.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	r := record("1")
	r.ServerLeg.Certificate.Subject = strings.Repeat("é", 500_000)
	r.FailureCause = strings.Repeat("x\x00", 100_000)
	s.Write(r)
	e := until(t, s, Query{Log: Traffic}, 1)[0]
	if len(e.Record) > maxRecord || len(e.Get("subject")) > maxFlowText+3 {
		t.Errorf("%d bytes of record, %d of subject", len(e.Record), len(e.Get("subject")))
	}
	if got := decode(t, e.Record); got.ID != "1" || got.ServerLeg.Certificate.Issuer != "CN=ca" {
		t.Errorf("%+v", got)
	}
	if len(r.FailureCause) != 200_000 || len(r.ServerLeg.Certificate.Subject) != 1_000_000 {
		t.Error("the record itself was changed")
	}
}

// BenchmarkWrite is what the data plane pays. With more than a million rounds
// it is mostly that of losses.
func BenchmarkWrite(b *testing.B) {
	s := openStore(b, Options{Queue: 1 << 20})
	r := record("x")
	b.ReportAllocs()
	for b.Loop() {
		s.Write(r)
	}
	b.StopTimer()
	b.ReportMetric(float64(s.Lost())/float64(b.N), "lost/op")
}

// BenchmarkStore is rows that end in the database.
func BenchmarkStore(b *testing.B) {
	s := openStore(b, Options{})
	b.ReportAllocs()
	for n := range b.N {
		r := record(fmt.Sprint(n))
		s.traffic.queue <- item{what: r} // as Write, but waiting
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
