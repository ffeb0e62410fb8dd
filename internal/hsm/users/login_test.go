package users

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

func TestPasswordLogin(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	must(t, u.Add("keysonly", RoleOperator))
	must(t, u.Add("off", RoleOperator))
	must(t, u.SetPassword("off", []byte(password)))
	must(t, u.Disable("off"))
	for i, test := range []struct{ name, pw, reason string }{
		{"root", "wrong", "wrong password"},
		{"root", "", "wrong password"},
		{"root", password + " ", "wrong password"},
		{"nobody", password, "no such account"},
		{"", password, "no such account"},
		{strings.Repeat("x", 10_000), password, "no such account"},
		{"keysonly", "", "no password"},
		{"keysonly", string(make([]byte, 32)), "no password"},
		{"off", password, "disabled"},
	} {
		_, err := logIn(t, u, test.name, test.pw, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
		wantCode(t, err, object.ErrPINIncorrect)
		if !strings.Contains(err.Error(), "the name, the password or the key is wrong") || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%.10q: %v, want the reason %q", test.name, err, test.reason)
		}
	}
	again := reopen(t, u)
	if got := again.state.Strangers.Failures; got != 3 {
		t.Errorf("%d failures for no account are on disk, want 3", got)
	}
	before, err := logIn(t, again, "root", password, here)
	must(t, err)
	if before.Failures != 3 || before.LastFailure.IsZero() || !before.LastLogin.IsZero() {
		t.Errorf("the first login found %+v", before)
	}
	before, err = logIn(t, again, "root", password, there)
	must(t, err)
	if before.Failures != 0 || before.LastLoginFrom != "192.0.2.1" || time.Since(before.LastLogin) > time.Minute {
		t.Errorf("the second login found %+v", before)
	}
	must(t, again.ClearPassword("root"))
	_, err = logIn(t, again, "root", password, there)
	wantCode(t, err, object.ErrPINIncorrect)
}

// TestAnAttemptIsCountedFirst: a kill between the count and the check gives no
// guess for free.
func TestAnAttemptIsCountedFirst(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	plain := &Users{path: u.path, opts: Options{NewKDF: quickKDF}}
	u.opts.NewKDF = func(mech.Policy) mech.KDF {
		// Asked for after the password was found right: the crash comes here.
		if got := reopen(t, plain).List()[0].Failures; got != 1 {
			t.Errorf("%d failures are on disk while the password is being looked at, want 1", got)
		}
		return mech.KDF{}
	}
	if _, err := logIn(t, u, "root", password, here); err == nil {
		t.Error("the crash did not come")
	}
}

// TestUnknownNamesTakeTheSameWork: a refusal costs one derivation of the same
// parameters and one write, whoever is named.
func TestUnknownNamesTakeTheSameWork(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	must(t, u.Add("keysonly", RoleOperator))
	took := func(name string) time.Duration {
		least := time.Hour
		for i := range 5 {
			start := time.Now()
			_, err := logIn(t, u, name, "wrong password", netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			wantCode(t, err, object.ErrPINIncorrect)
			least = min(least, time.Since(start))
		}
		return least
	}
	known, unknown, keys := took("root"), took("nobody"), took("keysonly")
	for _, other := range []time.Duration{unknown, keys} {
		if other < known/3 || other > known*3 {
			t.Errorf("refusing took %v for an account, %v for none, %v for one without password", known, unknown, keys)
		}
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUsers1(t)
		attempt := func(name, pw string, from netip.Addr) (time.Duration, error) {
			start := time.Now()
			_, err := logIn(t, u, name, pw, from)
			return time.Since(start), err
		}
		// Two are free; each further one waits twice as long.
		for i, want := range []time.Duration{0, 0, 0, 1, 2, 4} {
			waited, err := attempt("root", "wrong", here)
			wantCode(t, err, object.ErrPINIncorrect)
			if waited != want*time.Second {
				t.Errorf("attempt %d waited %v, want %v s", i+1, waited, want)
			}
		}
		// Who would have to wait long is told, and nothing is checked.
		waited, err := attempt("root", password, here)
		if object.CodeOf(err) != object.ErrDelayed || waited != 0 || !strings.Contains(err.Error(), "wait 8s") {
			t.Errorf("after six: %v after %v", err, waited)
		}
		if a, err := u.Get("root"); err != nil || a.Failures != 6 {
			t.Errorf("failures: %+v, %v", a, err)
		}
		// The account is not locked: others come in, from elsewhere and by name.
		for _, from := range []netip.Addr{there, netip.MustParseAddr("2001:db8::1")} {
			if waited, err := attempt("root", password, from); err != nil || waited != 0 {
				t.Errorf("from %v: %v after %v", from, err, waited)
			}
		}
		// ... and the right password does, after the wait.
		time.Sleep(5 * time.Second)
		if waited, err := attempt("root", password, here); err != nil || waited != 3*time.Second {
			t.Errorf("the right password: %v after %v", err, waited)
		}
		if waited, err := attempt("root", password, here); err != nil || waited != 0 {
			t.Errorf("after a login: %v after %v", err, waited)
		}
	})
}

// TestDelaysOfAnAddress: trying many names from one address is slow, too.
func TestDelaysOfAnAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUsers1(t)
		// Every address of a /64 is one guesser's.
		for i := range 14 {
			from := netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i))
			_, err := logIn(t, u, fmt.Sprintf("name%d", i), "wrong", from)
			wantCode(t, err, object.ErrPINIncorrect)
		}
		_, err := logIn(t, u, "root", password, netip.MustParseAddr("2001:db8::99"))
		wantCode(t, err, object.ErrDelayed)
		if _, err := logIn(t, u, "root", password, netip.MustParseAddr("2001:db8:0:1::1")); err != nil {
			t.Errorf("from another network: %v", err)
		}
	})
}

func TestUnlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUsers1(t)
		for range 6 {
			_, err := logIn(t, u, "root", "wrong", here)
			wantCode(t, err, object.ErrPINIncorrect)
		}
		_, err := logIn(t, u, "root", password, here)
		wantCode(t, err, object.ErrDelayed)
		must(t, u.Unlock("root"))
		start := time.Now()
		before, err := logIn(t, u, "root", password, here)
		if err != nil || before.Failures != 0 || time.Since(start) != 0 {
			t.Errorf("after unlock: %+v, %v, after %v", before, err, time.Since(start))
		}
	})
}

// TestWaitingEnds with its context.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUsers1(t)
		for range 4 {
			_, err := logIn(t, u, "root", "wrong", here)
			wantCode(t, err, object.ErrPINIncorrect)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := u.AuthenticatePassword(ctx, "root", []byte(password), here); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait whose caller is gone: %v", err)
		}
	})
}

// TestVerifiersAreRenewed at the next login, when a derivation costs more or
// the mode asks for another.
func TestVerifiersAreRenewed(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	u.opts.NewKDF = func(p mech.Policy) mech.KDF {
		kdf := quickKDF(p)
		if !p.FIPS {
			kdf.Time = 2
		}
		return kdf
	}
	for range 2 {
		_, err := logIn(t, u, "root", password, here)
		must(t, err)
		if got := reopen(t, u).state.Accounts[0].Password.KDF.Time; got != 2 {
			t.Errorf("the password is kept at time %d, want 2", got)
		}
	}
	// In FIPS mode Argon2id opens nothing, and a new password is kept by PBKDF2.
	u.opts.Policy.FIPS = true
	u.decoy = u.opts.NewKDF(u.opts.Policy)
	_, err := logIn(t, u, "root", password, here)
	wantCode(t, err, object.ErrPINIncorrect)
	must(t, u.SetPassword("root", []byte(password)))
	_, err = logIn(t, u, "root", password, here)
	must(t, err)
	if got := reopen(t, u).state.Accounts[0].Password.KDF.Name; got != mech.KDFPBKDF2 {
		t.Errorf("in FIPS mode the password is kept by %s", got)
	}
}
