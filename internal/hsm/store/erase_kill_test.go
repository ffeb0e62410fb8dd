package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// eraseSteps are the steps of an erasure, in order; those before the mark is
// durable come first.
var eraseSteps = []string{
	"making the root key", "making the store", "marking", "the mark's name", "marked",
	"overwriting the root key", "replacing the root key", "moving the store", "replacing the store",
	"overwriting the store", "removing the store", "removing the mark",
}

func TestEraseHasTheseSteps(t *testing.T) {
	t.Parallel()
	var seen []string
	w := newEraseWorld(t, func(step string) error { seen = append(seen, step); return nil })
	if err := w.Erase(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, eraseSteps) {
		t.Errorf("steps %q, want %q", seen, eraseSteps)
	}
}

// A disk that refuses at any step leaves all as it was, or an erasure that the
// next start completes.
func TestEraseSurvivesAFailingDisk(t *testing.T) {
	t.Parallel()
	for i, at := range eraseSteps {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newEraseWorld(t, func(step string) error {
				if step == at {
					return syscall.EIO
				}
				return nil
			})
			err := w.Erase()
			if !errors.Is(err, syscall.EIO) {
				t.Fatalf("Erase: %v", err)
			}
			if i <= slices.Index(eraseSteps, "marked") {
				if errors.Is(err, ErrErasing) || !w.has() || w.Update(put("goes on")) != nil {
					t.Errorf("Erase: %v; the store did not go on as it was", err)
				}
				if got, want := w.names(), []string{"device.key", FileName}; !slices.Equal(got, want) {
					t.Errorf("files are %q, want %q", got, want)
				}
				return
			}
			if !errors.Is(err, ErrErasing) || w.has() {
				t.Errorf("Erase: %v; the object is still there", err)
			}
			if err := w.Update(put("lost")); !errors.Is(err, ErrErasing) {
				t.Errorf("an update that would be lost: %v", err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w.finish()
		})
	}
}

// finish does what the next start does.
func (w *eraseWorld) finish() {
	w.t.Helper()
	if done, err := FinishErase(w.dir, w.key); err != nil || !done {
		w.t.Fatalf("FinishErase: %v, %v", done, err)
	}
	if done, err := FinishErase(w.dir, w.key); err != nil || done {
		w.t.Errorf("FinishErase, again: %v, %v", done, err)
	}
	root, err := LoadRootKey(w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.open(root, nil)
	w.checkErased()
}

// EraseEnv makes the test binary a child that erases a store and is killed at a
// step: "directory step".
const EraseEnv = "STORE_TEST_ERASE"

// EraseUntilKilled is the child's part.
func EraseUntilKilled(args string) error {
	var dir, at string
	if n, err := fmt.Sscanf(args, "%s %q", &dir, &at); n != 2 {
		return err
	}
	die := func(step string) error {
		if step == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	key := filepath.Join(dir, "device.key")
	if _, err := os.Stat(filepath.Join(dir, markName)); err == nil {
		_, err := finishErase(dir, key, die)
		return err
	}
	root, err := LoadRootKey(key)
	if err != nil {
		return err
	}
	s, err := Open(dir, root, Options{KeyFile: PlainKeyFile(key), step: die})
	if err != nil {
		return err
	}
	return s.Erase()
}

func (w *eraseWorld) killAt(step string) {
	w.t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), EraseEnv+"="+fmt.Sprintf("%s %q", w.dir, step))
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		w.t.Fatalf("the child was not killed at %q: %v\n%s", step, err, out)
	}
}

// kill -9 at any step of an erasure, and at any step of finishing it.
func TestEraseSurvivesAKill(t *testing.T) {
	t.Parallel()
	for i, at := range eraseSteps {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := newEraseWorld(t, nil)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w.killAt(at)
			if i < slices.Index(eraseSteps, "marked") {
				if done, err := FinishErase(w.dir, w.key); done || err != nil {
					t.Fatalf("FinishErase: %v, %v", done, err)
				}
				w.open(w.root, nil)
				if !w.has() {
					t.Error("the object is gone")
				}
				if err := w.Erase(); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := Open(w.dir, w.root, Options{}); !errors.Is(err, ErrErasing) && !errors.Is(err, ErrRootKey) && !errors.Is(err, ErrFormat) {
				t.Errorf("Open without finishing: %v", err)
			}
			if i < len(eraseSteps)-1 {
				w.killAt(eraseSteps[i+1]) // and once more, while finishing
			}
			w.finish()
		})
	}
}

func TestFinishEraseWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	var during error
	w.opts.step = func(step string) error {
		if step == "replacing the root key" {
			_, during = FinishErase(w.dir, w.key)
		}
		return nil
	}
	if err := w.Erase(); err != nil {
		t.Fatal(err)
	}
	if during == nil {
		t.Error("an erasure was finished while it was under way")
	}
	if err := os.WriteFile(filepath.Join(w.dir, markName), []byte("moongate hsm erasure, version 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := FinishErase(w.dir, w.key); done || err == nil {
		t.Errorf("an unknown mark: %v, %v", done, err)
	}
}
