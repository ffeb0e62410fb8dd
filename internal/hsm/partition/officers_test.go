package partition

import (
	"strings"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

var (
	poPassword = []byte("po-password")
	auPassword = []byte("au-password")
	freshPW    = []byte("a fresh password")
)

// partitionOfficer logs in as p's Partition Security Officer.
func (w *world) partitionOfficer() *PartitionOfficer {
	w.t.Helper()
	po, err := w.AuthenticatePartitionOfficer(w.t.Context(), operator, "p", poPassword)
	must(w.t, err)
	return po
}

// newOwned is a world whose partition q has a Partition Security Officer with
// officer-reset on, and nothing else; it is assigned to the client too.
func newOwned(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	ctx := t.Context()
	o := w.officer()
	must(t, o.CreatePartition(ctx, "q"))
	must(t, o.InitPartition(ctx, "q", poPassword))
	must(t, o.AssignPartition(ctx, "c", "q"))
	must(t, w.ownerOf("q").SetPolicy(ctx, object.PolicyValue{ID: object.PolicyOfficerReset, Value: 1}))
	return w
}

func (w *world) ownerOf(name string) *PartitionOfficer {
	w.t.Helper()
	po, err := w.AuthenticatePartitionOfficer(w.t.Context(), operator, name, poPassword)
	must(w.t, err)
	return po
}

// on opens a session on a partition and logs in.
func (w *world) on(name string, role object.Role, pw []byte) (*Session, error) {
	w.t.Helper()
	a, err := w.Attach(w.t.Context(), w.fingerprint, home)
	must(w.t, err)
	s, err := a.OpenSession(name)
	must(w.t, err)
	return s, s.Login(w.t.Context(), newOp(), role, pw)
}

func (w *world) signs(s *Session, id object.ID) error {
	_, err := recorded(s).Sign(w.t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	return err
}

// TestPartitionOfficerTakesOver: until there is one the HSM's Security Officer
// stands in, also with what it held before.
func TestPartitionOfficerTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	o := w.officer()
	standIn, err := o.Partition("p")
	must(t, err)
	must(t, standIn.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyUserSigns, Value: 0}))
	wantCode(t, standIn.ChangePassword(ctx, freshPW), object.ErrUserType)
	wantCode(t, standIn.UnlockRole(ctx, object.RolePartitionOfficer), object.ErrPINNotInitialized)
	must(t, o.InitPartition(ctx, "p", poPassword))
	wantCode(t, o.InitPartition(ctx, "p", poPassword), object.ErrExists)
	_, err = o.Partition("p")
	wantCode(t, err, object.ErrUserType)
	for name, act := range map[string]func() error{
		"a policy": func() error {
			return standIn.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyUserSigns, Value: 1})
		},
		"an unlocking":        func() error { return standIn.UnlockRole(ctx, object.RoleCryptoOfficer) },
		"an officer's unlock": func() error { return o.UnlockRole(ctx, "p", object.RoleCryptoOfficer) },
		"a recreation":        func() error { return standIn.Recreate(ctx, freshPW) },
		"a reset":             func() error { return standIn.ResetRole(ctx, object.RoleCryptoOfficer, freshPW) },
		"a first officer":     func() error { return o.InitCryptoOfficer(ctx, "p", freshPW) },
	} {
		if got := object.CodeOf(act()); got != object.ErrUserType {
			t.Errorf("%s by the Security Officer: %v", name, got)
		}
	}
	w.session(object.RoleCryptoOfficer) // nothing of it was done
	must(t, w.partitionOfficer().SetPolicy(ctx, object.PolicyValue{ID: object.PolicyUserSigns, Value: 1}))
	must(t, o.DeletePartition(ctx, "p"))
}

// TestPartitionOfficerIsLockedAndUnlocked by the HSM's Security Officer, who
// learns nothing by it.
func TestPartitionOfficerIsLockedAndUnlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.officer().InitPartition(ctx, "p", poPassword))
	po := w.partitionOfficer()
	for range maxFailures {
		wantCode(t, w.fail(object.RolePartitionOfficer), object.ErrPINIncorrect)
	}
	_, err := w.AuthenticatePartitionOfficer(ctx, operator, "p", poPassword)
	wantCode(t, err, object.ErrPINLocked)
	wantCode(t, po.UnlockRole(ctx, object.RolePartitionOfficer), object.ErrUserType)
	must(t, w.officer().UnlockRole(ctx, "p", object.RolePartitionOfficer))
	w.partitionOfficer()
}

// TestPasswordOfPartitionOfficer: who logged in with the old one is refused, its
// changer is not, and the escrow opens with the new one.
func TestPasswordOfPartitionOfficer(t *testing.T) {
	t.Parallel()
	w := newOwned(t)
	ctx := t.Context()
	po, old := w.ownerOf("q"), w.ownerOf("q")
	must(t, po.InitCryptoOfficer(ctx, coPassword))
	wantCode(t, po.ChangePassword(ctx, []byte("short")), object.ErrPINLength)
	must(t, po.ChangePassword(ctx, freshPW))
	wantCode(t, old.ResetRole(ctx, object.RoleCryptoOfficer, freshPW), object.ErrNotLoggedIn)
	must(t, po.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyActivation, Value: 1}))
	_, err := w.AuthenticatePartitionOfficer(ctx, operator, "q", poPassword)
	wantCode(t, err, object.ErrPINIncorrect)
	w.restart()
	po, err = w.AuthenticatePartitionOfficer(ctx, operator, "q", freshPW)
	must(t, err)
	must(t, po.ResetRole(ctx, object.RoleCryptoOfficer, freshPW))
	_, err = w.on("q", object.RoleCryptoOfficer, freshPW)
	must(t, err)
	po.Close()
	wantCode(t, po.ResetRole(ctx, object.RoleCryptoOfficer, freshPW), object.ErrNotLoggedIn)
}

// TestEscrowFollowsThePolicy: it is made with the Crypto Officer, only while
// the policy is on, deleted when that is turned off, and cannot come later.
func TestEscrowFollowsThePolicy(t *testing.T) {
	t.Parallel()
	w := newOwned(t)
	ctx := t.Context()
	escrowed := func() bool {
		t.Helper()
		p, err := w.find("q")
		must(t, err)
		var found bool
		must(t, w.store.View(func(tx *store.Tx) error {
			r, err := loadPartition(tx, p.id)
			if err == nil {
				found = r.Escrow != nil
			}
			return err
		}))
		return found
	}
	po := w.ownerOf("q")
	wantCode(t, po.ResetRole(ctx, object.RoleCryptoOfficer, freshPW), object.ErrPINNotInitialized)
	must(t, po.InitCryptoOfficer(ctx, coPassword))
	if !escrowed() {
		t.Error("no escrow was made")
	}
	off, on := object.PolicyValue{ID: object.PolicyOfficerReset}, object.PolicyValue{ID: object.PolicyOfficerReset, Value: 1}
	must(t, po.SetPolicy(ctx, on)) // it is
	must(t, po.SetPolicy(ctx, off))
	if escrowed() {
		t.Error("the escrow outlived its policy")
	}
	wantCode(t, po.SetPolicy(ctx, on), object.ErrPolicy)
	wantCode(t, po.ResetRole(ctx, object.RoleCryptoOfficer, freshPW), object.ErrPolicy)
	must(t, po.Recreate(ctx, coPassword))
	if escrowed() {
		t.Error("a recreation without the policy made an escrow")
	}
	standIn, err := w.officer().Partition("p")
	must(t, err)
	wantCode(t, standIn.SetPolicy(ctx, on), object.ErrPolicy)
}

// TestRecreate: objects and passwords go, label, clients, policies and the
// Partition Security Officer stay, and sessions of before are good for nothing.
func TestRecreate(t *testing.T) {
	t.Parallel()
	w := newOwned(t)
	ctx := t.Context()
	po := w.ownerOf("q")
	must(t, po.InitCryptoOfficer(ctx, coPassword))
	must(t, po.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyMinEC, Value: 256}))
	s, err := w.on("q", object.RoleCryptoOfficer, coPassword)
	must(t, err)
	must(t, s.InitRole(ctx, newOp(), object.RoleCryptoUser, cuPassword))
	_, id := w.newKey(s)
	key, was := s.p.key, s.Info()
	ended := 0
	w.OnDisconnect(func(string) { ended++ })
	wantCode(t, po.Recreate(ctx, []byte("short")), object.ErrPINLength)
	must(t, po.Recreate(ctx, freshPW))
	if ended != 1 || *key != (store.PartitionKey{}) {
		t.Errorf("connections were ended %d times, and the key is wiped: %v", ended, *key == store.PartitionKey{})
	}
	wantCode(t, w.signs(s, id), object.ErrObjectNotFound)
	_, _, err = s.Generate(ctx, newOp(), ec, p256, nil)
	wantCode(t, err, object.ErrObjectNotFound)
	wantCode(t, s.InitRole(ctx, newOp(), object.RoleCryptoUser, cuPassword), object.ErrObjectNotFound)
	for range 2 {
		_, err = w.on("q", object.RoleCryptoOfficer, coPassword)
		wantCode(t, err, object.ErrPINIncorrect)
		_, err = w.on("q", object.RoleCryptoUser, cuPassword)
		wantCode(t, err, object.ErrPINNotInitialized)
		fresh, err := w.on("q", object.RoleCryptoOfficer, freshPW)
		must(t, err)
		if fresh.Info() != was {
			t.Errorf("the partition is %+v, was %+v", fresh.Info(), was)
		}
		found, _, err := fresh.Find(ctx, newOp(), nil, nil, 0, 10)
		must(t, err)
		if len(found) > 0 {
			t.Errorf("%d objects are left", len(found))
		}
		wantCode(t, w.signs(fresh, id), object.ErrObjectNotFound)
		w.restart()
	}
	must(t, w.ownerOf("q").ResetRole(ctx, object.RoleCryptoOfficer, coPassword)) // a new escrow
	s, err = w.on("q", object.RoleCryptoOfficer, coPassword)
	must(t, err)
	w.newKey(s)
}

// TestAuditor: only the one that there is acts, and what it does is recorded
// before and after.
func TestAuditor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	_, err := w.AuthenticateAuditor(ctx, operator, auPassword)
	wantCode(t, err, object.ErrPINNotInitialized)
	o := w.officer()
	must(t, o.InitAuditor(ctx, auPassword))
	au, err := w.AuthenticateAuditor(ctx, operator, auPassword)
	must(t, err)
	done := 0
	must(t, au.Act(ctx, "audit.strict", "on", func() error { done++; return nil }))
	records := w.records()
	for i, want := range []string{audit.OK, intent} {
		if r := records[len(records)-1-i]; r.Action != "audit.strict" || r.Outcome != want || r.Detail != "on" {
			t.Errorf("the act is recorded as %+v", r)
		}
	}
	must(t, au.ChangePassword(ctx, freshPW))
	must(t, au.Act(ctx, "audit.strict", "off", func() error { done++; return nil }))
	for range maxFailures {
		w.clock.advance(maxDelay)
		_, err := w.AuthenticateAuditor(ctx, operator, auPassword)
		wantCode(t, err, object.ErrPINIncorrect)
	}
	w.restart()
	_, err = w.AuthenticateAuditor(ctx, operator, freshPW)
	wantCode(t, err, object.ErrPINLocked)
	must(t, w.officer().InitAuditor(ctx, auPassword))
	fresh, err := w.AuthenticateAuditor(ctx, operator, auPassword)
	must(t, err)
	stale := &Auditor{h: w.HSM, who: operator, epoch: fresh.epoch, id: au.id}
	wantCode(t, stale.Act(ctx, "audit.strict", "on", func() error { done++; return nil }), object.ErrNotLoggedIn)
	wantCode(t, stale.ChangePassword(ctx, freshPW), object.ErrNotLoggedIn)
	if done != 2 {
		t.Errorf("%d acts were done, want 2", done)
	}
}

// TestRegistrarNeedsNoOfficerUnlessForced, from one act to the next.
func TestRegistrarNeedsNoOfficerUnlessForced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	r := w.Registrar(operator)
	must(t, r.RevokePartition(ctx, "c", "p"))
	must(t, w.officer().SetForceLogin(ctx, true))
	wantCode(t, r.AssignPartition(ctx, "c", "p"), object.ErrNotLoggedIn)
	w.restart()
	err := w.Registrar(operator).AssignPartition(ctx, "c", "p")
	wantCode(t, err, object.ErrNotLoggedIn)
	if err == nil || !strings.Contains(err.Error(), "sysconf forceSOLogin disable") {
		t.Errorf("the refusal does not name the fix: %v", err)
	}
	must(t, w.officer().AssignPartition(ctx, "c", "p"))
	must(t, w.officer().SetForceLogin(ctx, false))
	must(t, w.Registrar(operator).RevokePartition(ctx, "c", "p"))
}

// TestContentsAreALogin that ends with the list.
func TestContentsAreALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	w.newKey(s)
	s.Close()
	list, err := w.Contents(t.Context(), operator, "p", object.RoleCryptoUser, cuPassword)
	must(t, err)
	if len(list) != 2 || s.p.active() {
		t.Errorf("%d objects are listed, and the partition is unlocked: %v", len(list), s.p.active())
	}
	_, err = w.Contents(t.Context(), operator, "p", object.RoleCryptoUser, wrongPassword)
	wantCode(t, err, object.ErrPINIncorrect)
	_, err = w.Contents(t.Context(), operator, "p", object.RolePartitionOfficer, poPassword)
	wantCode(t, err, object.ErrUserType)
}

// TestActivationEndsWithItsPolicy, and with Deactivate.
func TestActivationEndsWithItsPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	standIn, err := w.officer().Partition("p")
	must(t, err)
	unlocked := func(want bool) {
		t.Helper()
		p, err := w.Partition("p")
		must(t, err)
		if p.Active != want {
			t.Errorf("the partition is unlocked: %v, want %v", p.Active, want)
		}
	}
	must(t, standIn.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyActivation, Value: 1}))
	w.session(object.RoleCryptoUser).Close()
	unlocked(true)
	must(t, standIn.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyActivation, Value: 0}))
	unlocked(false)
	must(t, standIn.SetPolicy(ctx, object.PolicyValue{ID: object.PolicyActivation, Value: 1}))
	w.session(object.RoleCryptoUser).Close()
	must(t, w.Deactivate(ctx, operator, "p"))
	unlocked(false)
	w.session(object.RoleCryptoUser).Close()
	unlocked(true)
	w.restart()
	unlocked(false)
	w.session(object.RoleCryptoUser).Close()
	must(t, w.HSM.Zeroize(ctx, operator))
}

// TestPoliciesAreBounded: only what there is, and only its values.
func TestPoliciesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	standIn, err := w.officer().Partition("p")
	must(t, err)
	for _, v := range []object.PolicyValue{{ID: 0, Value: 1}, {ID: 99, Value: 1}, {ID: object.PolicyUserSigns, Value: 2}, {ID: object.PolicyMinRSA, Value: 1024}} {
		wantCode(t, standIn.SetPolicy(t.Context(), v), object.ErrArgumentsBad)
	}
}
