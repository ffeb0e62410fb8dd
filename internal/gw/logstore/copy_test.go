package logstore

import (
	"log/slog"
	"testing"
)

// TestCopy: a copy of logs that are in use is what was written before it, and
// a store goes on with it.
func TestCopy(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	open := func(dir string) *Store {
		s, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open(from)
	defer s.Close()
	for _, path := range []string{"/config/one", "/config/two"} {
		if err := s.Config(Change{Admin: "ann", Command: "set", Path: path, Result: "Succeeded"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Copy(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	copied := open(to)
	defer copied.Close()
	if err := copied.Config(Change{Admin: "ann", Command: "set", Path: "/config/three", Result: "Succeeded"}); err != nil {
		t.Fatal(err)
	}
	for store, want := range map[*Store]int{s: 2, copied: 3} {
		list, err := store.Query(t.Context(), Query{Log: Config})
		if err != nil || len(list) != want {
			t.Errorf("%d entries, %v; want %d", len(list), err, want)
		}
	}
}
