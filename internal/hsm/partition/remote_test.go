package partition

import (
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// TestRemoteAdministration is a partition's life from the client's side alone.
func TestRemoteAdministration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	o := w.officer()
	must(t, o.CreatePartition(ctx, "q"))
	must(t, o.AssignPartition(ctx, "c", "q"))
	a, err := w.Attach(ctx, w.fingerprint, home)
	must(t, err)
	s, err := a.OpenSession("q")
	must(t, err)
	must(t, s.InitPartition(ctx, newOp(), poPassword))
	wantCode(t, s.InitPartition(ctx, newOp(), poPassword), object.ErrExists)
	must(t, s.Login(ctx, newOp(), object.RolePartitionOfficer, poPassword))
	must(t, s.SetPolicy(ctx, newOp(), object.PolicyValue{ID: object.PolicyOfficerReset, Value: 1}))
	last := w.lastRecord()
	if last.Kind != audit.Admin || last.Detail != "officer-reset: off to on" || last.Role != "po" || last.Partition != "q" || last.Client != "c" {
		t.Errorf("a policy is recorded as %+v", last)
	}
	must(t, s.InitRole(ctx, newOp(), object.RoleCryptoOfficer, coPassword))
	wantCode(t, s.InitRole(ctx, newOp(), object.RoleCryptoOfficer, coPassword), object.ErrExists)
	must(t, s.ChangePassword(ctx, newOp(), object.RolePartitionOfficer, poPassword, freshPW))
	must(t, s.ResetRole(ctx, newOp(), object.RoleCryptoOfficer, []byte("reset co-password")))
	must(t, s.Logout(ctx, newOp()))
	if s.by.key != nil {
		t.Error("the officer's key is in memory after the logout")
	}

	must(t, s.Login(ctx, newOp(), object.RoleCryptoOfficer, []byte("reset co-password")))
	must(t, s.ChangePassword(ctx, newOp(), object.RoleCryptoOfficer, []byte("reset co-password"), coPassword))
	must(t, s.InitRole(ctx, newOp(), object.RoleCryptoUser, cuPassword))
	wantCode(t, s.InitRole(ctx, newOp(), object.RoleCryptoUser, cuPassword), object.ErrExists)
	must(t, s.ResetRole(ctx, newOp(), object.RoleCryptoUser, freshPW))
	_, id := w.newKey(s)
	user, err := a.OpenSession("q")
	must(t, err)
	must(t, user.Login(ctx, newOp(), object.RoleCryptoUser, freshPW))
	must(t, w.signs(user, id))
	must(t, user.ChangePassword(ctx, newOp(), object.RoleCryptoUser, freshPW, cuPassword))

	status, err := user.Status(ctx, newOp())
	must(t, err)
	if status.Label != "q" || !status.Active || status.Objects != 2 || len(status.Roles) != 3 || len(status.Policies) != len(object.Policies()) {
		t.Errorf("the partition's state is %+v", status)
	}
	for _, r := range status.Roles {
		if !r.Initialized || r.Locked || r.Failures != 0 {
			t.Errorf("a role's state is %+v", r)
		}
	}
	wantCode(t, user.ChangePassword(ctx, newOp(), object.RoleCryptoUser, wrongPassword, freshPW), object.ErrPINIncorrect)
	status, err = user.Status(ctx, newOp())
	must(t, err)
	if status.Roles[1].Failures != 1 {
		t.Errorf("a wrong old password is counted %d times", status.Roles[1].Failures)
	}
	// A partition that has a Crypto Officer is nobody's to take.
	p, err := a.OpenSession("p")
	must(t, err)
	wantCode(t, p.InitPartition(ctx, newOp(), poPassword), object.ErrExists)
}

// TestDroppedSessionRecordsItsLogout, once, and does not wait for a disk.
func TestDroppedSessionRecordsItsLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.session(object.RoleNone).Close()
	if last := w.lastRecord(); last.Action == "logout" {
		t.Errorf("a session without a login recorded %+v", last)
	}
	s := w.session(object.RoleCryptoUser)
	s.Close()
	s.Close()
	records := w.records()
	if last := records[len(records)-1]; last.Action != "logout" || last.Role != "cu" || last.Client != "c" || records[len(records)-2].Action == "logout" {
		t.Errorf("the last record is %+v", last)
	}
	wantCode(t, s.Login(t.Context(), newOp(), object.RoleCryptoUser, cuPassword), object.ErrSessionHandle)
}
