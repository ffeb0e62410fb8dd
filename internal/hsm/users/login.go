package users

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// refuse says why somebody is not let in. All have one code; the reason is for
// the log alone, since it says more than a stranger may know.
func refuse(reason string) error {
	return fmt.Errorf("%w (%s)", object.Errorf(object.ErrPINIncorrect, "the name, the password or the key is wrong"), reason)
}

// AuthenticatePassword lets the holder of a password in. It returns the account
// as it was before: with the login before this one, and the failures since.
//
// An attempt is counted on disk before the password is looked at. After some
// wrong ones it waits, for as long as ctx lives, or is refused unchecked
// (object.ErrDelayed), by account and address; every other refusal has the
// code object.ErrPINIncorrect, and takes the same work whatever the reason. It
// costs a slow derivation of much memory: let few run at a time.
func (u *Users) AuthenticatePassword(ctx context.Context, name string, pw []byte, from netip.Addr) (Account, error) {
	wait, err := u.delays.Begin(name, from, u.opts.Now())
	if err != nil {
		return Account{}, object.Errorf(object.ErrDelayed, "%v", err)
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Account{}, ctx.Err()
		}
	}
	before, err := u.count(name)
	if err != nil {
		return Account{}, err
	}
	if err := u.verify(before, pw); err != nil {
		return Account{}, err
	}
	fresh, err := u.renew(before.Password, pw)
	if err != nil {
		return Account{}, err
	}
	err = u.updateAccount(name, func(a *account) error {
		if !a.Enabled || a.Password != before.Password {
			return refuse("the account was changed meanwhile")
		}
		a.Password = fresh
		u.loggedIn(a, from)
		return nil
	})
	if err != nil {
		return Account{}, err
	}
	u.delays.Succeed(name, from)
	return before.show(), nil
}

// count counts a wrong password, which the coming one may be, and returns the
// account as it was; nil where there is none.
func (u *Users) count(name string) (*account, error) {
	var before *account
	err := u.update(func(c *contents) error {
		i, found := c.find(name)
		if !found {
			c.Strangers.Failures++
			c.Strangers.LastFailure = u.now()
			return nil
		}
		before = c.Accounts[i]
		a := before.clone()
		a.Failures++
		a.LastFailure = u.now()
		c.Accounts[i] = a
		return nil
	})
	return before, err
}

// verify derives a key from the password in any case, of the account or of
// nobody, before it says no.
func (u *Users) verify(a *account, pw []byte) error {
	v := &verifier{KDF: u.decoy, Derived: make([]byte, maxVerifier)}
	reason := ""
	switch {
	case a == nil:
		reason = "there is no such account"
	case a.Password == nil:
		reason = "the account has no password"
	default:
		if err := u.opts.Policy.CheckKDF(a.Password.KDF); err != nil {
			reason = err.Error()
			break
		}
		v = a.Password
		if !a.Enabled {
			reason = "the account is disabled"
		}
	}
	derived, err := v.KDF.Derive(pw)
	if err != nil {
		return fmt.Errorf("deriving the password: %w", err)
	}
	right := subtle.ConstantTimeCompare(derived[:], v.Derived) == 1
	clear(derived[:])
	switch {
	case reason != "":
		return refuse(reason)
	case !right:
		return refuse("wrong password")
	}
	return nil
}

// renew makes a verifier of today's cost where the old one has another.
func (u *Users) renew(v *verifier, pw []byte) (*verifier, error) {
	today, old := u.opts.NewKDF(u.opts.Policy), v.KDF
	if sameCost(today, old) {
		return v, nil
	}
	return u.verifierOf(pw)
}

func sameCost(a, b mech.KDF) bool {
	return a.Name == b.Name && a.Time == b.Time && a.Memory == b.Memory && a.Threads == b.Threads && a.Iterations == b.Iterations
}

// HasKey reports whether a key would open an account, to whom has not yet
// proved to hold it. Nothing is counted or recorded.
func (u *Users) HasKey(name string, key ssh.PublicKey) bool {
	a, err := u.snapshot().named(name)
	return err == nil && a.Enabled && a.holds(key)
}

// AuthenticateKey lets in who has proved to hold a key. It returns the account
// as AuthenticatePassword does. It is never delayed.
func (u *Users) AuthenticateKey(_ context.Context, name string, key ssh.PublicKey, from netip.Addr) (Account, error) {
	var before *account
	err := u.update(func(c *contents) error {
		i, found := c.find(name)
		switch {
		case !found:
			return refuse("there is no such account")
		case !c.Accounts[i].Enabled:
			return refuse("the account is disabled")
		case !c.Accounts[i].holds(key):
			return refuse("the account does not have this key")
		}
		before = c.Accounts[i]
		a := before.clone()
		u.loggedIn(a, from)
		c.Accounts[i] = a
		return nil
	})
	if err != nil {
		return Account{}, err
	}
	return before.show(), nil
}

func (u *Users) loggedIn(a *account, from netip.Addr) {
	a.Failures, a.LastFailure = 0, time.Time{}
	a.LastLogin, a.LastLoginFrom = u.now(), from.Unmap().WithZone("").String()
}
