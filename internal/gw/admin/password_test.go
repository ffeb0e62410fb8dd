package admin

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"moongate/internal/login"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keysOnly := Account{Name: "keys", Role: SuperReader, PublicKeys: []string{lineOf(newKey(t))}}
	must(t, w.SetAccounts([]Account{w.root, keysOnly}))
	for _, test := range []struct{ name, pw, reason string }{
		{"root", "wrong", "wrong password"},
		{"root", "", "wrong password"},
		{"root", password + " ", "wrong password"},
		{"root", strings.Repeat(password, 100), "wrong password"},
		{"nobody", password, "no such administrator"},
		{"", password, "no such administrator"},
		{strings.Repeat("x", 10_000), password, "no such administrator"},
		{"keys", "", "no password"},
	} {
		_, err := w.Password(t.Context(), somewhere(), test.name, []byte(test.pw))
		r := wantRefused(t, err, test.reason)
		if r.Public() != "the name, the password or the key is wrong" || r.Locks {
			t.Errorf("%.10q is told %q, and locks: %v", test.name, r.Public(), r.Locks)
		}
	}
	id, err := w.Password(t.Context(), here, "root", []byte(password))
	if err != nil || id != (Identity{"root", Superuser}) {
		t.Errorf("came in as %+v, %v", id, err)
	}
	if s := w.Status("root"); s.LastLogin != w.now || s.LastLoginFrom != here.String() {
		t.Errorf("status %+v", s)
	}
}

// TestNobodyUntilAccounts: a guard without a configuration lets nobody in.
func TestNobodyUntilAccounts(t *testing.T) {
	t.Parallel()
	g, err := Open(Options{Dir: filepath.Join(t.TempDir(), "admin")})
	must(t, err)
	for _, name := range []string{"", "admin", "root"} {
		_, err := g.Password(t.Context(), here, name, nil)
		wantRefused(t, err, "no such administrator")
	}
	if _, _, err := g.NewAPIKey("admin"); err == nil {
		t.Error("an API key was made for nobody")
	}
}

func TestLockOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 3, LockoutTime: 10 * time.Minute})
	for i := range 3 {
		_, err := w.Password(t.Context(), somewhere(), "root", []byte("wrong"))
		if r := wantRefused(t, err, "wrong password"); r.Locks != (i == 2) {
			t.Errorf("failure %d locks: %v", i+1, r.Locks)
		}
	}
	// The right password is refused like a wrong one, also after a kill; and
	// trying it makes the lock no longer.
	for range 3 {
		w.reopen()
		_, err := w.Password(t.Context(), somewhere(), "root", []byte(password))
		wantRefused(t, err, "locked")
		if s := w.Status("root"); !s.Locked || s.Everywhere || s.Failures != 3 || !s.Until.Equal(time.Date(2030, 1, 2, 3, 14, 5, 0, time.UTC)) {
			t.Errorf("status %+v", s)
		}
		w.now = w.now.Add(3 * time.Minute)
	}
	w.now = w.now.Add(time.Minute)
	// Then there are as many attempts again.
	for range 2 {
		if w.try("root", "wrong", somewhere()) {
			t.Error("a wrong password came in")
		}
	}
	if !w.try("root", password, somewhere()) {
		t.Error("the lock did not end")
	}
	if s := w.Status("root"); s.Locked || s.Failures != 0 {
		t.Errorf("after a login: %+v", s)
	}
}

func TestLockOutUntilUnlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 2})
	for range 2 {
		w.try("root", "wrong", somewhere())
	}
	w.now = w.now.Add(10_000 * time.Hour)
	if w.try("root", password, somewhere()) {
		t.Error("a lock without an end ended")
	}
	if s := w.Status("root"); !s.Locked || !s.Until.IsZero() {
		t.Errorf("status %+v", s)
	}
	must(t, w.Unlock("root"))
	if !w.try("root", password, somewhere()) {
		t.Error("an unlocked account is locked")
	}
	w.SetPolicy(Policy{})
	for range 30 {
		w.try("root", "wrong", somewhere())
	}
	if !w.try("root", password, somewhere()) {
		t.Error("without a policy an account is locked")
	}
}

// TestAStrangerLocksOutStrangers, and not who comes from where he came from
// lately, nor a key.
func TestAStrangerLocksOutStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey(t)
	w.root.PublicKeys = []string{lineOf(key)}
	w.reopen()
	w.SetPolicy(Policy{FailedAttempts: 3})
	desk, home := somewhere(), somewhere()
	if !w.try("root", password, desk) {
		t.Fatal("no login")
	}
	for range 10 {
		w.try("root", "wrong", somewhere())
	}
	w.reopen()
	if w.try("root", password, home) {
		t.Error("a network that is not the account's own came in")
	}
	if !w.try("root", password, desk) {
		t.Error("a stranger locked the administrator out of his own network")
	}
	// A key comes in from anywhere, and makes that network familiar.
	if id, ok := w.SSHKey(home, "root", key); !ok || id.Role != Superuser {
		t.Errorf("by key: %+v, %v", id, ok)
	}
	if !w.try("root", password, home) {
		t.Error("a network that a key came in from is locked")
	}
	// Failures from there lock it, in turn; and for how long it is familiar.
	for range 3 {
		w.try("root", "wrong", desk)
		w.delays.Forget("root")
	}
	w.reopen() // the password is not remembered any more
	if w.try("root", password, desk) || !w.Status("root").Everywhere {
		t.Errorf("familiar networks are not locked: %+v", w.Status("root"))
	}
	must(t, w.Unlock("root"))
	w.now = w.now.Add(familiarFor + time.Second)
	for range 3 {
		w.try("root", "wrong", somewhere())
	}
	if w.try("root", password, desk) {
		t.Error("a network is familiar for ever")
	}
}

// TestFailuresFade: wrong passwords of other days do not add up.
func TestFailuresFade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 2})
	for range 5 {
		w.try("root", "wrong", somewhere())
		w.now = w.now.Add(failureCounts + time.Second)
	}
	if !w.try("root", password, somewhere()) {
		t.Error("one wrong password a day locks an account")
	}
}

// TestAtTheSameTime: however many guess at once, no more are looked at than
// lock the account.
func TestAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 5})
	var wg sync.WaitGroup
	var looked, locked, busy atomic.Int32
	for range 40 {
		wg.Go(func() {
			_, err := w.Password(t.Context(), somewhere(), "root", []byte("wrong"))
			var r *Refused
			switch {
			case errors.Is(err, ErrBusy):
				busy.Add(1)
			case !errors.As(err, &r):
				t.Errorf("refused by %v", err)
			case strings.Contains(r.Reason, "locked"):
				locked.Add(1)
			default:
				looked.Add(1)
			}
		})
	}
	wg.Wait()
	if looked.Load() != 5 || locked.Load() != 35 || busy.Load() != 0 {
		t.Errorf("%d were looked at, %d met a lock, %d too many others", looked.Load(), locked.Load(), busy.Load())
	}
}

// TestSameWork: a refusal writes as much for an account, for none and for one
// that is locked.
func TestSameWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 2})
	path := filepath.Join(w.dir, "logins.json")
	for i, name := range []string{"root", "nobody", "root", "root", "nobody"} {
		before, _ := os.Stat(path)
		w.try(name, "wrong", somewhere())
		after, err := os.Stat(path)
		must(t, err)
		if before != nil && os.SameFile(before, after) {
			t.Errorf("attempt %d, of %s, wrote nothing", i+1, name)
		}
	}
	if h := w.decoy; h.kdf.Cost != mustHash(t, w.root.PasswordHash).kdf.Cost {
		t.Error("nobody's password costs something else than an account's")
	}
	if w.fits(nil, []byte(password)) || w.fits(nil, nil) {
		t.Error("nobody has a password")
	}
}

func mustHash(t *testing.T, text string) hash {
	t.Helper()
	h, err := parseHash(text)
	must(t, err)
	return h
}

func TestDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Guard.opts.Now = time.Now // the bubble's
		attempt := func(pw string, from netip.Addr) (time.Duration, error) {
			start := time.Now()
			_, err := w.Password(t.Context(), from, "root", []byte(pw))
			return time.Since(start), err
		}
		for i, want := range []time.Duration{0, 0, 0, 1, 2, 4} {
			waited, err := attempt("wrong", here)
			wantRefused(t, err, "wrong password")
			if waited != want*time.Second {
				t.Errorf("attempt %d waited %v, want %v s", i+1, waited, want)
			}
		}
		var delayed *login.DelayedError
		if waited, err := attempt(password, here); !errors.As(err, &delayed) || waited != 0 {
			t.Errorf("after six: %v after %v", err, waited)
		}
		if s := w.Status("root"); s.Failures != 6 {
			t.Errorf("a refusal unchecked was counted: %+v", s)
		}
		if waited, err := attempt(password, somewhere()); err != nil || waited != 0 {
			t.Errorf("from elsewhere: %v after %v", err, waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.Sleep(4 * time.Second)
		if _, err := w.Password(ctx, here, "root", []byte("wrong")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait whose caller is gone: %v", err)
		}
	})
}

// TestLineIsBounded: two run, others wait, one network has four places, and who
// does not want to wait any longer gives his up.
func TestLineIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLine()
		var leaves []func()
		for range checksAtATime {
			leave, err := l.enter(t.Context(), here)
			must(t, err)
			leaves = append(leaves, leave)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var entered, gone atomic.Int32
		for range maxOfOneSource - checksAtATime {
			go func() {
				if _, err := l.enter(ctx, here); err != nil {
					gone.Add(1)
				}
			}()
		}
		synctest.Wait()
		if _, err := l.enter(t.Context(), here); !errors.Is(err, ErrBusy) {
			t.Errorf("a fifth of one network: %v", err)
		}
		for range maxWaiting - maxOfOneSource {
			go func() {
				leave, err := l.enter(t.Context(), somewhere())
				if err != nil {
					t.Error(err)
					return
				}
				entered.Add(1)
				leave()
			}()
		}
		synctest.Wait()
		if _, err := l.enter(t.Context(), somewhere()); !errors.Is(err, ErrBusy) || entered.Load() != 0 {
			t.Errorf("with all places taken: %v, %d have entered", err, entered.Load())
		}
		cancel()
		synctest.Wait()
		for _, leave := range leaves {
			leave()
		}
		synctest.Wait()
		if entered.Load() != maxWaiting-maxOfOneSource || gone.Load() != maxOfOneSource-checksAtATime || l.waiting != 0 || len(l.bySource) != 0 {
			t.Errorf("%d entered, %d went, %d are still there, of %d networks", entered.Load(), gone.Load(), l.waiting, len(l.bySource))
		}
	})
}

// TestRecent: a program that sends its password with each request costs one
// derivation in five minutes.
func TestRecent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "logins.json")
	written := func(name, pw string, from netip.Addr) (wrote, in bool) {
		before, _ := os.Stat(path)
		in = w.try(name, pw, from)
		after, err := os.Stat(path)
		must(t, err)
		return before == nil || !os.SameFile(before, after), in
	}
	if wrote, in := written("root", password, here); !wrote || !in {
		t.Errorf("first: %v, %v", wrote, in)
	}
	if wrote, in := written("root", password, here); wrote || !in {
		t.Errorf("again: %v, %v", wrote, in)
	}
	if wrote, in := written("root", password+"x", here); !wrote || in {
		t.Errorf("a wrong one: %v, %v", wrote, in)
	}
	w.now = w.now.Add(recentFor + time.Second)
	if wrote, in := written("root", password, here); !wrote || !in {
		t.Errorf("later: %v, %v", wrote, in)
	}
	// Another password, or no account, ends it at once.
	w.root.PasswordHash = hashOf(t, "another password")
	must(t, w.SetAccounts([]Account{w.root}))
	if _, in := written("root", password, somewhere()); in {
		t.Error("the old password comes in")
	}
	must(t, w.SetAccounts(nil))
	if _, in := written("root", "another password", somewhere()); in {
		t.Error("an account that is gone comes in")
	}
}

// TestRecentIsNoWayAroundALock.
func TestRecentIsNoWayAroundALock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.SetPolicy(Policy{FailedAttempts: 2})
	if !w.try("root", password, here) {
		t.Fatal("no login")
	}
	for range 2 {
		w.try("root", "wrong", somewhere())
	}
	if w.try("root", password, somewhere()) {
		t.Error("a stranger came in while the account was locked for strangers")
	}
}
