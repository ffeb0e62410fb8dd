package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/hsm/wire"
)

// TestWithoutWaiting: who has another HSM to ask learns at once that this one
// is away, and whether the call went out.
func TestWithoutWaiting(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	config := k.config(t)
	config.MaxBackoff = time.Hour // no connection comes back by itself
	c := dial(t, config)
	key := newECKey(t, c, "web")
	now := WithoutWaiting(t.Context())
	if _, err := c.Random(now, 1); err != nil {
		t.Fatal(err)
	}
	stop()
	for c.Status().Connected {
		time.Sleep(time.Millisecond)
	}
	digest := make([]byte, 32)
	_, random := c.Random(now, 1)
	_, generate := c.GenerateAES(now, 32, nil)
	_, signing := key.WithContext(now).Sign(nil, digest, crypto.SHA256)
	for what, err := range map[string]error{"Random": random, "GenerateAES": generate, "Sign": signing, "Ready": c.Ready(now)} {
		if !Unavailable(err) || !NotSent(err) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not connected") {
			t.Errorf("%s: %v", what, err)
		}
	}

	// The same by the configuration, before the first connection.
	config.NoWait = true
	fresh, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	if _, err := fresh.GenerateAES(t.Context(), 32, nil); !Unavailable(err) || !NotSent(err) {
		t.Errorf("GenerateAES: %v", err)
	}
	fresh.Close()
	if _, err := fresh.Random(t.Context(), 1); !errors.Is(err, ErrClosed) || !NotSent(err) {
		t.Errorf("after Close: %v", err)
	}

	// Whoever waits in vain has sent nothing either.
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Random(short, 1); !Unavailable(err) || !NotSent(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Random: %v", err)
	}
}

func TestWithoutWaitingNothingIsRepeated(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	c := dial(t, config)
	var times atomic.Int64
	k.set(func() { k.before = func(string) error { times.Add(1); cut(); return nil } })
	now := WithoutWaiting(t.Context())
	if _, err := c.Random(now, 1); !Unavailable(err) || NotSent(err) {
		t.Errorf("Random: %v", err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := c.GenerateAES(now, 32, nil)
	if _, unknown := errors.AsType[*OutcomeUnknownError](err); !unknown || !Unavailable(err) || NotSent(err) {
		t.Errorf("GenerateAES: %v", err)
	}
	if n := times.Load(); n != 2 {
		t.Errorf("the HSM was asked %d times, want 2", n)
	}
}

// TestRefusedPasswordIsNotSent: calls of a client that must be told a password
// first are safe to make elsewhere.
func TestRefusedPasswordIsNotSent(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.Password = func() ([]byte, error) { return []byte("wrong"), nil }
	c, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ready(t.Context()); CodeOf(err) != ErrPINIncorrect || !NotSent(err) {
		t.Errorf("Ready: %v", err)
	}
	if _, err := c.GenerateAES(t.Context(), 32, nil); CodeOf(err) != ErrPINIncorrect || !NotSent(err) {
		t.Errorf("GenerateAES: %v", err)
	}
}

// TestWhatTheWriterHasNotTakenIsNotSent: of two requests on a link that breaks,
// the one that waits behind the other never left us.
func TestWhatTheWriterHasNotTakenIsNotSent(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe() // nobody reads: the first write does not end
	defer theirs.Close()
	l := newLink(ours, wire.NewReader(ours, wire.MaxFrame), wire.HelloAnswer{MaxFrame: wire.MaxFrame, MaxInFlight: 128})
	if n, since := l.owed(); n != 0 || !since.IsZero() {
		t.Errorf("a link owes %d answers since %v before it is used", n, since)
	}
	began := time.Now()
	var calls sync.WaitGroup
	send := func() <-chan error {
		result := make(chan error, 1)
		calls.Go(func() {
			p := newPatience(t.Context(), testPatience)
			defer p.release()
			_, err := l.roundTrip(p, wire.OpPing, OperationID{}, empty)
			result <- err
		})
		return result
	}
	until := func(what string, true func() bool) {
		t.Helper()
		for end := time.Now().Add(testPatience); !true(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	taken := func() uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.taken }
	first := send()
	until("the writer takes nothing", func() bool { return taken() == 1 })
	second := send()
	until("the second request does not come", func() bool { n, _ := l.owed(); return n == 2 })
	if n, since := l.owed(); n != 2 || since.Before(began) || since.After(time.Now()) {
		t.Errorf("the link owes %d answers since %v", n, since)
	}
	l.close(errors.New("cut"))
	if err := <-first; !errors.Is(err, errLost) || errors.Is(err, errNotSent) {
		t.Errorf("the first: %v", err)
	}
	if err := <-second; !errors.Is(err, errNotSent) || errors.Is(err, errLost) {
		t.Errorf("the second: %v", err)
	}
	calls.Wait()
}

// TestStatusShowsWhatIsOwed: a link that is silent while it owes answers is
// seen, and the end of an outage and each failed attempt is told.
func TestStatusShowsWhatIsOwed(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	c := dial(t, k.config(t))
	if s := c.Status(); s.InFlight != 0 || !s.Silent.IsZero() || s.Protocol != wire.Version || s.Software != "token" || s.Attempts != 0 {
		t.Errorf("status %+v", s)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	k.set(func() { k.before = func(string) error { inside <- struct{}{}; <-release; return nil } })
	began := time.Now()
	result := make(chan error, 1)
	go func() { _, err := c.Random(t.Context(), 1); result <- err }()
	<-inside
	if s := c.Status(); s.InFlight != 1 || s.Silent.Before(began) {
		t.Errorf("status %+v", s)
	}
	began = time.Now()
	if err := c.Ping(t.Context()); err != nil { // is answered, however busy the HSM
		t.Fatal(err)
	}
	if s := c.Status(); s.InFlight != 1 || s.Silent.Before(began) {
		t.Errorf("after an answer: status %+v", s)
	}
	close(release)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); s.InFlight != 0 || !s.Silent.IsZero() {
		t.Errorf("at the end: status %+v", s)
	}

	stop()
	for attempts := 0; attempts < 2; {
		s, changed := c.Watch()
		if s.Attempts > 0 && s.Connected {
			t.Errorf("status %+v", s)
		}
		if attempts = s.Attempts; attempts < 2 {
			<-changed
		}
	}
	k.set(func() { k.before = nil })
	k.run(t)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := c.Status(); !s.Connected || s.Attempts != 0 {
		t.Errorf("status %+v", s)
	}
}

// TestResetOfASilentConnection: the keep-alive that waits for its answer keeps
// nobody from having the connection made anew.
func TestResetOfASilentConnection(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.KeepAlive = 200 * time.Millisecond
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.Address = listener.Addr().String()
	var mute atomic.Bool
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", k.address)
			if err != nil {
				in.Close()
				return
			}
			quiet := mute.Load // of the first connection alone
			if mute.Load() {
				quiet = func() bool { return false }
			}
			relays.Go(func() { relay(in, out, func() bool { return false }) })
			relays.Go(func() { relay(out, in, quiet) })
		}
	})
	c := dial(t, config)
	t.Cleanup(func() { listener.Close(); c.Close(); relays.Wait() })
	mute.Store(true)
	for c.Status().Silent.IsZero() && c.Status().Connected {
		time.Sleep(time.Millisecond)
	}
	if err := c.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Random(WithoutWaiting(t.Context()), 1); err != nil {
		t.Errorf("Random: %v", err)
	}
}

// TestRenewalOfOurCertificate: the client shows its new certificate, and the
// former one until the HSM knows the new.
func TestRenewalOfOurCertificate(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	config := k.config(t)
	former, fresh := config.Certificate, k.config(t).Certificate
	var attached []string
	known := Fingerprint(former.Certificate[0])
	k.set(func() {
		k.admit = func(p server.Peer) error {
			if p.Fingerprint.String() != known {
				return object.Errorf(ErrNotRegistered, "")
			}
			attached = append(attached, p.Fingerprint.String())
			return nil
		}
	})
	config.Certificate, config.FormerCertificate = fresh, former
	c := dial(t, config)
	if _, err := c.Random(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	results, err := Verify(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.OK || r.Stage == StageRegistered && !strings.Contains(r.Detail, "our former certificate") {
			t.Errorf("Verify: %+v", r)
		}
	}

	k.set(func() { known = Fingerprint(fresh.Certificate[0]) })
	stop() // every connection ends, as when a registration is replaced
	k.run(t)
	if _, err := c.Random(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	k.set(func() {
		if last := attached[len(attached)-1]; attached[0] != Fingerprint(former.Certificate[0]) || last != known {
			t.Errorf("attached were %v", attached)
		}
		known = "neither"
	})
	if err := c.Reset(t.Context()); CodeOf(err) != ErrNotRegistered {
		t.Errorf("Reset: %v", err)
	}

	config.FormerCertificate = tls.Certificate{Certificate: former.Certificate}
	if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "former certificate has no key") {
		t.Errorf("Open: %v", err)
	}
}

// TestRenewalOfTheHSMsCertificate: a client that pins the old certificate and
// the new one stays while the HSM changes from one to the other.
func TestRenewalOfTheHSMsCertificate(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	next := newToken(t).certificate
	config := k.config(t)
	config.ServerCertificates = mustCertificates(t, k.certificate, next)
	both := dial(t, config)
	config.ServerCertificates = config.ServerCertificates[:1]
	one := dial(t, config)
	stop()
	k.options.Certificate = next
	k.run(t)
	if _, err := both.Random(t.Context(), 1); err != nil {
		t.Errorf("with both pins: %v", err)
	}
	if err := one.Reset(t.Context()); err == nil {
		t.Error("a certificate that is not pinned is taken")
	} else if pin, is := errors.AsType[*PinError](err); !is || pin.Seen != Fingerprint(next.Certificate[0]) {
		t.Errorf("with the old pin: %v", err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.Version = wire.Version
	if s := dial(t, config).Status(); s.Protocol != wire.Version {
		t.Errorf("protocol %d", s.Protocol)
	}
	config.Version = wire.Version + 1
	if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "protocol version 2; this program speaks version 1 alone") {
		t.Errorf("Open: %v", err)
	}
}

// TestPingIsAnsweredWhenTheLinkIsFull: who asks whether the HSM is there does
// not wait behind requests, and those who ask at once share one question.
// Signatures do not wait behind searches, which take turns.
func TestPingIsAnsweredWhenTheLinkIsFull(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	c := dial(t, config)
	key := newECKey(t, c, "web")
	release := make(chan struct{})
	var searches, signs atomic.Bool
	searches.Store(true)
	k.set(func() {
		k.before = func(op string) error {
			if op == "Find" && searches.Load() || op == "Sign" && signs.Load() {
				<-release
			}
			return nil
		}
	})
	var calls sync.WaitGroup
	end := sync.OnceFunc(func() { close(release); calls.Wait() })
	defer end()
	wait := func(inFlight int) {
		t.Helper()
		for end := time.Now().Add(testPatience); c.Status().InFlight != inFlight; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d requests are in flight, want %d", c.Status().InFlight, inFlight)
			}
		}
	}
	ping := func() {
		t.Helper()
		var pings sync.WaitGroup
		for range 20 {
			pings.Go(func() {
				if err := c.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		pings.Wait()
	}

	link := c.ready.Load()
	for range 10 {
		calls.Go(func() {
			if _, err := c.Find(t.Context(), nil, AttrLabel); err != nil {
				t.Error(err)
			}
		})
	}
	waiting := func() int { link.mu.Lock(); defer link.mu.Unlock(); return len(link.room.turns) }
	wait(1)
	for waiting() < 9 {
		time.Sleep(time.Millisecond)
	}
	checkSignature(t, key, "beside ten searches")
	ping()
	wait(1)

	signs.Store(true)
	for range 200 {
		calls.Go(func() { checkSignature(t, key, "one of many") })
	}
	wait(cap(link.slots))
	ping()
	wait(cap(link.slots))

	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Find(short, nil); !NotSent(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Find: %v", err)
	}
	signs.Store(false)
	searches.Store(false)
	cut() // what waited is asked on another connection
	ping()
	end()
}

func TestRoom(t *testing.T) {
	t.Parallel()
	r := room{free: largeRoom}
	half, had := r.take(largeRoom / 2)
	whole, hadWhole := r.take(2 * largeRoom) // as much as there is
	small, hadSmall := r.take(1)
	if !had || hadWhole || hadSmall || whole.size != largeRoom || len(r.turns) != 2 {
		t.Fatalf("took %v, %v, %v", had, hadWhole, hadSmall)
	}
	come := func(t *turn) bool {
		select {
		case <-t.ready:
			return true
		default:
			return false
		}
	}
	r.withdraw(whole) // whoever was behind it fits
	if come(whole) || !come(small) || r.free != largeRoom-largeRoom/2-1 {
		t.Errorf("%d bytes are free", r.free)
	}
	whole, _ = r.take(largeRoom)
	last, _ := r.take(1)
	r.give(half.size)
	if come(whole) || come(last) {
		t.Error("one that was behind came first")
	}
	r.withdraw(small) // had its turn
	if !come(whole) || come(last) || r.free != 0 {
		t.Errorf("%d bytes are free", r.free)
	}
	r.withdraw(whole)
	r.withdraw(last)
	if r.free != largeRoom || len(r.turns) != 0 {
		t.Errorf("at the end %d bytes are free", r.free)
	}
}
