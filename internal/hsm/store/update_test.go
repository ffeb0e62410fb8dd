package store

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"moongate/internal/hsm/object"
)

func openTemp(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), RootKey{1}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *Store) queued() int {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	return len(s.group.queue)
}

// together makes the updates share a transaction: they queue up behind one
// that waits for them.
func together(t *testing.T, s *Store, fns ...func(*Tx) error) []error {
	t.Helper()
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	started, release := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		if err := s.Update(func(*Tx) error { close(started); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-started
	for i, fn := range fns {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("panicked: %v", r)
				}
			}()
			errs[i] = s.Update(fn)
		})
		for s.queued() != i+1 { // in this order
			runtime.Gosched()
		}
	}
	close(release)
	wg.Wait()
	return errs
}

func (s *Store) commits(t *testing.T) (n uint64) {
	t.Helper()
	if err := s.View(func(tx *Tx) error { st, err := tx.loadState(); n = st.number; return err }); err != nil {
		t.Fatal(err)
	}
	return n
}

func put(id string) func(*Tx) error {
	return func(tx *Tx) error { return tx.PutRecord("k", id, []byte("v")) }
}

func (s *Store) has(t *testing.T, id string) bool {
	t.Helper()
	err := s.View(func(tx *Tx) error { _, err := tx.Record("k", id); return err })
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func TestUpdatesShareACommit(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	before := s.commits(t)
	for _, err := range together(t, s, put("a"), put("b"), put("c"), put("d")) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := s.commits(t) - before; n != 1 {
		t.Errorf("4 updates took %d commits", n)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		if !s.has(t, id) {
			t.Errorf("%s is not there", id)
		}
	}
}

func TestOneFailureDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	wrong := errors.New("wrong")
	fails := func(tx *Tx) error { return errors.Join(tx.PutRecord("k", "failed", nil), wrong) }
	panics := func(tx *Tx) error { put("panicked")(tx); panic("at the disco") }
	errs := together(t, s, put("a"), fails, put("b"), panics, put("c"), fails)
	for i, want := range []string{"", "wrong", "", "panicked: at the disco", "", "wrong"} {
		if got := fmt.Sprint(errs[i]); (want == "") != (errs[i] == nil) || !strings.Contains(got, want) {
			t.Errorf("update %d: %v, want %q", i, got, want)
		}
	}
	for id, want := range map[string]bool{"a": true, "b": true, "c": true, "failed": false, "panicked": false} {
		if got := s.has(t, id); got != want {
			t.Errorf("%s is there: %v", id, got)
		}
	}
}

// An update that fails because of another that is then undone is decided on
// what was really committed.
func TestAFailureThatDependsOnAnother(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	p := object.NewID()
	create := func(tx *Tx) error { return tx.CreatePartition(p) }
	createThenFail := func(tx *Tx) error { return errors.Join(tx.CreatePartition(p), errors.New("wrong")) }
	errs := together(t, s, createThenFail, create, create)
	if errs[0] == nil || errs[1] != nil || !errors.Is(errs[2], ErrExists) {
		t.Errorf("updates: %v", errs)
	}
	if err := s.View(func(tx *Tx) error { _, err := tx.Sequence(p); return err }); err != nil {
		t.Error(err)
	}
}

// The same, where the other is undone because it fails when it runs again.
func TestAFailureThatDependsOnAChangeOfMind(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	p := object.NewID()
	runs := 0
	createOnce := func(tx *Tx) error {
		if runs++; runs > 1 {
			return errors.New("the deadline passed")
		}
		return tx.CreatePartition(p)
	}
	errs := together(t, s, createOnce, func(tx *Tx) error { return tx.CreatePartition(p) })
	if errs[0] == nil || errs[1] != nil {
		t.Errorf("updates: %v", errs)
	}
}

func TestAGoroutineThatEndsInAnUpdateDoesNotHoldTheOthers(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Update(func(tx *Tx) error { put("gone")(tx); runtime.Goexit(); return nil })
	})
	wg.Wait()
	if err := s.Update(put("after")); err != nil {
		t.Error(err)
	}
	if s.has(t, "gone") || !s.has(t, "after") {
		t.Error("the wrong one is there")
	}
}

func TestManyUpdatersAtOnce(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	p, key := object.NewID(), NewPartitionKey()
	if err := s.Update(func(tx *Tx) error { return tx.CreatePartition(p) }); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	sequences := map[uint64]bool{}
	for range 16 {
		wg.Go(func() {
			for range 10 {
				o := &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassSecretKey)}
				var seq uint64
				err := s.Update(func(tx *Tx) (err error) { seq, err = tx.PutObject(p, key, o); return err })
				if err == nil {
					err = s.View(func(tx *Tx) error { _, err := tx.Object(p, key, o.ID); return err })
				}
				mu.Lock()
				if err != nil || sequences[seq] || seq != o.Handle {
					t.Errorf("sequence %d, handle %d, %v", seq, o.Handle, err)
				}
				sequences[seq] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(sequences) != 160 {
		t.Errorf("%d sequences", len(sequences))
	}
}

func TestADiskThatRefusesStopsTheStore(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	if err := s.Update(put("before")); err != nil {
		t.Fatal(err)
	}
	s.group.broken = errors.New("input/output error")
	if err := s.Update(put("after")); err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("Update after a failed commit: %v", err)
	} else if told, is := errors.AsType[*object.Error](err); !is || told.Code != object.ErrDeviceError || strings.Contains(told.Detail, "input/output") {
		t.Errorf("clients are told %v", told)
	}
	if !s.has(t, "before") {
		t.Error("reading stopped too")
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(put("x")); err == nil {
		t.Error("Update of a closed store succeeded")
	}
	if err := s.View(func(*Tx) error { return nil }); err == nil {
		t.Error("View of a closed store succeeded")
	}
}

func BenchmarkPutObject(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("goroutines-%d", n), func(b *testing.B) {
			s := openTemp(b)
			p, key := object.NewID(), NewPartitionKey()
			if err := s.Update(func(tx *Tx) error { return tx.CreatePartition(p) }); err != nil {
				b.Fatal(err)
			}
			secret := make([]byte, 1200)
			b.SetParallelism((n + 1) / 2)
			write := func() {
				o := &object.Object{ID: object.NewID(), Attributes: object.Defaults(object.ClassPrivateKey), Secret: secret}
				if err := s.Update(func(tx *Tx) error { _, err := tx.PutObject(p, key, o); return err }); err != nil {
					b.Error(err)
				}
			}
			if n == 1 {
				for b.Loop() {
					write()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					write()
				}
			})
		})
	}
}
