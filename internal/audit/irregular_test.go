package audit

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestVerifyRefusesAPipe: a copy that holds one would never be read to its end.
func TestVerifyRefusesAPipe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(dir, Options{Origin: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	key := l.VerifierKey()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	records := filepath.Join(dir, "records.000000")
	if err := os.Remove(records); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(records, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, key); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
