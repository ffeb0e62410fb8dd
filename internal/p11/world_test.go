package p11_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
	"moongate/internal/p11"
	"moongate/internal/p11/cryptoki"
	"moongate/internal/p11/p11test"
)

// A process loads a module once, and it finds its tokens then: every test has
// one of these, or a few, in each of its -count runs.
const tokensPerRun = 32

var (
	tokens int32
	store  *p11test.Store
	module p11.Module
	taken  atomic.Int32
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "p11-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		flag.Parse()
		runs, _ := strconv.Atoi(flag.Lookup("test.count").Value.String())
		tokens = int32(tokensPerRun * max(1, runs))
		var labels []string
		for i := range tokens {
			labels = append(labels, label(i))
		}
		if store, err = p11test.MakeStore(dir, labels...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv("SOFTHSM2_CONF", store.Conf)
		if module, err = cryptoki.Load(p11test.Module); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// label is of one length: pkcs11-tool takes the first that begins with it.
func label(n int32) string { return fmt.Sprintf("token-%04d", n) }

// faulty is the real module with something in its way.
type faulty struct {
	p11.Module
	mu      sync.Mutex
	before  func(call string) error // guarded by mu
	without []uint                  // mechanisms that are hidden; set before the start
	ownIV   int                     // bytes of the nonce that it makes itself, as in FIPS mode; set before the start
	open    atomic.Int32            // sessions
	logins  atomic.Int32
}

// set puts something in the way of every call that is hooked; nil is nothing.
func (f *faulty) set(before func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *faulty) pass(call string) error {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(call)
}

func (f *faulty) Finalize() error { return nil } // other tests go on

func (f *faulty) Mechanisms(slot uint) ([]uint, error) {
	list, err := f.Module.Mechanisms(slot)
	return slices.DeleteFunc(list, func(m uint) bool { return slices.Contains(f.without, m) }), err
}

func (f *faulty) Slots() ([]p11.Slot, error) {
	if err := f.pass("slots"); err != nil {
		return nil, err
	}
	return f.Module.Slots()
}

func (f *faulty) OpenSession(slot uint, write bool) (uint, error) {
	if err := f.pass("open"); err != nil {
		return 0, err
	}
	s, err := f.Module.OpenSession(slot, write)
	if err == nil {
		f.open.Add(1)
	}
	return s, err
}

func (f *faulty) CloseSession(session uint) error {
	err := f.Module.CloseSession(session)
	if err == nil {
		f.open.Add(-1)
	}
	return err
}

func (f *faulty) LoggedIn(session uint) (bool, error) {
	if err := f.pass("session-info"); err != nil {
		return false, err
	}
	return f.Module.LoggedIn(session)
}

func (f *faulty) Login(session, user uint, pin []byte) error {
	f.logins.Add(1)
	if err := f.pass("login"); err != nil {
		return err
	}
	return f.Module.Login(session, user, pin)
}

func (f *faulty) Attributes(session, object uint, types []uint) ([][]byte, error) {
	if err := f.pass("attributes"); err != nil {
		return nil, err
	}
	return f.Module.Attributes(session, object, types)
}

func (f *faulty) Sign(session uint, m p11.Mechanism, key uint, data []byte) ([]byte, error) {
	if err := f.pass("sign"); err != nil {
		return nil, err
	}
	out, err := f.Module.Sign(session, m, key, data)
	if err == nil && f.pass("spoil") != nil {
		out[len(out)-1] ^= 1
	}
	return out, err
}

// Encrypt makes the nonce itself where it is to: one that is given is refused,
// and its own stands behind the tag (Thales Luna's CKM_AES_GCM in FIPS mode).
func (f *faulty) Encrypt(session uint, m p11.Mechanism, key uint, data []byte) ([]byte, error) {
	if f.ownIV == 0 || m.GCM == nil {
		return f.Module.Encrypt(session, m, key, data)
	}
	if m.GCM.IV != nil {
		return nil, p11.CKR(0x71)
	}
	iv := make([]byte, f.ownIV)
	rand.Read(iv)
	out, err := f.Module.Encrypt(session, p11.Mechanism{Type: m.Type, GCM: &p11.GCM{IV: iv, AAD: m.GCM.AAD}}, key, data)
	return append(out, iv...), err
}

func (f *faulty) Decrypt(session uint, m p11.Mechanism, key uint, data []byte) ([]byte, error) {
	if err := f.pass("decrypt"); err != nil {
		return nil, err
	}
	return f.Module.Decrypt(session, m, key, data)
}

func (f *faulty) GenerateKey(session, mechanism uint, template []p11.Attribute) (uint, error) {
	if err := f.pass("generate"); err != nil {
		return 0, err
	}
	return f.Module.GenerateKey(session, mechanism, template)
}

// world is a token of a test's own, open.
type world struct {
	label  string
	module *faulty
	token  *p11.Token
	fatal  chan error // what Options.Fatal was told
}

func newWorld(t *testing.T, change ...func(*p11.Options)) *world {
	t.Helper()
	w := closedWorld(t)
	w.start(t, change...)
	return w
}

// closedWorld is a world whose token is not open yet.
func closedWorld(t *testing.T) *world {
	t.Helper()
	n := taken.Add(1) - 1
	if n >= tokens {
		t.Fatal("there are more tests than tokens")
	}
	return &world{label: label(n), module: &faulty{Module: module}, fatal: make(chan error, 1)}
}

func (w *world) options(t *testing.T, change ...func(*p11.Options)) p11.Options {
	o := p11.Options{
		Module: w.module, Token: w.label, PIN: []byte(p11test.PIN), Sessions: 8, Probe: 50 * time.Millisecond,
		Fatal: func(err error) { w.fatal <- err },
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

func (w *world) start(t *testing.T, change ...func(*p11.Options)) {
	t.Helper()
	var err error
	if w.token, err = p11.Open(w.options(t, change...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.module.set(nil)
		if err := w.token.Close(); err != nil {
			t.Error(err)
		}
	})
}

var client = server.Peer{Fingerprint: server.Fingerprint{1}}

// session is a session of a role's on the token.
func (w *world) session(t *testing.T, role object.Role) server.Session {
	t.Helper()
	c, err := p11.Backend(w.token, client.Fingerprint).Attach(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.OpenSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if role != object.RoleNone {
		if err := s.Login(t.Context(), op, role, []byte(p11test.PIN)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

var op object.OperationID

// find returns the objects that match.
func find(t *testing.T, s server.Session, pattern ...object.Attribute) []object.Found {
	t.Helper()
	found, _, err := s.Find(t.Context(), op, object.New(pattern...), nil, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// private returns the private key with a label.
func private(t *testing.T, s server.Session, label string) object.Found {
	t.Helper()
	found := find(t, s, object.Number(object.AttrClass, uint64(object.ClassPrivateKey)), object.Text(object.AttrLabel, label))
	if len(found) != 1 {
		t.Fatalf("%d private keys %q, expected one", len(found), label)
	}
	return found[0]
}

// within is a context that ends.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantCode(t *testing.T, what string, err error, code object.Code) {
	t.Helper()
	if object.CodeOf(err) != code || err == nil {
		t.Errorf("%s: %v, expected %v", what, err, code)
	}
}

var ecP256 = object.Bytes(object.AttrECParams, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"))

// makeEC makes a P-256 key and returns its private half.
func makeEC(t *testing.T, s server.Session, label string) object.ID {
	t.Helper()
	_, id, err := s.Generate(t.Context(), op, object.Mechanism{Type: object.MechECKeyPairGen},
		object.New(ecP256, object.Text(object.AttrLabel, label)), object.New(object.Text(object.AttrLabel, label)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// makeRSA makes an RSA-2048 key that signs and decrypts.
func makeRSA(t *testing.T, s server.Session, label string) object.ID {
	t.Helper()
	_, id, err := s.Generate(t.Context(), op, object.Mechanism{Type: object.MechRSAKeyPairGen},
		object.New(object.Number(object.AttrModulusBits, 2048), object.Text(object.AttrLabel, label)),
		object.New(object.Text(object.AttrLabel, label), object.Bool(object.AttrDecrypt, true)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
