package admin

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

// Refused is the refusal of a login. All of a password's take the same work,
// whatever the reason, which says more than a stranger may know.
type Refused struct {
	// Reason is for the log alone.
	Reason string
	// Locks: with this failure the account is locked, where the attempt came
	// from.
	Locks bool
}

// Error is for the log alone; a peer is shown Public.
func (r *Refused) Error() string { return r.Public() + " (" + r.Reason + ")" }

// Public is what a peer may be told.
func (r *Refused) Public() string { return "the name, the password or the key is wrong" }

func refuse(reason string) error { return &Refused{Reason: reason} }

// Password lets the holder of a password in. After some wrong ones an attempt
// waits, for as long as ctx lives, or is refused unchecked by a
// *login.DelayedError, by account and network; too many attempts at a time are
// refused by ErrBusy. Every other refusal is a *Refused, after one durable write
// and one derivation of some 64 MiB, whatever the reason.
func (g *Guard) Password(ctx context.Context, from netip.Addr, name string, password []byte) (Identity, error) {
	a, policy := g.account(name)
	if a != nil && a.hash != nil && g.seen(a, policy, from, password) {
		return a.identity(), nil
	}
	wait, err := g.delays.Begin(name, from, g.opts.Now())
	if err != nil {
		return Identity{}, err
	}
	if err := sleep(ctx, wait); err != nil {
		return Identity{}, err
	}
	leave, err := g.line.enter(ctx, from)
	if err != nil {
		return Identity{}, err
	}
	defer leave()
	locked, locks, err := g.logins.begin(name, a != nil, from, policy, g.now())
	if err != nil {
		return Identity{}, err
	}
	right := g.fits(a, password)
	switch {
	case a == nil:
		return Identity{}, refuse("there is no such administrator")
	case locked:
		return Identity{}, refuse("the account is locked after wrong passwords")
	case a.hash == nil:
		return Identity{}, &Refused{"the account has no password", locks}
	case !right:
		return Identity{}, &Refused{"wrong password", locks}
	}
	// The password may have been changed while it was being looked at.
	now, _ := g.account(name)
	if now == nil || now.PasswordHash != a.PasswordHash {
		return Identity{}, refuse("the account was changed meanwhile")
	}
	if err := g.logins.succeed(name, from, g.now()); err != nil {
		return Identity{}, err
	}
	g.delays.Succeed(name, from)
	g.recent.add(name, a.PasswordHash, password, g.opts.Now())
	return now.identity(), nil
}

// fits derives in any case, for an account or for nobody.
func (g *Guard) fits(a *account, password []byte) bool {
	h := g.decoy
	if a != nil && a.hash != nil {
		h = *a.hash
	}
	long := len(password) > MaxPassword
	if long {
		password = password[:MaxPassword]
	}
	return h.fits(password) && !long
}

// seen reports whether the account came in by this very password a moment ago,
// so that a program that sends it with each request does not ask for a
// derivation each time. An account that is locked for this network is not let in
// by it either.
func (g *Guard) seen(a *account, p Policy, from netip.Addr, password []byte) bool {
	if len(password) > MaxPassword || !g.recent.has(a.Name, a.PasswordHash, password, g.opts.Now()) {
		return false
	}
	_, locked := g.lockedFor(a.Name, p, from)
	return !locked
}

func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Offered reports whether an SSH key would let an account in, to whom has not
// yet proved to hold it. Nothing is counted.
func (g *Guard) Offered(name string, key ssh.PublicKey) bool {
	a, _ := g.account(name)
	return a != nil && a.holds(key)
}

// SSHKey lets in who has proved to hold a key. It is never delayed, and no lock
// is in its way: those are for passwords, which can be guessed.
func (g *Guard) SSHKey(from netip.Addr, name string, key ssh.PublicKey) (Identity, bool) {
	a, _ := g.account(name)
	if a == nil || !a.holds(key) {
		return Identity{}, false
	}
	// A disk that is full keeps nobody out who could make room.
	_ = g.logins.enter(name, from, g.now())
	return a.identity(), true
}

// Status is what may be shown of an account's logins.
type Status struct {
	LastLogin     time.Time // zero: never
	LastLoginFrom string
	// Failures are the wrong passwords since the last login, from anywhere.
	Failures int
	// Locked says that some networks are refused: Everywhere, also those that
	// the account came in from lately. Until is zero for until Unlock.
	Locked, Everywhere bool
	Until              time.Time
}

// Status returns what may be shown of an account's logins.
func (g *Guard) Status(name string) Status {
	_, p := g.account(name)
	now := g.now()
	e := g.logins.get(name)
	s := Status{LastLogin: e.Last, LastLoginFrom: e.From, Failures: e.Familiar.Count + e.Strange.Count}
	strange, isStrange := e.Strange.locks(p, now)
	familiar, isFamiliar := e.Familiar.locks(p, now)
	s.Locked, s.Everywhere = isStrange || isFamiliar, isFamiliar && isStrange
	if isFamiliar {
		s.Until = familiar
	}
	if isStrange && strange.After(s.Until) {
		s.Until = strange
	}
	return s
}

func (g *Guard) lockedFor(name string, p Policy, from netip.Addr) (time.Time, bool) {
	e, now := g.logins.get(name), g.now()
	return e.failures(networkOf(from), now).locks(p, now)
}

// Unlock forgets the wrong passwords for an account, and the delays that
// followed.
func (g *Guard) Unlock(name string) error {
	err := g.logins.unlock(name)
	if err == nil {
		g.delays.Forget(name)
	}
	return err
}
