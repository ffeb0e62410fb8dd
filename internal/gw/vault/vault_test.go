package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/durable"
)

func TestFirstStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v := openIn(t, dir)
	for _, name := range []string{masterFile, keyringFile, deviceFile, lockFile} {
		info, err := os.Stat(filepath.Join(v.Dir(), name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(v.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the vault's directory: %v, %v", info, err)
	}
	p := v.Properties()
	if !p.Generated || !p.ExpireAt.IsZero() || !p.RemindAt.IsZero() || p.OnHSM || p.AutoRenew || p.Created.IsZero() || p.File != filepath.Join(v.Dir(), masterFile) {
		t.Errorf("properties %+v", p)
	}
	text := sealed(t, v, "private-key", "secret")
	device, err := v.Device().Seal(WebKey, []byte("web key"))
	must(t, err)

	again := reopen(t, v)
	if again.Properties() != p {
		t.Errorf("properties became %+v", again.Properties())
	}
	wantSecret(t, again, "private-key", text, "secret")
	if got, err := again.Device().Open(WebKey, device); err != nil || string(got) != "web key" {
		t.Errorf("the device key opens %q, %v", got, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	hidden, err := filepath.Glob(filepath.Join(dir, ".*"))
	must(t, err)
	if len(names)+len(hidden) != 1 {
		t.Errorf("beside the vault are %q %q", names, hidden)
	}
}

// TestKeysAreRandom: no two vaults have a key in common.
func TestKeysAreRandom(t *testing.T) {
	t.Parallel()
	one, two := newVault(t), newVault(t)
	for _, name := range []string{masterFile, deviceFile} {
		if bytes.Equal(read(t, filepath.Join(one.Dir(), name)), read(t, filepath.Join(two.Dir(), name))) {
			t.Errorf("%s is the same in two vaults", name)
		}
	}
	if *one.ring.find(one.DataKeys()[0].ID) == *two.ring.find(two.DataKeys()[0].ID) {
		t.Error("two vaults have one data key")
	}
}

// TestWhatIsMissingIsNotMadeAnew: keys that are lost are named, and no fresh
// ones hide that.
func TestWhatIsMissingIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	for _, name := range []string{masterFile, keyringFile, deviceFile} {
		v := newVault(t)
		must(t, v.Close())
		path := filepath.Join(v.Dir(), name)
		must(t, os.Rename(path, path+".away"))
		for range 2 {
			if _, err := Open(v.Dir(), Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
				t.Errorf("without %s: %v", name, err)
			}
		}
		must(t, os.Rename(path+".away", path))
		must(t, reopen(t, v).Close())
	}
}

func TestFilesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{masterFile, keyringFile, deviceFile} {
		v := newVault(t)
		must(t, v.Close())
		path := filepath.Join(v.Dir(), name)
		must(t, os.Chmod(path, 0o640))
		if _, err := Open(v.Dir(), Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("%s that others can read: %v", name, err)
		}
		must(t, os.Remove(path))
		must(t, os.Mkdir(path, 0o700))
		if _, err := Open(v.Dir(), Options{}); err == nil {
			t.Errorf("%s that is a directory was taken", name)
		}
	}
}

// TestDamagedFiles are errors that name the file and quote no key.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{masterFile, keyringFile, deviceFile} {
		v := newVault(t)
		must(t, v.Close())
		path := filepath.Join(v.Dir(), name)
		good := read(t, path)
		for what, bad := range map[string][]byte{
			"empty": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), '\n'), "twice": slices.Concat(good, good),
			"huge": make([]byte, 1<<20), "a digit changed": flip(good, len(good)-10), "no digit": slices.Concat(good[:len(good)-10], []byte("!"), good[len(good)-9:]),
			"of a later version": bytes.Replace(good, []byte("version 1"), []byte("version 2"), 1),
		} {
			write(t, path, bad)
			opened, err := Open(v.Dir(), Options{})
			if name == deviceFile && what == "a digit changed" {
				must(t, err) // a device key is as good as another until it has to open something
				must(t, opened.Close())
				continue
			}
			if err == nil || !strings.Contains(err.Error(), path) && !strings.Contains(err.Error(), "keyring") {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			if key := string(good[len(good)-65 : len(good)-1]); strings.Contains(err.Error(), key[:16]) || strings.Contains(err.Error(), key[48:]) {
				t.Errorf("%s, %s: the error shows the key", name, what)
			}
		}
	}
}

// flip changes a hexadecimal or base64 digit into another one.
func flip(text []byte, i int) []byte {
	changed := bytes.Clone(text)
	if changed[i] == '0' {
		changed[i] = '1'
	} else {
		changed[i] = '0'
	}
	return changed
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	if _, err := Open(v.Dir(), Options{}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	text := sealed(t, v, "private-key", "secret")
	reader, err := Open(v.Dir(), Options{ReadOnly: true})
	must(t, err)
	wantSecret(t, reader, "private-key", text, "secret")
	wantSecret(t, v, "private-key", sealed(t, reader, "private-key", "read"), "read")
	_, renewErr := reader.RenewDataKeys()
	_, pruneErr := reader.PruneDataKeys(nil)
	for i, err := range []error{renewErr, pruneErr, reader.ChangeMaster(t.Context(), Change{New: []byte(masterOne)})} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("change %d by a reader: %v", i, err)
		}
	}
	must(t, reader.Close())
	if _, err := Open(filepath.Join(t.TempDir(), "vault"), Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reader where there is no vault: %v", err)
	}
}

// TestManyFirstStarts: of processes that start at the same time one makes the
// vault, and none loses it.
func TestManyFirstStarts(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := filepath.Join(memoryDir(t), "vault")
		var wg sync.WaitGroup
		opened := make(chan *Vault, 4)
		for range cap(opened) {
			wg.Go(func() {
				v, err := Open(dir, Options{})
				if err != nil && !errors.Is(err, durable.ErrLocked) {
					t.Errorf("a first start: %v", err)
				}
				if err == nil {
					opened <- v
				}
			})
		}
		wg.Wait()
		close(opened)
		n := 0
		for v := range opened {
			n++
			must(t, v.Close())
		}
		if n != 1 {
			t.Errorf("%d processes hold the vault", n)
		}
	}
}

func TestLeftoversOfAFirstStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	left := filepath.Join(dir, ".vault-123")
	must(t, os.Mkdir(left, 0o700))
	write(t, filepath.Join(left, masterFile), []byte("half"))
	must(t, openIn(t, dir).Close())
	if _, err := os.Stat(left); err != nil {
		t.Errorf("what another process may be at: %v", err)
	}
	before := time.Now().Add(-2 * unfinishedFor)
	must(t, os.Chtimes(left, before, before))
	must(t, openIn(t, dir).Close())
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
}
