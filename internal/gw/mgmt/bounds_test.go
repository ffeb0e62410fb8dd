package mgmt

import (
	"fmt"
	"strings"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/revision"
)

// TestChangeOfMany: of a change of very many edits the log has every one, in
// order, without secrets.
func TestChangeOfMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hash, err := hashed()
	must(t, err)
	var edits []config.Edit
	const many = maxCompared + 50
	for i := range many {
		nodes, err := config.ParseFragment([]byte("<phash>" + hash + "</phash><permissions><role-based><superreader>yes</superreader></role-based></permissions>"))
		must(t, err)
		edits = append(edits, config.Edit{Op: config.OpSet, Path: fmt.Sprintf("%s/users/entry[@name='u%03d']", adminsPath, i), Elements: nodes})
	}
	must(t, w.Change(t.Context(), as("root"), edits...))
	entries, err := w.parts.Logs.Query(t.Context(), logstore.Query{Log: logstore.Config, Limit: 1000, Oldest: true})
	must(t, err)
	n := 0
	for _, e := range entries {
		if !strings.Contains(e.Get("path"), "/users/entry[@name='u") {
			continue
		}
		if want := fmt.Sprintf("u%03d", n); !strings.Contains(e.Get("path"), want) {
			t.Fatalf("entry %d is of %s", n, e.Get("path"))
		}
		n++
		for _, f := range e.Fields {
			if strings.Contains(f.Value, "argon2id") {
				t.Errorf("%s has a secret in %s", e.Get("path"), f.Name)
			}
		}
		if after := e.Get("after-change-detail"); !strings.Contains(after, "superreader") {
			t.Errorf("%s says of what is there now %q", e.Get("path"), after)
		}
	}
	if n != many {
		t.Errorf("the log has %d of %d edits", n, many)
	}
}

// TestLongTexts: what callers send is kept only as long as it may be.
func TestLongTexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("x", 1<<20)
	if _, err := w.Commit(t.Context(), as("root"), CommitRequest{Force: true, Description: long}); CodeOf(err) != CodeBadParameter {
		t.Errorf("a description of a megabyte: %v", err)
	}
	if err := w.Lock(t.Context(), as("root"), revision.LockConfig, long); CodeOf(err) != CodeBadParameter {
		t.Errorf("a comment of a megabyte: %v", err)
	}
	if err := w.Change(t.Context(), as("reader"), config.Edit{Op: config.OpDelete, Path: "/config/" + long}); CodeOf(err) != CodeDenied {
		t.Errorf("a path of a megabyte: %v", err)
	}
	for _, log := range []logstore.Log{logstore.Config, logstore.System} {
		entries, err := w.parts.Logs.Query(t.Context(), logstore.Query{Log: log, Limit: 1000})
		must(t, err)
		for _, e := range entries {
			for _, f := range e.Fields {
				if len(f.Value) > 2*maxValue {
					t.Errorf("the %s log has %d bytes in %s", log, len(f.Value), f.Name)
				}
			}
		}
	}
}
