package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"moongate/internal/durable"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/logstore"
)

// TestPrintLog prints beside a store that is being written: lines of JSON, the
// newest last, and what comes.
func TestPrintLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := PrintLog(t.Context(), dir, LogRequest{Log: "traffic"}, &out); err == nil || !strings.Contains(err.Error(), "there are no logs in "+dir) {
		t.Errorf("without logs: %v", err)
	}
	if err := PrintLog(t.Context(), dir, LogRequest{Log: "threat"}, &out); err == nil || !strings.Contains(err.Error(), "expected traffic") {
		t.Errorf("no such log: %v", err)
	}
	if err := durable.Mkdir(In(dir).Log()); err != nil {
		t.Fatal(err)
	}
	store, err := logstore.Open(logstore.Options{Dir: In(dir).Log(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, rule := range []string{"a", "b", "a", "a"} {
		store.Write(&flow.Record{ID: rule, Rule: rule, Action: "decrypt", Revocation: "not-checked"})
	}
	following, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- PrintLog(ctx, dir, LogRequest{Log: "decryption", Newest: 20, Filter: "rule eq a", Follow: true}, w)
		w.Close()
	}()
	lines := json.NewDecoder(following)
	next := func() (r struct {
		flow.Record
		Seqno int64 `json:"seqno"`
	}) {
		t.Helper()
		if err := lines.Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, want := range []int64{1, 3, 4} {
		if r := next(); r.Seqno != want || r.Rule != "a" || r.Revocation != "not-checked" {
			t.Errorf("got %+v, want number %d", r, want)
		}
	}
	store.Write(&flow.Record{Rule: "a"})
	if r := next(); r.Seqno != 5 {
		t.Errorf("got %+v, want number 5", r)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("following until interrupted: %v", err)
	}
	if err := PrintLog(t.Context(), dir, LogRequest{Log: "traffic", Newest: 2}, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.HasPrefix(out.String(), `{"seqno":4,`) {
		t.Errorf("%q", out.String())
	}
	if err := store.Config(logstore.Change{Time: time.Now(), Admin: "alice"}); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := PrintLog(t.Context(), dir, LogRequest{Log: "config", Newest: 1}, &out); err != nil || !strings.Contains(out.String(), `"admin":"alice"`) {
		t.Errorf("%q, %v", out.String(), err)
	}
}
