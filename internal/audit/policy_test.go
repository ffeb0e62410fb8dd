package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	l := openTest(t, dir, testOptions())
	if l.Policy() != DefaultPolicy() {
		t.Errorf("a new log has %v", l.Policy())
	}
	want := Policy{Strict: true, OnFull: Count, SegmentBytes: 1 << 20}
	if err := l.SetPolicy(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []Policy{{}, {OnFull: "wait", SegmentBytes: 1 << 20}, {OnFull: Stop, SegmentBytes: 1}, {OnFull: Stop, SegmentBytes: 1 << 50}} {
		if err := l.SetPolicy(t.Context(), bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if l.Policy() != want {
		t.Errorf("in force: %v", l.Policy())
	}
	closeLog(t, l)
	events := readAll(t, dir, 0)
	detail := "strict=on on-full=count segment-bytes=1048576; before: strict=off on-full=stop segment-bytes=67108864"
	if len(events) != 2 || events[0].Action != actionPolicy || events[0].Outcome != intent || events[1].Outcome != OK || events[1].Detail != detail {
		t.Errorf("recorded %+v", events)
	}
	l = openTest(t, dir, testOptions())
	if l.Policy() != want {
		t.Errorf("opened again: %v", l.Policy())
	}
	closeLog(t, l)

	// A file that somebody else wrote is no policy, and no reason to guess one.
	if err := os.WriteFile(filepath.Join(dir, policyName), []byte("strict on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); err == nil || !strings.Contains(err.Error(), "remove it for the defaults") {
		t.Errorf("a damaged policy: %v", err)
	}
}

// A policy that cannot be kept is not in force, and the record says so.
func TestPolicyNotKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(memoryDir(t), "audit")
	l := openTest(t, dir, testOptions())
	if err := os.Mkdir(filepath.Join(dir, policyName), 0o700); err != nil { // no file replaces a directory
		t.Fatal(err)
	}
	p := DefaultPolicy()
	p.Strict = true
	if err := l.SetPolicy(t.Context(), p); err == nil || l.Policy().Strict {
		t.Errorf("%v, and in force: %v", err, l.Policy())
	}
	closeLog(t, l)
	if events := readAll(t, dir, 0); len(events) != 2 || events[1].Outcome == OK {
		t.Errorf("recorded %+v", events)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add(DefaultPolicy().encode())
	f.Add(Policy{Strict: true, OnFull: Count, SegmentBytes: 1 << 16}.encode())
	f.Add([]byte("moongate-audit-policy/1\nstrict on\non-full stop\nsegment-bytes 0065536\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePolicy(data)
		if err == nil && (p.Check() != nil || string(p.encode()) != string(data)) {
			t.Errorf("accepted %q as %v", data, p)
		}
	})
}

func FuzzTally(f *testing.F) {
	var some tally
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	some.count("key.sign", at)
	some.count("key.decrypt", at.Add(time.Hour))
	f.Add(strings.TrimRight(string(some.encode()), " "))
	f.Add(strings.TrimRight(string(new(tally).encode()), " "))
	f.Fuzz(func(t *testing.T, text string) {
		data := []byte(text)
		for len(data) < tallySize {
			data = append(data, ' ')
		}
		got, err := parseTally(data)
		if err != nil {
			return
		}
		if string(got.encode()) != string(data) {
			t.Errorf("accepted %q, which is written as %q", data, got.encode())
		}
		if event := got.event(); len(event.AppendJSON(nil)) >= maxLine {
			t.Errorf("its record has %d bytes", len(event.AppendJSON(nil)))
		}
	})
}
