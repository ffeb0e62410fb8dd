package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// TestActivation: with the policy the last logout keeps the partition unlocked
// until it is dismissed; without it, it does not.
func TestActivation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	p := s.p
	_, id := w.newKey(s)
	must(t, s.Logout(t.Context(), newOp()))
	if p.active() {
		t.Error("unlocked after the last logout, without the policy")
	}
	w.set(object.PolicyActivation, 1)
	s = w.session(object.RoleCryptoOfficer)
	key, e := p.key, p.objects[id]
	must(t, s.Logout(t.Context(), newOp()))
	if !p.active() || p.objects[id] != e {
		t.Error("locked by the last logout, against the policy")
	}
	_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
	wantCode(t, err, object.ErrNotLoggedIn) // unlocked is not logged in
	s = w.session(object.RoleCryptoUser)
	if p.objects[id] != e {
		t.Error("the login read everything again")
	}
	_, err = recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)

	// Dismissed with a session logged in, it is locked by the last logout.
	if p.dismiss() {
		t.Error("a session that is logged in was locked out")
	}
	other := w.session(object.RoleCryptoOfficer)
	must(t, s.Logout(t.Context(), newOp()))
	if !p.active() {
		t.Error("locked while somebody is logged in")
	}
	must(t, other.Logout(t.Context(), newOp()))
	if p.active() || *key != [32]byte{} {
		t.Error("the partition's key was not wiped")
	}

	// Dismissed with nobody logged in, it is locked at once; the policy holds
	// from the next login on.
	w.session(object.RoleCryptoUser).Close()
	key = p.key
	if !p.dismiss() || p.active() || *key != [32]byte{} {
		t.Error("not locked at once")
	}
	w.session(object.RoleCryptoUser).Close()
	if !p.active() {
		t.Error("the policy is forgotten after it was dismissed once")
	}

	// Deletion wipes what activation keeps.
	key = p.key
	must(t, w.officer().DeletePartition(t.Context(), "p"))
	if p.active() || *key != [32]byte{} {
		t.Error("a deleted partition's key was not wiped")
	}
}

// TestEverythingAtOnce: sessions that use, change, destroy, search, log in and
// out while the partition is unlocked and dismissed. What is refused is refused
// for a reason, the counters are exact, and memory agrees with the store.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	setup := w.session(object.RoleCryptoOfficer)
	_, steady := w.newKey(setup)
	var group sync.WaitGroup
	var signed atomic.Uint64
	work := func(rounds int, f func(round int) error, allowed ...object.Code) {
		group.Go(func() {
			for round := range rounds {
				err := f(round)
				if code := object.CodeOf(err); err != nil && !slices.Contains(allowed, code) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	session := func(role object.Role) *Session {
		a, err := w.Attach(ctx, w.fingerprint, home)
		if err != nil {
			t.Error(err)
		}
		s, err := a.OpenSession("p")
		if err != nil {
			t.Error(err)
		}
		return s
	}
	passwords := map[object.Role][]byte{object.RoleCryptoOfficer: coPassword, object.RoleCryptoUser: cuPassword}
	for _, role := range []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser} {
		// Users come and go; each signs while it is logged in.
		work(8, func(int) error {
			s := session(role)
			defer s.Close()
			if err := s.Login(ctx, newOp(), role, passwords[role]); err != nil {
				return err
			}
			for range 5 {
				if _, err := recorded(s).Sign(ctx, newOp(), steady, ecdsa256, make([]byte, 32)); err != nil {
					return err
				}
				signed.Add(1)
			}
			return s.Logout(ctx, newOp())
		})
	}
	ids := make(chan object.ID, 64)
	work(30, func(int) error {
		_, id, err := setup.Generate(ctx, newOp(), ec, p256, object.New(object.Text(object.AttrLabel, "passing")))
		ids <- id
		return err
	})
	for range 2 {
		work(15, func(round int) error {
			id := <-ids
			if _, err := recorded(setup).Sign(ctx, newOp(), id, ecdsa256, make([]byte, 32)); err != nil {
				return err
			}
			if err := setup.SetAttributes(ctx, newOp(), id, object.New(object.Text(object.AttrLabel, fmt.Sprint(round)))); err != nil {
				return err
			}
			var both sync.WaitGroup // one of the two destroys it
			var destroyed atomic.Int32
			for range 2 {
				both.Go(func() {
					if err := setup.Destroy(ctx, newOp(), id); err == nil {
						destroyed.Add(1)
					} else if object.CodeOf(err) != object.ErrObjectNotFound {
						t.Error(err)
					}
				})
			}
			// And one uses it meanwhile, or finds it gone.
			_, err := recorded(setup).Sign(ctx, newOp(), id, ecdsa256, make([]byte, 32))
			both.Wait()
			if n := destroyed.Load(); n != 1 {
				t.Errorf("one object was destroyed %d times", n)
			}
			return err
		}, object.ErrObjectNotFound)
	}
	work(100, func(int) error {
		_, _, err := setup.Find(ctx, newOp(), object.New(object.Text(object.AttrLabel, "passing")), nil, 0, 10)
		return err
	})
	work(50, func(int) error { return w.saveUses() })
	work(50, func(round int) error {
		w.set(object.PolicyActivation, uint64(round%2))
		setup.p.dismiss()
		return nil
	})
	group.Wait()
	if t.Failed() {
		return
	}
	if got := w.uses(setup, steady); got != signed.Load() {
		t.Errorf("%d uses are counted, %d signatures were made", got, signed.Load())
	}
	inMemory := len(setup.p.objects)
	setup.Close()
	w.restart()
	s := w.session(object.RoleCryptoOfficer)
	if n := len(s.p.objects); n != inMemory || n != 32 { // the first pair, and thirty public halves
		t.Errorf("%d objects in memory, %d in the store, want 32", inMemory, n)
	}
	if got := w.uses(s, steady); got != signed.Load() {
		t.Errorf("%d uses after a restart, %d signatures were made", got, signed.Load())
	}
}

// TestLockedInTheMiddle: a partition that is taken away while its sessions work
// refuses them and leaves nothing half done.
func TestLockedInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				_, err := recorded(s).Sign(context.Background(), newOp(), id, ecdsa256, make([]byte, 32))
				if err == nil {
					_, _, err = s.Generate(context.Background(), newOp(), ec, p256, nil)
				}
				switch object.CodeOf(err) {
				case object.OK:
				case object.ErrNotLoggedIn, object.ErrObjectNotFound:
					return
				default:
					t.Errorf("after the partition was taken away: %v", err)
					return
				}
			}
		})
	}
	s.p.deactivate(true)
	group.Wait()
	if s.p.active() || s.p.objects != nil || s.p.bytes != 0 {
		t.Error("something is left in memory")
	}
	if err := s.p.activate(w.HSM, new(store.PartitionKey)); object.CodeOf(err) != object.ErrObjectNotFound {
		t.Errorf("a partition that is gone was unlocked: %v", err)
	}
}

// TestNothingIsShownInALockedPartition: one that was taken away between a
// change's commit and its showing stays empty.
func TestNothingIsShownInALockedPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.session(object.RoleCryptoOfficer).p
	shown := false
	must(t, p.commit(w.HSM, func() error { return nil }, func(*store.Tx, *store.PartitionKey) error {
		p.deactivate(true)
		return nil
	}, func() { shown = true }))
	if shown {
		t.Error("a change was shown in a partition that is locked")
	}
}

// TestOneKeyAtATime: a partition that is unlocked is not unlocked with another
// key; one that only activation keeps is read anew.
func TestOneKeyAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(object.PolicyActivation, 1)
	s := w.session(object.RoleCryptoOfficer)
	w.newKey(s)
	stranger := func() error {
		key := new([32]byte)
		key[0] = 1
		return s.p.activate(w.HSM, (*store.PartitionKey)(key))
	}
	if err := stranger(); err == nil {
		t.Error("unlocked with another key while somebody is logged in")
	}
	if s.p.logins != 1 {
		t.Errorf("%d logins, want 1", s.p.logins)
	}
	s.Close()
	if err := stranger(); err == nil || errors.Is(err, context.Canceled) {
		t.Error("objects were opened with another key")
	}
	if s.p.active() {
		t.Error("the partition is unlocked after it could not be read")
	}
	w.session(object.RoleCryptoOfficer)
}
