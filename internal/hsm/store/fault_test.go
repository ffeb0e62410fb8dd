package store_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"moongate/internal/hsm/store"
)

const page = 4096

func TestDamagedFilesAreRefused(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(file []byte) []byte{
		"cut to half":      func(file []byte) []byte { return file[:len(file)/2/page*page] },
		"cut to the metas": func(file []byte) []byte { return file[:2*page] },
		"empty pages":      func(file []byte) []byte { clear(file[2*page:]); return file },
		"nonsense in pages": func(file []byte) []byte {
			copy(file[2*page:], bytes.Repeat([]byte{0xee}, len(file)-2*page))
			return file
		},
		"no metas": func(file []byte) []byte { clear(file[:2*page]); return file },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t)
			v.close()
			file, err := os.ReadFile(v.path())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(v.path(), damage(file), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Open(v.dir, v.root, store.Options{}); !errors.Is(err, store.ErrFormat) {
				t.Errorf("Open: %v, want ErrFormat", err)
			}
		})
	}
}

// Pages that cannot be read any more are an error of the transaction and do not
// end the program. Cutting the file behind its first two pages does to the
// mapping what a failing disk does.
func TestAFileThatGoesAwayIsAnError(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	if err := os.Truncate(v.path(), 2*page); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := v.object(v.a.ID); err == nil || !strings.Contains(err.Error(), "check the disk") {
			t.Errorf("reading: %v", err)
		}
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("a panic that is the caller's came as %v", r)
		}
	}()
	if err := v.Update(func(tx *store.Tx) error { return tx.PutRecord("k", "i", nil) }); err == nil {
		t.Error("writing succeeded")
	}
}
