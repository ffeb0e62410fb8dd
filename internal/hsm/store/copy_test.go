package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// A copy that is made while the store is changed is of one moment: of each
// update all is in it, or nothing.
func TestACopyWhileInUse(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	var wg sync.WaitGroup
	var stop atomic.Bool
	for g := range 4 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				err := s.Update(func(tx *Tx) error {
					return errors.Join(put(fmt.Sprint(g, i, "a"))(tx), put(fmt.Sprint(g, i, "b"))(tx))
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		least := s.Commit()
		var out bytes.Buffer
		if n, err := s.WriteTo(&out); err != nil || n != int64(out.Len()) {
			t.Fatalf("%d bytes, %v", n, err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, FileName), out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		copied, err := Open(dir, RootKey{1}, Options{MustExist: true}) // checks the digests
		if err != nil {
			t.Fatal(err)
		}
		if copied.ID() != s.ID() || copied.Commit() < least {
			t.Errorf("the copy is of commit %d, before %d", copied.Commit(), least)
		}
		err = copied.View(func(tx *Tx) error {
			n := 0
			for _, err := range tx.Records("k") {
				if err != nil {
					return err
				}
				n++
			}
			if n%2 != 0 {
				t.Errorf("%d records: half of an update", n)
			}
			return nil
		})
		if err := errors.Join(err, copied.Close()); err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if _, err := s.WriteTo(brokenWriter{}); !errors.Is(err, errBroken) {
		t.Errorf("a broken writer: %v", err)
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestScratchIsNobodys(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	f, err := s.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(s.dir); err != nil || len(names) != 1 {
		t.Errorf("files: %v, %v", names, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestCommitNumberRises(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	at := s.Commit()
	step := func(what string, by uint64, fn func(*Tx) error) {
		t.Helper()
		err := s.Update(fn)
		if s.Commit() != at+by {
			t.Errorf("%s (%v): commit %d after %d", what, err, s.Commit(), at)
		}
		at = s.Commit()
	}
	step("a record", 1, put("a"))
	step("nothing", 0, func(*Tx) error { return nil })
	step("a failure", 0, func(tx *Tx) error { return errors.Join(put("b")(tx), errors.New("wrong")) })
	step("a deletion", 1, func(tx *Tx) error { return tx.DeleteRecord("k", "a") })
	step("one that does not panic later", 1, put("c"))
	if at != s.commits(t) {
		t.Errorf("commit %d, on disk %d", at, s.commits(t))
	}
}

// An update that waits while the store is erased was asked for on what is gone.
func TestUpdatesThatWaitAreRefused(t *testing.T) {
	t.Parallel()
	w := newEraseWorld(t, nil)
	var wg sync.WaitGroup
	var err error
	w.opts.step = func(step string) error {
		if step == "marking" {
			wg.Go(func() { err = w.Update(put("late")) })
			for w.queued() == 0 {
				runtime.Gosched()
			}
		}
		return nil
	}
	if err := w.Erase(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !errors.Is(err, ErrErased) || w.has1("late") {
		t.Errorf("Update: %v, want ErrErased", err)
	}
}
