package partition

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// client registers one more client for p and attaches it.
func (w *world) client(name string) *Attachment {
	w.t.Helper()
	ctx := w.t.Context()
	cert, fingerprint := newCertificate(w.t)
	o := w.officer()
	must(w.t, o.RegisterClient(ctx, Registration{Name: name, Address: home.Addr().String(), Certificate: cert}))
	must(w.t, o.AssignPartition(ctx, name, "p"))
	a, err := w.Attach(ctx, fingerprint, home)
	must(w.t, err)
	return a
}

// login tries to log in on a session of its own, which stays open.
func (w *world) login(a *Attachment, role object.Role, pw []byte) error {
	w.t.Helper()
	s, err := a.OpenSession("p")
	must(w.t, err)
	return s.Login(w.t.Context(), newOp(), role, pw)
}

func (w *world) failures(role object.Role) int {
	w.t.Helper()
	p, err := w.Partition("p")
	must(w.t, err)
	for _, r := range p.Roles {
		if r.Role == role.String() {
			return r.Failures
		}
	}
	w.t.Fatalf("no role %v", role)
	return 0
}

// TestGuessingGetsSlower: a client waits after its third wrong password, an
// attempt meanwhile is not counted, and another client does not wait.
func TestGuessingGetsSlower(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.client("a"), w.client("b")
	for range freeFailures {
		wantCode(t, w.login(a, object.RoleCryptoUser, wrongPassword), object.ErrPINIncorrect)
	}
	for n, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		for range 3 {
			err := w.login(a, object.RoleCryptoUser, cuPassword)
			wantCode(t, err, object.ErrDelayed)
			if err == nil || !strings.Contains(err.Error(), wait.String()) {
				t.Errorf("the refusal does not say %v: %v", wait, err)
			}
		}
		if got := w.failures(object.RoleCryptoUser); got != freeFailures+n {
			t.Errorf("%d wrong passwords are counted, want %d", got, freeFailures+n)
		}
		w.clock.advance(wait - time.Millisecond)
		wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrDelayed)
		w.clock.advance(time.Millisecond)
		wantCode(t, w.login(a, object.RoleCryptoUser, wrongPassword), object.ErrPINIncorrect)
	}
	must(t, w.login(a, object.RoleCryptoOfficer, coPassword)) // another role
	must(t, w.login(b, object.RoleCryptoUser, cuPassword))    // another client
	wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrDelayed)
	w.clock.advance(maxDelay)
	must(t, w.login(a, object.RoleCryptoUser, cuPassword))
	wantCode(t, w.login(a, object.RoleCryptoUser, wrongPassword), object.ErrPINIncorrect) // from the beginning
	must(t, w.login(a, object.RoleCryptoUser, cuPassword))
}

func TestDelayHasABound(t *testing.T) {
	t.Parallel()
	var a attempts
	now := time.Now()
	e := a.enter(attemptKey{who: "c", role: object.RoleCryptoUser}, now)
	for range 100 {
		a.settle(e, now, errPassword)
	}
	if err := a.delayed(e, object.RoleCryptoUser, now.Add(maxDelay)); err != nil {
		t.Errorf("after %v: %v", maxDelay, err)
	}
	if a.delayed(e, object.RoleCryptoUser, now.Add(maxDelay-time.Second)) == nil {
		t.Errorf("a hundred wrong passwords cost less than %v", maxDelay)
	}
}

// TestEntriesOfAttemptsAreForgotten: those of callers that succeeded at once,
// those of others when they are old.
func TestEntriesOfAttemptsAreForgotten(t *testing.T) {
	t.Parallel()
	var a attempts
	now := time.Now()
	key := attemptKey{who: "c", role: object.RoleCryptoUser}
	e := a.enter(key, now)
	a.settle(e, now, nil)
	a.leave(key, e)
	if len(a.by) != 0 {
		t.Errorf("%d entries after a right password", len(a.by))
	}
	for i := range 2 * keptAttempts {
		key := attemptKey{who: string(rune(i)), role: object.RoleCryptoUser}
		e := a.enter(key, now)
		a.settle(e, now, errPassword)
		a.leave(key, e)
	}
	a.enter(key, now.Add(2*maxDelay))
	if len(a.by) != 1 {
		t.Errorf("%d entries long after, want 1", len(a.by))
	}
}

// TestManyAtOnceAreOneByOne: a client that sends twenty wrong passwords at the
// same time uses up no more attempts than one that waits for each answer.
func TestManyAtOnceAreOneByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client("a")
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { w.login(a, object.RoleCryptoOfficer, wrongPassword) })
	}
	group.Wait()
	if got := w.failures(object.RoleCryptoOfficer); got != freeFailures {
		t.Errorf("%d wrong passwords are counted, want %d", got, freeFailures)
	}
}

// TestDelayedAttemptsDoNotFillTheLog: each is refused; one is recorded for each
// wrong password.
func TestDelayedAttemptsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client("a")
	for range freeFailures {
		wantCode(t, w.login(a, object.RoleCryptoUser, wrongPassword), object.ErrPINIncorrect)
	}
	s, err := a.OpenSession("p")
	must(t, err)
	before := len(w.records())
	for range 10 {
		wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrDelayed)
		wantCode(t, s.ChangePassword(t.Context(), newOp(), object.RoleCryptoUser, cuPassword, []byte("a new password")), object.ErrDelayed)
	}
	if got := len(w.records()) - before; got != 1 {
		t.Errorf("20 refusals left %d records, want 1", got)
	}
	if last := w.lastRecord(); last.Kind != audit.Login || last.Outcome != object.ErrDelayed.String() {
		t.Errorf("the last record is %+v", last)
	}
}

// TestFloodHoldsUpOnePlace: while one client floods one role, another client's
// login to that role and one to another partition wait for one check or two and
// not for the flood.
func TestFloodHoldsUpOnePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := make(chan struct{})
	var running, most int
	var mu sync.Mutex
	gate, other := newGate(), newGate()
	check := func() error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-slow
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}
	var group sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	flood := attemptKey{who: "flood", role: object.RoleCryptoUser}
	for range 50 {
		group.Go(func() { w.attempt(ctx, flood, gate, check) })
	}
	slow <- struct{}{} // the flood is under way, one check after the other
	// In the same role's queue stands one of the flood at most, and the caller
	// is next after it; in another role's nobody.
	same, elsewhere := make(chan error, 1), make(chan error, 1)
	go func() {
		same <- w.attempt(ctx, attemptKey{who: "b", role: object.RoleCryptoUser}, gate, func() error { return nil })
	}()
	go func() {
		elsewhere <- w.attempt(ctx, attemptKey{who: "b", role: object.RoleCryptoOfficer}, other, func() error { return nil })
	}()
	must(t, <-elsewhere)
	waiting := func() bool {
		w.attempts.mu.Lock()
		defer w.attempts.mu.Unlock()
		return w.attempts.by[attemptKey{who: "b", role: object.RoleCryptoUser}] != nil
	}
	for len(same) == 0 && !waiting() { // it may be served already
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // from its entry to the gate's queue
	served := 0
	for done := false; !done; {
		select {
		case err := <-same:
			must(t, err)
			done = true
		case slow <- struct{}{}:
			served++
		}
	}
	if served > 5 {
		t.Errorf("%d checks of the flood were served before the other client's", served)
	}
	cancel()
	close(slow)
	group.Wait()
	if most > 1 {
		t.Errorf("%d checks of one role ran at a time", most)
	}
}

// TestDerivationsAreBounded over all roles.
func TestDerivationsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			w.attempt(t.Context(), attemptKey{who: string(rune('a' + i)), role: object.RoleCryptoUser}, newGate(), func() error {
				entered <- struct{}{}
				<-leave
				return nil
			})
		})
	}
	for range parallelDerivations {
		<-entered
	}
	select {
	case <-entered:
		t.Errorf("more than %d passwords are derived at a time", parallelDerivations)
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	group.Wait()
}

// TestWhoGaveUpWhileWaitingIsNotCounted: the queue is no attempt.
func TestWhoGaveUpWhileWaitingIsNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.find("p")
	must(t, err)
	must(t, p.gates[object.RoleCryptoUser].Acquire(t.Context(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		s := w.session(object.RoleNone)
		ended <- s.Login(ctx, newOp(), object.RoleCryptoUser, wrongPassword)
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a login that was given up: %v", err)
	}
	p.gates[object.RoleCryptoUser].Release(1)
	if got := w.failures(object.RoleCryptoUser); got != 0 {
		t.Errorf("%d wrong passwords are counted, want 0", got)
	}
}

// disable makes a role's password underivable, so that only what derives
// nothing still logs in.
func (w *world) disable(role object.Role) {
	w.t.Helper()
	p, err := w.find("p")
	must(w.t, err)
	must(w.t, w.updatePartition(p, func(_ *store.Tx, r *partitionRecord) error {
		r.Roles[role.String()].Password.KDF.Name = "unknown"
		return nil
	}))
}

// TestSecondLoginOfAConnectionDerivesNothing, and a wrong one goes the slow
// way, which counts.
func TestSecondLoginOfAConnectionDerivesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.client("a"), w.client("b")
	must(t, w.login(a, object.RoleCryptoUser, cuPassword))
	w.disable(object.RoleCryptoUser)
	for range 3 {
		must(t, w.login(a, object.RoleCryptoUser, cuPassword))
	}
	wantCode(t, w.login(b, object.RoleCryptoUser, cuPassword), object.ErrDataInvalid)
	before := w.failures(object.RoleCryptoUser)
	wantCode(t, w.login(a, object.RoleCryptoUser, wrongPassword), object.ErrDataInvalid)
	if got := w.failures(object.RoleCryptoUser); got != before+1 {
		t.Errorf("a wrong password of a connection that knows the right one counts %d, want 1", got-before)
	}
	a.Close()
	wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrDataInvalid)
}

// TestKnownLoginEndsWithItsPassword: after a change of the password, a lock, or
// when the partition's key is not in memory.
func TestKnownLoginEndsWithItsPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client("a")
	must(t, w.login(a, object.RoleCryptoUser, cuPassword))
	for range maxFailures {
		wantCode(t, w.fail(object.RoleCryptoUser), object.ErrPINIncorrect)
	}
	wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrPINLocked)
	must(t, w.officer().UnlockRole(t.Context(), "p", object.RoleCryptoUser))
	must(t, w.login(a, object.RoleCryptoUser, cuPassword))
	must(t, w.InitCryptoUser(t.Context(), operator, "p", coPassword, []byte("another cu-password")))
	wantCode(t, w.login(a, object.RoleCryptoUser, cuPassword), object.ErrPINIncorrect)

	c := w.client("c2")
	s, err := c.OpenSession("p")
	must(t, err)
	must(t, s.Login(t.Context(), newOp(), object.RoleCryptoOfficer, coPassword))
	p, err := w.find("p")
	must(t, err)
	for p.active() {
		p.deactivate(false) // everybody logs out
	}
	w.disable(object.RoleCryptoOfficer)
	wantCode(t, w.login(c, object.RoleCryptoOfficer, coPassword), object.ErrDataInvalid)
}

// TestOldDerivationsAreRenewed: every verifier carries its derivation, and the
// next right login makes it anew by that of today.
func TestOldDerivationsAreRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.officer()
	must(t, o.InitAuditor(t.Context(), []byte("au-password")))
	must(t, o.InitPartition(t.Context(), "p", []byte("po-password")))
	w.newKDF = func(p mech.Policy) mech.KDF {
		kdf := quickKDF(p)
		kdf.Time = 2
		return kdf
	}
	login := func() {
		t.Helper()
		w.officer()
		_, err := w.AuthenticateAuditor(t.Context(), operator, []byte("au-password"))
		must(t, err)
		_, err = w.AuthenticatePartitionOfficer(t.Context(), operator, "p", []byte("po-password"))
		must(t, err)
		for _, role := range []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser} {
			w.session(role)
		}
	}
	login()
	must(t, w.store.View(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		p, err := loadPartition(tx, *firstID(w))
		if err != nil {
			return err
		}
		kdfs := map[string]mech.KDF{"so": record.Officer.KDF, "au": record.Auditor.Password.KDF}
		for name, r := range p.Roles {
			kdfs[name] = r.Password.KDF
		}
		for name, kdf := range kdfs {
			if kdf.Time != 2 {
				t.Errorf("%s is derived as before", name)
			}
		}
		if len(kdfs) != 5 {
			t.Errorf("%d roles were looked at, want 5", len(kdfs))
		}
		return nil
	}))
	login()
}

func firstID(w *world) *object.ID {
	for id := range w.partitions {
		return &id
	}
	return nil
}
