package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
)

func newECKey(t testing.TB, c *Client, label string) Key {
	t.Helper()
	pair, err := c.GenerateEC(t.Context(), elliptic.P256(), nil, NewTemplate(TextAttr(AttrLabel, label)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.Key(t.Context(), pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func checkSignature(t testing.TB, key Key, message string) {
	t.Helper()
	digest := sha256.Sum256([]byte(message))
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Error(err)
		return
	}
	if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		t.Errorf("the signature of %q does not verify", message)
	}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	key := newECKey(t, c, "web")

	if got, err := c.Partitions(ctx); err != nil || !cmp.Equal(got, []PartitionInfo{{Label: "p1", Serial: "11"}}) {
		t.Errorf("Partitions: %v, %v", got, err)
	}
	if err := c.SetAttributes(ctx, key.ID(), NewTemplate(TextAttr(AttrLabel, "other"))); err != nil {
		t.Fatal(err)
	}
	got, err := c.Attributes(ctx, key.ID(), AttrLabel, AttrClass, AttrLabel)
	want := NewTemplate(NumberAttr(AttrClass, uint64(ClassPrivateKey)), TextAttr(AttrLabel, "other"))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Attributes: %v (-want +got):\n%s", err, diff)
	}

	certificate := mustCertificates(t, c.config.Certificate)[0]
	id, err := c.StoreCertificate(ctx, certificate, NewTemplate(TextAttr(AttrLabel, "crt")))
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(ctx, NewTemplate(BytesAttr(AttrValue, certificate.Raw)), AttrLabel)
	if err != nil || len(found) != 1 || found[0].ID != id || found[0].Attributes.Text(AttrLabel) != "crt" {
		t.Errorf("Find: %v, %v", found, err)
	}

	if err := c.Destroy(ctx, key.ID()); err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	if _, err := key.Sign(nil, digest, crypto.SHA256); CodeOf(err) != ErrKeyHandle {
		t.Errorf("signing with a destroyed key: %v", err)
	}
	if random, err := c.Random(ctx, 40); err != nil || len(random) != 40 || bytes.Equal(random, make([]byte, 40)) {
		t.Errorf("Random: %x, %v", random, err)
	}
	if _, err := c.Random(ctx, 0); CodeOf(err) != ErrArgumentsBad {
		t.Errorf("Random of nothing: %v", err)
	}
}

func TestFindPages(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	const count = 2500 // three pages
	k.set(func() {
		for range count {
			k.last++
			k.objects = append(k.objects, &stored{Object: object.Object{ID: object.NewID(), Handle: k.last,
				Attributes: object.New(object.Number(AttrHandle, k.last), object.Text(AttrLabel, fmt.Sprint("o", k.last)))}})
		}
	})
	found, err := c.Find(t.Context(), nil, AttrLabel)
	if err != nil || len(found) != count || found[count-1].Attributes.Text(AttrLabel) != "o2500" {
		t.Fatalf("Find: %d objects, %v", len(found), err)
	}
	n := 0
	for _, err := range c.Objects(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
}

func TestSecretKeys(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	data, err := c.GenerateAES(ctx, 32, NewTemplate(BoolAttr(AttrEncrypt, true), BoolAttr(AttrDecrypt, true), BoolAttr(AttrExtractable, true)))
	if err != nil {
		t.Fatal(err)
	}
	wrapping, err := c.GenerateAES(ctx, 32, NewTemplate(BoolAttr(AttrWrap, true), BoolAttr(AttrUnwrap, true)))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := c.Encrypt(ctx, data, []byte("plain"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := c.Wrap(ctx, wrapping, data)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := c.Unwrap(ctx, wrapping, wrapped, NewTemplate(NumberAttr(AttrClass, uint64(ClassSecretKey)), NumberAttr(AttrKeyType, uint64(KeyAES)), BoolAttr(AttrDecrypt, true)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decrypt(ctx, copied, ciphertext, []byte("aad")); err != nil || string(got) != "plain" {
		t.Errorf("Decrypt: %q, %v", got, err)
	}
	if _, err := c.Decrypt(ctx, copied, ciphertext, []byte("other")); CodeOf(err) != ErrEncryptedData {
		t.Errorf("Decrypt with other additional data: %v", err)
	}
	large := make([]byte, 500<<10)
	if ciphertext, err = c.Encrypt(ctx, data, large, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decrypt(ctx, data, ciphertext, nil); err != nil || !bytes.Equal(got, large) {
		t.Errorf("Decrypt of %d bytes: %d bytes, %v", len(large), len(got), err)
	}
	if _, err := c.Encrypt(ctx, data, make([]byte, 2<<20), nil); CodeOf(err) != ErrDataLength {
		t.Errorf("Encrypt of 2 MiB: %v", err)
	}
}

func TestManyCallers(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	key := newECKey(t, c, "web")
	var callers sync.WaitGroup
	for i := range 1000 {
		callers.Go(func() {
			checkSignature(t, key, fmt.Sprint(i))
		})
	}
	callers.Wait()
}

func TestAnswersOutOfOrderReachTheirCallers(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	key := newECKey(t, c, "web")
	began, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	k.set(func() {
		k.before = func(op string) error {
			if op == "Sign" && first.CompareAndSwap(false, true) {
				close(began)
				<-release
			}
			return nil
		}
	})
	slow := make(chan struct{})
	go func() { defer close(slow); checkSignature(t, key, "slow") }()
	<-began
	for i := range 20 {
		checkSignature(t, key, fmt.Sprint(i))
	}
	select {
	case <-slow:
		t.Error("the first call has an answer already")
	default:
	}
	close(release)
	<-slow
}

func TestDeadlineAndCancellation(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	key := newECKey(t, c, "web")
	release := make(chan struct{})
	k.set(func() {
		k.before = func(op string) error {
			if op == "Sign" || op == "Destroy" {
				<-release
			}
			return nil
		}
	})
	digest := make([]byte, 32)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := key.WithContext(ctx).Sign(nil, digest, crypto.SHA256); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sign past its deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go cancel()
	if _, err := key.WithContext(ctx).Sign(nil, digest, crypto.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("Sign that was cancelled: %v", err)
	}
	// A change that may have been made says so, with the operation's id.
	ctx, cancel = context.WithTimeout(WithOperation(t.Context(), OperationID{0xab}), 20*time.Millisecond)
	defer cancel()
	err := c.Destroy(ctx, key.ID())
	unknown, is := errors.AsType[*OutcomeUnknownError](err)
	if !is || unknown.Operation != (OperationID{0xab}) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Destroy past its deadline: %v", err)
	}
	// The answers that nobody waits for come late, and do no harm.
	l := c.ready.Load()
	close(release)
	for begun := time.Now(); len(l.slots) > 0; {
		if err := c.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(begun) > testPatience {
			t.Fatalf("%d calls are still in flight", len(l.slots))
		}
		if l.broken() {
			t.Fatal("the connection did not outlive its calls")
		}
	}
}

func TestCallTimeoutBoundsACallWithoutDeadline(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.CallTimeout = 50 * time.Millisecond
	release := make(chan struct{})
	defer close(release)
	c := dial(t, config)
	k.set(func() { k.before = func(string) error { <-release; return nil } })
	if _, err := c.Random(t.Context(), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Random: %v", err)
	}
}

func TestOperationIDReachesTheHSM(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	key := newECKey(t, c, "web")
	want := OperationID{1, 2, 3}
	checkSignature(t, key.WithContext(WithOperation(t.Context(), want)), "given")
	checkSignature(t, key, "random")
	checkSignature(t, key, "random too")
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.seen) != 3 || k.seen[0] != want || k.seen[1] == k.seen[2] || k.seen[1] == (OperationID{}) {
		t.Errorf("the HSM saw %x", k.seen)
	}
}

func TestReconnects(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	c := dial(t, k.config(t))
	key := newECKey(t, c, "web")
	for range 3 {
		stop()
		waiting := make(chan struct{})
		go func() { defer close(waiting); checkSignature(t, key, "while it is away") }()
		stop = k.run(t)
		<-waiting
		checkSignature(t, key, "when it is back")
	}
	if k.attempts != 4 {
		t.Errorf("%d logins, want one for each connection", k.attempts)
	}
	if status := c.Status(); !status.Connected || status.Err == nil || status.Stage != "" {
		t.Errorf("status %+v", status)
	}
}

// proxy relays to the token, and cuts all connections when told.
func (k *token) proxy(t *testing.T) (address string, cut func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	var relays sync.WaitGroup
	cut = func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
		open = nil
	}
	relays.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", k.address)
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				relays.Go(func() {
					defer pair[0].Close()
					defer pair[1].Close()
					b := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(b)
						if err != nil {
							return
						}
						if _, err := pair[1].Write(b[:n]); err != nil {
							return
						}
					}
				})
			}
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cut()
		relays.Wait()
	})
	return listener.Addr().String(), cut
}

func TestSafeCallsAreRepeatedOthersAreNot(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	c := dial(t, config)
	key := newECKey(t, c, "web")

	var times atomic.Int64
	k.set(func() {
		k.before = func(op string) error {
			if times.Add(1) <= 2 {
				cut()
			}
			return nil
		}
	})
	checkSignature(t, key, "repeated twice")
	if n := times.Load(); n != 3 {
		t.Errorf("the HSM was asked %d times, want 3", n)
	}

	times.Store(0)
	_, err := c.GenerateAES(t.Context(), 32, nil)
	unknown, is := errors.AsType[*OutcomeUnknownError](err)
	if !is || unknown.Call != "Generate" || unknown.Operation == (OperationID{}) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("GenerateAES: %v", err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := times.Load(); n != 1 {
		t.Errorf("the HSM was asked to generate %d times", n)
	}
}

func TestRequestThatBreaksConnectionsIsGivenUp(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	c := dial(t, config)
	var times atomic.Int64
	k.set(func() { k.before = func(string) error { times.Add(1); cut(); return nil } })
	if _, err := c.Random(t.Context(), 1); !Unavailable(err) {
		t.Errorf("Random: %v", err)
	}
	if n := times.Load(); n != maxLost {
		t.Errorf("the HSM was asked %d times, want %d", n, maxLost)
	}
}

func TestCallsUnderAFailingConnection(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	var cut func()
	config.Address, cut = k.proxy(t)
	c := dial(t, config)
	key := newECKey(t, c, "web")
	done := make(chan struct{})
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for range maxLost - 1 {
			if err := c.Ready(t.Context()); err != nil {
				return
			}
			cut()
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for i := range 20 {
				checkSignature(t, key, fmt.Sprint(i))
			}
		})
	}
	callers.Wait()
	close(done)
	cutter.Wait()
}

func TestSilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.KeepAlive = 50 * time.Millisecond
	// A server that takes the first connection and then says nothing more.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	config.Address = listener.Addr().String()
	var mute atomic.Bool
	var relays sync.WaitGroup
	defer relays.Wait()
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
			relays.Go(func() { relay(in, out, func() bool { return false }) })
			relays.Go(func() { relay(out, in, mute.Load) })
		}
	})
	c := dial(t, config)
	mute.Store(true)
	for c.Status().Connected {
		_, changed := c.statusAndChange()
		select {
		case <-changed:
		case <-time.After(testPatience):
			t.Fatal("nobody noticed")
		}
	}
	mute.Store(false)
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	listener.Close()
	c.Close()
}

// relay copies until one side ends; what comes while drop says so is lost.
func relay(from, to net.Conn, drop func() bool) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if drop() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestWrongPasswordIsTriedOnce(t *testing.T) {
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
	for range 3 {
		if _, err := c.Random(t.Context(), 1); CodeOf(err) != ErrPINIncorrect {
			t.Errorf("Random: %v", err)
		}
	}
	status := c.Status()
	if status.Connected || !status.NeedsLogin || status.Stage != StageLogin {
		t.Errorf("status %+v", status)
	}
	// Longer than many pauses between attempts.
	time.Sleep(10 * config.MaxBackoff)
	k.set(func() {
		if k.attempts != 1 {
			t.Errorf("the wrong password was tried %d times", k.attempts)
		}
	})

	if err := c.Relogin(t.Context(), func() ([]byte, error) { return []byte("wrong too"), nil }); CodeOf(err) != ErrPINIncorrect {
		t.Errorf("Relogin with a wrong password: %v", err)
	}
	if err := c.Relogin(t.Context(), func() ([]byte, error) { return []byte(testPassword), nil }); err != nil {
		t.Errorf("Relogin with the right one: %v", err)
	}
	if _, err := c.Random(t.Context(), 1); err != nil {
		t.Error(err)
	}
	k.set(func() {
		if k.attempts != 3 {
			t.Errorf("%d logins, want 3", k.attempts)
		}
	})
}

func TestLockedRoleIsLeftAlone(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.locked = true
	k.run(t)
	_, err := Dial(t.Context(), k.config(t))
	if e, is := errors.AsType[*Error](err); !is || e.Stage != StageLogin || CodeOf(err) != ErrPINLocked || k.attempts != 1 {
		t.Errorf("Dial: %v after %d logins", err, k.attempts)
	}
}

func TestReloginWhileConnected(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	stop := k.run(t)
	c := dial(t, k.config(t))
	if err := c.Relogin(t.Context(), func() ([]byte, error) { return []byte("wrong"), nil }); CodeOf(err) != ErrPINIncorrect {
		t.Errorf("Relogin: %v", err)
	}
	if _, err := c.Random(t.Context(), 1); err != nil || !c.Status().Connected {
		t.Errorf("a refused Relogin ended the session: %v", err)
	}
	// The password is changed; the new one serves later connections too.
	k.set(func() { k.password = "new" })
	if err := c.Relogin(t.Context(), func() ([]byte, error) { return []byte("new"), nil }); err != nil {
		t.Fatal(err)
	}
	stop()
	k.run(t)
	if _, err := c.Random(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestSessionThatIsLoggedOutIsRenewed(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	key := newECKey(t, c, "web")
	k.logOut()
	var callers sync.WaitGroup
	for i := range 50 {
		callers.Go(func() { checkSignature(t, key, fmt.Sprint(i)) })
	}
	callers.Wait()
	k.set(func() {
		if k.attempts != 2 {
			t.Errorf("%d logins, want 2", k.attempts)
		}
	})
	// A change is repeated too: the refusal says that it was not made.
	k.logOut()
	if err := c.Destroy(t.Context(), key.ID()); err != nil {
		t.Error(err)
	}
	// And where the password is changed, nothing is tried twice.
	k.set(func() { k.password = "changed" })
	k.logOut()
	if _, err := c.Random(t.Context(), 1); CodeOf(err) != ErrPINIncorrect || !c.Status().NeedsLogin {
		t.Errorf("Random: %v, status %+v", err, c.Status())
	}
}

func TestRoleNoneIsNotLoggedIn(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	config := k.config(t)
	config.Role, config.Password = RoleNone, nil
	c := dial(t, config)
	if _, err := c.Random(t.Context(), 1); CodeOf(err) != ErrNotLoggedIn {
		t.Errorf("Random: %v", err)
	}
	if k.attempts != 0 {
		t.Errorf("%d logins", k.attempts)
	}
}

func TestRegistrationIsTriedAgain(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.attach = object.Errorf(object.ErrNotRegistered, "")
	k.run(t)
	c, err := Open(k.config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = c.Ping(ctx)
	if e, is := errors.AsType[*Error](err); !is || e.Stage != StageRegistered || CodeOf(err) != ErrNotRegistered || !errors.Is(err, context.DeadlineExceeded) || !Unavailable(err) {
		t.Errorf("Ping: %v", err)
	}
	k.set(func() { k.attach = nil })
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	began, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	k.set(func() { k.before = func(string) error { close(began); <-release; return nil } })
	ended := make(chan error, 1)
	go func() {
		_, err := c.Random(context.Background(), 1)
		ended <- err
	}()
	<-began
	c.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("a call in flight: %v", err)
	}
	if err := c.Ping(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a call after Close: %v", err)
	}
	if err := c.Relogin(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Relogin after Close: %v", err)
	}
	c.Close()
}

func TestPasswordIsWipedAfterUse(t *testing.T) {
	t.Parallel()
	k := newToken(t)
	k.run(t)
	given := []byte(testPassword)
	config := k.config(t)
	config.Password = func() ([]byte, error) { return given, nil }
	dial(t, config)
	if slices.ContainsFunc(given, func(b byte) bool { return b != 0 }) {
		t.Errorf("after the login the password is %q", given)
	}
}

// TestReset: the connection is ended and made anew, calls in flight included;
// a password that was refused is not sent again.
func TestReset(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	key := newECKey(t, c, "web")
	since := c.Status().Since
	sessions := func() (n int) { k.set(func() { n = len(k.sessions) }); return n }
	before := sessions()
	var callers sync.WaitGroup
	for i := range 20 {
		callers.Go(func() { checkSignature(t, key, fmt.Sprint(i)) })
	}
	if err := c.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	if got := sessions(); got != before+1 {
		t.Errorf("%d sessions were opened, want 1", got-before)
	}
	if s := c.Status(); !s.Connected || !s.Since.After(since) {
		t.Errorf("status is %+v", s)
	}
	checkSignature(t, key, "after")

	// The HSM does not answer: the error says so, and it is tried on.
	k.set(func() { k.attach = object.Errorf(ErrBusy, "not now") })
	if err := c.Reset(t.Context()); err == nil || c.Status().Connected {
		t.Errorf("Reset: %v, status %+v", err, c.Status())
	}
	k.set(func() { k.attach = nil })
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}

	// A wrong password is sent once.
	var attempts int
	k.set(func() { k.password, attempts = "new", k.attempts })
	for range 3 {
		if err := c.Reset(t.Context()); CodeOf(err) != ErrPINIncorrect {
			t.Errorf("Reset: %v", err)
		}
	}
	k.set(func() {
		if k.attempts != attempts+1 {
			t.Errorf("the wrong password was sent %d times", k.attempts-attempts)
		}
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Reset(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Reset after Close: %v", err)
	}
}
