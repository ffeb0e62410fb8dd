package audit

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fakeSink keeps what it is sent, and loses what is not settled when it is
// told to fail.
type fakeSink struct {
	mu      sync.Mutex
	got     []Notice // settled ones first
	settled int      // so many of them
	fail    bool
	away    bool
}

var errAway = errors.New("the collector is away")

func (s *fakeSink) Send(ctx context.Context, n Notice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lost(); err != nil {
		return err
	}
	s.got = append(s.got, n)
	return ctx.Err()
}

func (s *fakeSink) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost()
}

func (s *fakeSink) lost() error {
	if s.fail || s.away {
		s.fail = false
		s.got = s.got[:s.settled]
		return errAway
	}
	return nil
}

func (s *fakeSink) Settled() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settled == 0 {
		return -1
	}
	return s.got[s.settled-1].Seq
}

func (s *fakeSink) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = len(s.got)
}

func (s *fakeSink) set(fail, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.away = fail, away
}

// until waits for the newest notice to be that of record seq.
func (s *fakeSink) until(t *testing.T, seq int64) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		last := int64(-1)
		if len(s.got) > 0 {
			last = s.got[len(s.got)-1].Seq
		}
		s.mu.Unlock()
		if last >= seq {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the newest notice is of record %d, want %d", last, seq)
		}
	}
}

// forwarding runs a forwarder until the function that it returns is called.
func forwarding(t *testing.T, l *Log, sink Sink, state string) func() {
	t.Helper()
	f := &Forwarder{Log: l, Sink: sink, State: state, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Poll: time.Millisecond}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	l, _ := newSegmented(t, segmentedOptions())
	defer l.Close()
	state := filepath.Join(memoryDir(t), "forwarded")
	sink := &fakeSink{}
	stop := forwarding(t, l, sink, state)
	sink.until(t, 199)
	for range 20 { // the collector comes and goes while records are made
		appendN(t, l, 5)
		sign(t, l)
		sink.set(true, false)
		sink.until(t, l.Len()-1)
		sink.settle()
	}
	sink.set(false, true)
	appendN(t, l, 30)
	sign(t, l)
	sink.set(false, false)
	sink.until(t, l.Len()-1)
	stop()

	var seqs []int64
	for _, n := range sink.got {
		seqs = append(seqs, n.Seq)
	}
	// What it was told to lose was sent again, so that every record is there,
	// once, in order.
	for i, seq := range seqs {
		if seq != int64(i) {
			t.Fatalf("notice %d is of record %d", i, seq)
		}
	}
	if len(seqs) != int(l.Len()) {
		t.Errorf("%d notices of %d records", len(seqs), l.Len())
	}
	n := sink.got[7]
	want := []Field{{"seq", "7"}, {"kind", "use"}, {"action", "key.sign"}, {"outcome", "ok"}, {"client", "client-2"}, {"partition", "p1"}, {"mechanism", "ECDSA_SHA256"}}
	if n.Severity != severityInfo || n.Action != "key.sign" || !slices.Equal(n.Fields, want) {
		t.Errorf("%+v", n)
	}
	if e, err := ParseRecord([]byte(n.Text)); err != nil || e.Seq != 7 || !e.Time.Equal(n.Time) {
		t.Errorf("its text is %q", n.Text)
	}

	// It goes on from what had settled, and no earlier.
	settled := sink.Settled()
	again := &fakeSink{}
	stop = forwarding(t, l, again, state)
	again.until(t, l.Len()-1)
	stop()
	if first := again.got[0].Seq; first != settled+1 {
		t.Errorf("started again, it begins with record %d, want %d", first, settled+1)
	}

	// What was archived meanwhile is skipped, and said to be.
	if err := os.WriteFile(state, encodeForward(l.VerifierKey(), 3), 0o600); err != nil {
		t.Fatal(err)
	}
	archive(t, l, filepath.Join(memoryDir(t), "archive"))
	sign(t, l)
	late := &fakeSink{}
	stop = forwarding(t, l, late, state)
	late.until(t, l.Len()-1)
	stop()
	if n := late.got[0]; n.Action != actionSkipped || n.Severity != severityCritical || !strings.HasPrefix(n.Text, "audit records 3 to ") || late.got[1].Seq != n.Seq+1 {
		t.Errorf("%+v, then %+v", n, late.got[1])
	}

	// Another log's state is none of this one's.
	if err := os.WriteFile(state, encodeForward("another+12345678+key", 100), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &Forwarder{Log: l, State: state, Logger: slog.New(slog.DiscardHandler)}
	if next, err := f.load(); next != 0 || err != nil {
		t.Errorf("%d, %v", next, err)
	}
	if err := os.WriteFile(state, []byte("7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); err == nil || !strings.Contains(err.Error(), state) {
		t.Errorf("a state that is none: %v", err)
	}
}

// Only what is fsynced is told to others: what a power cut takes was never
// said.
func TestForwardWaitsForFsync(t *testing.T) {
	t.Parallel()
	opts := testOptions()
	opts.SyncInterval = time.Hour
	l := openTest(t, filepath.Join(memoryDir(t), "audit"), opts)
	defer l.Close()
	sink := &fakeSink{}
	f := &Forwarder{Log: l, Sink: sink}
	appendN(t, l, 3)
	if next, err := f.forward(t.Context(), 0); next != 0 || err != nil || len(sink.got) > 0 {
		t.Errorf("before the fsync: %d, %v, %d notices", next, err, len(sink.got))
	}
	sign(t, l)
	if next, err := f.forward(t.Context(), 0); next != 3 || err != nil || len(sink.got) != 3 {
		t.Errorf("after the fsync: %d, %v, %d notices", next, err, len(sink.got))
	}
}

func TestSeverity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event Event
		want  int
	}{
		{Event{Kind: Use, Action: "key.sign", Outcome: OK}, severityInfo},
		{Event{Kind: Login, Action: "login", Outcome: OK}, severityInfo},
		{Event{Kind: Login, Action: "login", Outcome: "PIN_INCORRECT"}, severityWarning},
		{Event{Kind: Use, Action: "key.sign", Outcome: "DEVICE_ERROR"}, severityWarning},
		{Event{Kind: Denied, Action: "key.sign", Outcome: "NO"}, severityWarning},
		{Event{Kind: Change, Action: "key.generate", Outcome: intent}, severityNotice},
		{Event{Kind: Admin, Action: "client.register", Outcome: OK}, severityNotice},
		{Event{Kind: Admin, Action: actionRecovered, Outcome: OK}, severityWarning},
		{Event{Kind: Admin, Action: actionGap, Outcome: OK}, severityCritical},
		{Event{Kind: Admin, Action: actionUncounted, Outcome: OK}, severityCritical},
	} {
		if got := severity(&c.event); got != c.want {
			t.Errorf("%+v: %d, want %d", c.event, got, c.want)
		}
	}
}

func FuzzForwardState(f *testing.F) {
	f.Add(encodeForward("moongate-hsm/x+12345678+key", 17))
	f.Add([]byte(forwardHeader + "\n\n017\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, next, err := parseForward(data); err == nil && string(encodeForward(key, next)) != string(data) {
			t.Errorf("accepted %q", data)
		}
	})
}
