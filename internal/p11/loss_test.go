package p11_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/p11"
)

var digest = sha256.Sum256([]byte("a message"))

func sign(ctx context.Context, s server.Session, id object.ID) error {
	_, _, err := s.Sign(ctx, op, id, object.Mechanism{Type: object.MechECDSA}, digest[:])
	return err
}

// TestLostSessions: whatever says that sessions, login or token are gone, the
// token is opened again, and the request is repeated, unseen.
func TestLostSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "key")
	for _, answer := range []p11.CKR{0xb3, 0xb0, 0x101, 0x30, 0x32, 0xe0, 0x190} {
		var once atomic.Bool
		before := w.module.logins.Load()
		w.module.set(func(call string) error {
			if call == "sign" && !once.Swap(true) {
				return answer
			}
			return nil
		})
		if err := sign(within(t, 10*time.Second), s, id); err != nil {
			t.Errorf("after %v: %v", answer, err)
		}
		if logins := w.module.logins.Load() - before; logins != 1 {
			t.Errorf("after %v: %d logins, expected 1", answer, logins)
		}
	}
	// One that is not about sessions is not repeated, and says what it is.
	var calls atomic.Int32
	w.module.set(func(call string) error {
		if call == "sign" {
			calls.Add(1)
			return p11.CKR(0x5)
		}
		return nil
	})
	wantCode(t, "CKR_GENERAL_ERROR", sign(t.Context(), s, id), object.ErrDeviceError)
	if calls.Load() != 1 {
		t.Errorf("%d calls, expected 1", calls.Load())
	}
	w.module.set(nil)
	if err := sign(t.Context(), s, id); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestRealLoss has the sessions closed behind the token's back, by the module
// itself.
func TestRealLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *p11.Options) { o.Probe = time.Hour })
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "key")
	for range 5 {
		if err := sign(t.Context(), s, id); err != nil {
			t.Fatal(err)
		}
		if err := w.module.CloseAllSessions(w.token.Slot().ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := sign(t.Context(), s, id); err != nil {
		t.Error(err)
	}
}

// TestAway: while the token is away requests are refused with the reason, soon;
// when it is back, they are served.
func TestAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "key")
	var away atomic.Bool
	away.Store(true)
	w.module.set(func(call string) error {
		if away.Load() {
			return p11.CKR(0xe0)
		}
		return nil
	})
	// The probe finds it, without any request.
	for w.token.Health().Ready {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	err := sign(t.Context(), s, id)
	wantCode(t, "a token that is away", err, object.ErrBusy)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the refusal took %v", took)
	}
	if status, err := s.Status(t.Context(), op); err != nil || status.Active {
		t.Errorf("the status is %+v, %v", status, err)
	}
	if h := w.token.Health(); h.Cause == "" {
		t.Error("no cause is told")
	}
	away.Store(false)
	for end := time.Now().Add(20 * time.Second); ; {
		err := sign(within(t, 5*time.Second), s, id)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come back: %v", err)
		}
	}
}

// TestGivenUp: a token that stays away, or whose PIN was changed, ends the
// process, with the reason.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *p11.Options) { o.LossLimit = 300 * time.Millisecond })
	w.module.set(func(string) error { return p11.CKR(0xe0) })
	var lost *p11.LostError
	if err := <-w.fatal; !errors.As(err, &lost) {
		t.Errorf("a token that stays away: %v", err)
	}

	w = newWorld(t)
	before := w.module.logins.Load()
	var once atomic.Bool
	w.module.set(func(call string) error {
		switch {
		case call == "session-info" && !once.Swap(true):
			return p11.CKR(0x101)
		case call == "login":
			return p11.CKR(0xa0)
		}
		return nil
	})
	var pin *p11.PINError
	if err := <-w.fatal; !errors.As(err, &pin) {
		t.Errorf("a PIN that was changed: %v", err)
	}
	time.Sleep(300 * time.Millisecond)
	if logins := w.module.logins.Load() - before; logins != 1 {
		t.Errorf("the PIN was sent %d times, expected once", logins)
	}
}

// TestHang: a call that does not come back fails its request at the deadline,
// holds up nobody else, and ends the process after the limit.
func TestHang(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *p11.Options) { o.HangLimit = time.Second })
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "key")
	release := make(chan struct{})
	var once atomic.Bool
	w.module.set(func(call string) error {
		if call == "sign" && !once.Swap(true) {
			<-release
		}
		return nil
	})
	began := time.Now()
	err := sign(within(t, 100*time.Millisecond), s, id)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	if err := sign(t.Context(), s, id); err != nil {
		t.Errorf("another request: %v", err)
	}
	var hung *p11.HungError
	if err := <-w.fatal; !errors.As(err, &hung) || hung.Call != "C_Sign" {
		t.Errorf("after the limit: %v", err)
	}
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("it was given up after %v, expected a second", took)
	}
	close(release)
}

// TestSlowToken: a search that gives up before a large token was read does not
// keep it from being read.
func TestSlowToken(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	store.Generate(t, w.label, "EC:prime256v1", "key", "01")
	w.module.set(func(call string) error {
		if call == "attributes" {
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
	w.start(t)
	s := w.session(t, object.RoleCryptoUser)
	for begin := time.Now(); ; {
		found, _, err := s.Find(within(t, 50*time.Millisecond), op, nil, nil, 0, 10)
		if err == nil {
			if len(found) != 2 {
				t.Errorf("%d objects, expected 2", len(found))
			}
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if time.Since(begin) > time.Minute {
			t.Fatal("the token is never read to its end")
		}
	}
}

// TestFewSessions: a token with three sessions serves many at once.
func TestFewSessions(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.module.set(func(call string) error {
		if call == "open" && w.module.open.Load() >= 4 { // the keeper's and three
			return p11.CKR(0xb1)
		}
		return nil
	})
	w.start(t, func(o *p11.Options) { o.Sessions = 30 })
	s := w.session(t, object.RoleCryptoOfficer)
	w.module.set(nil)
	id := makeEC(t, s, "key")
	w.module.set(func(call string) error {
		if call == "open" && w.module.open.Load() >= 4 {
			return p11.CKR(0xb1)
		}
		return nil
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				if err := sign(t.Context(), s, id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if open := w.module.open.Load(); open > 4 {
		t.Errorf("%d sessions are open, expected 4 at most", open)
	}
}

// TestManyAtOnce signs, searches and makes keys at once while sessions get lost.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "key")
	var n atomic.Int32
	w.module.set(func(call string) error {
		if call == "sign" && n.Add(1)%40 == 0 {
			return p11.CKR(0xb3)
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for range 15 {
				if err := sign(t.Context(), s, id); err != nil && object.CodeOf(err) != object.ErrBusy {
					t.Errorf("signing: %v", err)
				}
				if i == 0 {
					if _, _, err := s.Find(t.Context(), op, nil, nil, 0, 10); err != nil && object.CodeOf(err) != object.ErrBusy {
						t.Errorf("searching: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	w.module.set(nil)
	if err := sign(t.Context(), s, id); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	var token *p11.TokenError
	if _, err := p11.Open(w.options(t, func(o *p11.Options) { o.Token = "none" })); !errors.As(err, &token) {
		t.Errorf("a token that is not there: %v", err)
	}
	if _, err := p11.Open(w.options(t, func(o *p11.Options) { o.Token = "" })); !errors.As(err, &token) {
		t.Errorf("no label, and many tokens: %v", err)
	}
	var pin *p11.PINError
	if _, err := p11.Open(w.options(t, func(o *p11.Options) { o.PIN = nil })); !errors.As(err, &pin) {
		t.Errorf("no PIN: %v", err)
	}
	before := w.module.logins.Load()
	_, err := p11.Open(w.options(t, func(o *p11.Options) { o.PIN = []byte("a wrong pin") }))
	if !errors.As(err, &pin) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if got := w.module.logins.Load() - before; got != 1 {
		t.Errorf("the wrong PIN was sent %d times, expected once", got)
	}
	// By its serial number.
	w.start(t)
	serial := w.token.Slot().Serial
	w.token.Close()
	w.start(t, func(o *p11.Options) { o.Token = serial })
	if got := w.token.Slot().Label; got != w.label {
		t.Errorf("by the serial number %s the token is %q, expected %q", serial, got, w.label)
	}
}
