package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"moongate/internal/durable"
)

// unfinished begins the names of directories beside a vault in which a vault
// was being made; a crash may leave one, whose keys nothing was sealed under.
func unfinished(dir string) string { return "." + filepath.Base(dir) + "-" }

// create makes a vault of fresh keys.
func create(dir string, now time.Time) error {
	m, device := newNamedKey(), newNamedKey()
	now = now.UTC().Truncate(time.Second)
	r := &ring{
		header: header{Master: master{ID: m.id, Created: now}, Keys: []dataKey{{newID(), now}}},
		keys:   []key{newKey()},
	}
	defer wipe([]namedKey{m, device})
	defer r.wipe()
	ringText, err := r.encode(&m.key)
	if err != nil {
		return err
	}
	return publish(dir, map[string][]byte{
		masterFile:  encodeKeyFile(masterKind, []namedKey{m}),
		deviceFile:  encodeKeyFile(deviceKind, []namedKey{device}),
		keyringFile: ringText,
	})
}

// publish makes the directory of files, whole and durable, or fails with an
// error that matches fs.ErrExist where there is one that is not empty. The
// files' texts are cleared.
func publish(dir string, files map[string][]byte) (err error) {
	defer func() {
		for _, text := range files {
			clear(text)
		}
	}()
	parent := filepath.Dir(filepath.Clean(dir))
	temporary, err := os.MkdirTemp(parent, unfinished(dir)) // mode 0700
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := durable.WriteFile(filepath.Join(temporary, name), text, 0o600); err != nil {
			return errors.Join(err, os.RemoveAll(temporary))
		}
	}
	// Files before their directory's name: a crash leaves all of them or none.
	// A rename replaces a directory only if it is empty.
	if err := syscall.Rename(temporary, dir); err != nil {
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.ENOTDIR) {
			err = fmt.Errorf("%s: %w", dir, fs.ErrExist)
		}
		return errors.Join(err, os.RemoveAll(temporary))
	}
	return durable.SyncDir(parent)
}

// unfinishedFor is how long a vault that is being made is left alone: another
// process may be at it still, to find that this one was quicker.
const unfinishedFor = time.Hour

// removeUnfinished removes what crashes left of vaults that were being made. The
// caller holds the vault's lock, so that there is one already.
func removeUnfinished(dir string, now time.Time) error {
	parent := filepath.Dir(filepath.Clean(dir))
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("looking for unfinished vaults: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), unfinished(dir)) {
			continue
		}
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < unfinishedFor {
			continue // gone meanwhile, or not to be touched yet
		}
		if err := os.RemoveAll(filepath.Join(parent, e.Name())); err != nil {
			return fmt.Errorf("removing an unfinished vault: %w", err)
		}
	}
	return nil
}
