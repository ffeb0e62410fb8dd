package client

import (
	"context"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

// TestAdministration is a partition's life, from its first officer on.
func TestAdministration(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	ctx := t.Context()
	as := func(role Role, password string) *Client {
		config := k.config(t)
		config.Role = role
		config.Password = func() ([]byte, error) { return []byte(password), nil }
		return dial(t, config)
	}

	nobody := as(RoleNone, "")
	if status, err := nobody.PartitionStatus(ctx); err != nil || status.Label != "p1" || len(status.Roles) != 1 || !status.Roles[0].Initialized {
		t.Errorf("PartitionStatus: %+v, %v", status, err)
	}
	if err := nobody.SetPolicy(ctx, PolicyValue{ID: object.PolicyMinRSA, Value: 3072}); CodeOf(err) != ErrNotLoggedIn {
		t.Errorf("SetPolicy without a login: %v", err)
	}
	if err := nobody.InitPartition(ctx, []byte("officer")); err != nil {
		t.Fatal(err)
	}
	if err := nobody.InitPartition(ctx, []byte("second")); CodeOf(err) != ErrExists {
		t.Errorf("a second officer: %v", err)
	}

	officer := as(RolePartitionOfficer, "officer")
	if err := officer.SetPolicy(ctx, PolicyValue{ID: object.PolicyMinRSA, Value: 3072}); err != nil {
		t.Error(err)
	}
	if status, err := officer.PartitionStatus(ctx); err != nil || len(status.Policies) != 1 || status.Policies[0].Value != 3072 {
		t.Errorf("PartitionStatus: %+v, %v", status, err)
	}
	if err := officer.InitRole(ctx, RoleCryptoOfficer, []byte("first")); err != nil {
		t.Error(err)
	}
	k.set(func() { k.locked = true })
	if err := officer.UnlockRole(ctx, RoleCryptoOfficer); err != nil {
		t.Error(err)
	}
	if err := officer.ResetRole(ctx, RoleCryptoOfficer, []byte("reset")); err != nil {
		t.Error(err)
	}
	crypto := as(RoleCryptoOfficer, "reset")
	if err := crypto.ResetRole(ctx, RoleCryptoOfficer, []byte("own")); CodeOf(err) != ErrUserType {
		t.Errorf("a Crypto Officer resets a role: %v", err)
	}
	if err := crypto.ChangePassword(ctx, RoleCryptoOfficer, []byte("wrong"), []byte("x")); CodeOf(err) != ErrPINIncorrect {
		t.Errorf("a wrong old password: %v", err)
	}
	if err := crypto.ChangePassword(ctx, RoleCryptoOfficer, []byte("reset"), []byte("changed")); err != nil {
		t.Error(err)
	}
	if err := crypto.Relogin(ctx, func() ([]byte, error) { return []byte("changed"), nil }); err != nil {
		t.Error(err)
	}
	if err := crypto.Deactivate(ctx); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"InitPartition":  nobody.InitPartition(ctx, nil),
		"InitRole":       officer.InitRole(ctx, RoleCryptoOfficer, make([]byte, 257)),
		"ChangePassword": officer.ChangePassword(ctx, RoleCryptoOfficer, []byte("x"), nil),
	} {
		if CodeOf(err) != ErrPINLength {
			t.Errorf("%s with a password of no good length: %v", name, err)
		}
	}
}

// TestUninitialisedHSM: the client learns it from the answer to Hello, with
// what to do.
func TestUninitialisedHSM(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.attach = object.Errorf(object.ErrNotInitialized, "the HSM was zeroized on Monday")
	k.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := Dial(ctx, k.config(t))
	e, is := err.(*Error)
	if !is || e.Stage != StageRegistered || CodeOf(err) != ErrNotInitialized || !containsOne(err.Error(), "zeroized on Monday") || e.Fix == "" {
		t.Errorf("Dial: %v", err)
	}
}
