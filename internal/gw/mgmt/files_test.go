package mgmt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFiles: an administrator's files are his own, few, not too large, and for
// a while.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	content := []byte("a certificate")
	must(t, w.PutFile(ctx, as("device"), "a.pem", content))
	clear(content) // the caller's own may be wiped
	if got, err := w.File(ctx, as("device"), "a.pem"); err != nil || string(got) != "a certificate" {
		t.Errorf("the file is %q, %v", got, err)
	}
	if _, err := w.File(ctx, as("other"), "a.pem"); CodeOf(err) != CodeNotPresent {
		t.Errorf("another's file: %v", err)
	}
	must(t, w.PutFile(ctx, as("device"), "a.pem", []byte("another")))
	if list, err := w.Files(ctx, as("device")); err != nil || len(list) != 1 || list[0].Size != len("another") {
		t.Errorf("after it was replaced there are %+v, %v", list, err)
	}
	for _, name := range []string{"", "a/b", `a\b`, "a\x00", strings.Repeat("x", 256)} {
		if err := w.PutFile(ctx, as("device"), name, []byte("x")); CodeOf(err) != CodeBadParameter {
			t.Errorf("a file named %q: %v", name, err)
		}
	}
	for _, size := range []int{0, MaxFile + 1} {
		if err := w.PutFile(ctx, as("device"), "b", make([]byte, size)); CodeOf(err) != CodeBadParameter {
			t.Errorf("a file of %d bytes: %v", size, err)
		}
	}
	for i := range maxFiles {
		err := w.PutFile(ctx, as("other"), fmt.Sprint(i), bytes.Repeat([]byte{1}, MaxFile))
		if room := (i+1)*MaxFile+len("another") <= maxAllFile; room != (err == nil) {
			t.Fatalf("file %d of %d bytes: %v", i, MaxFile, err)
		}
	}
	must(t, w.DropFile(ctx, as("other"), "0"))
	must(t, w.PutFile(ctx, as("other"), "again", bytes.Repeat([]byte{1}, MaxFile)))
	w.clock.advance(fileLife + time.Minute)
	if list, err := w.Files(ctx, as("device")); err != nil || len(list) != 0 {
		t.Errorf("after an hour there are %+v, %v", list, err)
	}
	for i := range maxFiles {
		must(t, w.PutFile(ctx, as("other"), fmt.Sprint(i), []byte("x")))
	}
	if err := w.PutFile(ctx, as("other"), "one more", []byte("x")); CodeOf(err) != CodeNotPossible {
		t.Errorf("one file too many: %v", err)
	}
	must(t, w.PutFile(ctx, as("other"), "0", []byte("in its place")))
}
