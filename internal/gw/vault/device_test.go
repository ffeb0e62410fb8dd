package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDeviceFiles(t *testing.T) {
	t.Parallel()
	v, other := newVault(t), newVault(t)
	d := v.Device()
	path := filepath.Join(t.TempDir(), "password")
	must(t, d.WriteFile(path, PartitionPassword, []byte("a password\n")))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if got, err := d.ReadFile(path, PartitionPassword); err != nil || string(got) != "a password\n" {
		t.Errorf("read as %q, %v", got, err)
	}
	if is, err := Sealed(path); err != nil || !is {
		t.Errorf("sealed: %v, %v", is, err)
	}
	beside, err := OpenDevice(v.Dir()) // while v is open
	must(t, err)
	if got, err := beside.ReadFile(path, PartitionPassword); err != nil || string(got) != "a password\n" {
		t.Errorf("by another process: %q, %v", got, err)
	}
	if _, err := d.ReadFile(path, HSMClientKey); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), path) {
		t.Errorf("under another name: %v", err)
	}
	if _, err := other.Device().ReadFile(path, PartitionPassword); !errors.Is(err, ErrOtherDevice) {
		t.Errorf("by another device: %v", err)
	}
	if _, err := d.ReadFile(path+".none", PartitionPassword); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := d.Seal("", nil); err == nil {
		t.Error("something was sealed under no name")
	}
	if _, err := d.Seal(WebKey, make([]byte, MaxSecret+1)); err == nil {
		t.Error("something too long was sealed")
	}
	longest, err := d.Seal(WebKey, bytes.Repeat([]byte("x"), MaxSecret))
	must(t, err)
	if got, err := d.Open(WebKey, longest); err != nil || len(got) != MaxSecret {
		t.Errorf("the longest contents: %d bytes, %v", len(got), err)
	}
	must(t, os.Chmod(path, 0o604))
	if _, err := d.ReadFile(path, PartitionPassword); err == nil {
		t.Error("a file that others can read was read")
	}
}

func TestEveryByteOfADeviceFileCounts(t *testing.T) {
	t.Parallel()
	d := newVault(t).Device()
	text, err := d.Seal(WebKey, []byte("a key"))
	must(t, err)
	for i := range text {
		for _, bit := range []byte{1, 0x20} {
			changed := bytes.Clone(text)
			changed[i] ^= bit
			if got, err := d.Open(WebKey, changed); err == nil {
				t.Fatalf("with byte %d changed it opens as %q", i, got)
			}
		}
	}
}

func TestProtect(t *testing.T) {
	t.Parallel()
	v, other := newVault(t), newVault(t)
	d := v.Device()
	path := filepath.Join(t.TempDir(), "client.key")
	write(t, path, []byte("-----BEGIN PRIVATE KEY-----\n"))
	if is, err := Sealed(path); err != nil || is {
		t.Errorf("sealed: %v, %v", is, err)
	}
	held, err := os.Open(path)
	must(t, err)
	defer held.Close()
	must(t, d.Protect(path, HSMClientKey))
	text := read(t, path)
	if bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the file is still in the clear")
	}
	before := make([]byte, 4)
	_, err = held.ReadAt(before, 0)
	must(t, err)
	if !bytes.Equal(before, make([]byte, 4)) {
		t.Error("what the file was written on is not overwritten")
	}
	must(t, d.Protect(path, HSMClientKey))
	if !bytes.Equal(read(t, path), text) {
		t.Error("a sealed file was sealed again")
	}
	if got, err := d.ReadFile(path, HSMClientKey); err != nil || string(got) != "-----BEGIN PRIVATE KEY-----\n" {
		t.Errorf("read as %q, %v", got, err)
	}
	if err := other.Device().Protect(path, HSMClientKey); !errors.Is(err, ErrOtherDevice) {
		t.Errorf("by another device: %v", err)
	}
	if err := d.Protect(path, WebKey); !errors.Is(err, ErrChanged) {
		t.Errorf("under another name: %v", err)
	}
	write(t, path, text[:len(text)-2])
	if err := d.Protect(path, HSMClientKey); err == nil || !bytes.Equal(read(t, path), text[:len(text)-2]) {
		t.Errorf("a damaged file: %v", err)
	}
	if err := d.Protect(path+".none", HSMClientKey); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzDeviceFile(f *testing.F) {
	d := newVault(f).Device()
	text, err := d.Seal(WebKey, []byte("a key"))
	must(f, err)
	f.Add(text)
	f.Add([]byte(deviceFirstLine))
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		if got, err := d.Open(WebKey, fuzzed); err == nil && !bytes.Equal(fuzzed, text) {
			t.Errorf("a file that was not written opens as %q", got)
		}
	})
}
