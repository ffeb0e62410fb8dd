package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
)

// testPatience bounds what a test waits for; it is not meant to pass.
const testPatience = 30 * time.Second

const testPassword = "correct horse"

// token is an HSM with one partition, in memory: the real server in front, the
// real mechanisms behind. Its hooks may be changed while it runs.
type token struct {
	address     string
	certificate tls.Certificate // the HSM's
	options     server.Options
	wrap        func(server.Session) server.Session // what clients get instead of a session; set before it runs

	mu       sync.Mutex
	password string                  // guarded by mu
	objects  []*stored               // by handle; guarded by mu
	last     uint64                  // handle; guarded by mu
	attempts int                     // logins; guarded by mu
	attach   error                   // refuses clients; guarded by mu
	admit    func(server.Peer) error // the same by who they are; called with mu
	locked   bool                    // guarded by mu
	officer  string                  // the Partition Security Officer's password; guarded by mu
	policies []object.PolicyValue    // guarded by mu
	log      *testLog                // nil is none; guarded by mu
	before   func(op string) error   // runs before each operation on a session; guarded by mu
	seen     []object.OperationID    // of signatures; guarded by mu
	sessions []*tokenSession         // every one ever opened; guarded by mu
}

type stored struct {
	object.Object
	key *mech.Key
}

func newToken(t testing.TB) *token {
	t.Helper()
	certificate, key, err := NewCertificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return &token{certificate: pair, password: testPassword, options: server.Options{Serial: "4711", Software: "token", Certificate: pair}}
}

// run serves the token until stop or the test's end; on the same address when
// it ran before.
func (k *token) run(t testing.TB) (stop func()) {
	t.Helper()
	if k.address == "" {
		k.address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", k.address)
	if err != nil {
		t.Fatal(err)
	}
	k.address = listener.Addr().String()
	o := k.options
	o.Backend = k
	if o.Logger == nil && testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)).With("side", "hsm")
	}
	s, err := server.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// config is that of a client that may log in.
func (k *token) config(t testing.TB) Config {
	t.Helper()
	certificate, key, err := NewCertificate("client")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{
		Address:            k.address,
		ServerCertificates: mustCertificates(t, k.certificate),
		Certificate:        pair,
		Partition:          "p1",
		Role:               RoleCryptoOfficer,
		Password:           func() ([]byte, error) { return []byte(testPassword), nil },
		CallTimeout:        testPatience,
		MaxBackoff:         50 * time.Millisecond,
		Software:           "test",
	}
	if testing.Verbose() {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)).With("side", "client")
	}
	return config
}

func mustCertificates(t testing.TB, pairs ...tls.Certificate) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for _, pair := range pairs {
		certificate, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, certificate)
	}
	return list
}

// dial connects a client that is closed at the test's end.
func dial(t testing.TB, config Config) *Client {
	t.Helper()
	c, err := Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// newClient is a fresh token that runs, and a client of it.
func newClient(t testing.TB) (*token, *Client) {
	t.Helper()
	k := newToken(t)
	k.run(t)
	return k, dial(t, k.config(t))
}

// set changes a token's fields.
func (k *token) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *token) Attach(_ context.Context, peer server.Peer) (server.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.attach != nil {
		return nil, k.attach
	}
	if k.admit != nil {
		if err := k.admit(peer); err != nil {
			return nil, err
		}
	}
	return tokenClient{k}, nil
}

type tokenClient struct{ k *token }

func (c tokenClient) Close() {}

func (c tokenClient) Partitions(context.Context) ([]object.PartitionInfo, error) {
	return []object.PartitionInfo{{Label: "p1", Serial: "11"}}, nil
}

func (c tokenClient) OpenSession(_ context.Context, partition string) (server.Session, error) {
	if partition != "" && partition != "p1" {
		return nil, object.Errorf(object.ErrNotAssigned, "partition %q", partition)
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	s := &tokenSession{k: c.k}
	c.k.sessions = append(c.k.sessions, s)
	if c.k.wrap != nil {
		return c.k.wrap(s), nil
	}
	return s, nil
}

type tokenSession struct {
	k    *token
	role object.Role // guarded by k.mu
}

// logOut is what a reset of the role does to every session.
func (k *token) logOut() {
	k.set(func() {
		for _, s := range k.sessions {
			s.role = object.RoleNone
		}
	})
}

// enter admits an operation to a session that is logged in.
func (s *tokenSession) enter(op string) error {
	s.k.mu.Lock()
	before, role := s.k.before, s.role
	s.k.mu.Unlock()
	if role == object.RoleNone {
		return object.Errorf(object.ErrNotLoggedIn, "")
	}
	if before != nil {
		return before(op)
	}
	return nil
}

func (s *tokenSession) Close() {}
func (s *tokenSession) Info() object.PartitionInfo {
	return object.PartitionInfo{Label: "p1", Serial: "11"}
}

func (s *tokenSession) Login(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.attempts++
	want := s.k.password
	if role == object.RolePartitionOfficer {
		want = s.k.officer
	}
	switch {
	case s.k.locked && role != object.RolePartitionOfficer:
		return object.Errorf(object.ErrPINLocked, "")
	case string(password) != want:
		return object.Errorf(object.ErrPINIncorrect, "")
	}
	s.role = role
	return nil
}

func (s *tokenSession) Logout(context.Context, object.OperationID) error {
	s.k.set(func() { s.role = object.RoleNone })
	return nil
}

// add stores an object.
func (k *token) add(m mech.KeyMaterial) (object.ID, error) {
	o := &stored{Object: object.Object{ID: object.NewID(), Attributes: m.Attributes, Secret: m.Secret}}
	var err error
	switch m.Attributes.Class() {
	case object.ClassPrivateKey, object.ClassSecretKey:
		o.key, err = mech.Policy{}.ParseKey(m.Attributes, m.Secret)
	case object.ClassPublicKey:
		o.key, err = mech.Policy{}.ParsePublic(m.Attributes)
	}
	if err != nil {
		return object.ID{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last++
	o.Handle = k.last
	o.Attributes = o.Attributes.With(object.Number(object.AttrHandle, o.Handle))
	k.objects = append(k.objects, o)
	return o.ID, nil
}

func (k *token) get(id object.ID) (*stored, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.objects {
		if o.ID == id {
			return o, nil
		}
	}
	return nil, object.Errorf(object.ErrKeyHandle, "object %v", id)
}

func (s *tokenSession) Generate(_ context.Context, _ object.OperationID, m object.Mechanism, public, private object.Template) (object.ID, object.ID, error) {
	if err := s.enter("Generate"); err != nil {
		return object.ID{}, object.ID{}, err
	}
	if m.Type == object.MechAESKeyGen || m.Type == object.MechGenericSecretGen {
		material, err := mech.Policy{}.GenerateKey(m, private)
		if err != nil {
			return object.ID{}, object.ID{}, err
		}
		id, err := s.k.add(material)
		return object.ID{}, id, err
	}
	pub, priv, err := mech.Policy{}.GenerateKeyPair(m, public, private)
	if err != nil {
		return object.ID{}, object.ID{}, err
	}
	publicID, err := s.k.add(pub)
	if err != nil {
		return object.ID{}, object.ID{}, err
	}
	privateID, err := s.k.add(priv)
	return publicID, privateID, err
}

func (s *tokenSession) Store(_ context.Context, _ object.OperationID, t object.Template) (object.ID, error) {
	if err := s.enter("Store"); err != nil {
		return object.ID{}, err
	}
	if t.Class() == object.ClassPublicKey {
		attributes, err := mech.Policy{}.CompletePublic(t)
		if err != nil {
			return object.ID{}, err
		}
		return s.k.add(mech.KeyMaterial{Attributes: attributes})
	}
	if err := t.CheckCreation(object.ClassCertificate); err != nil {
		return object.ID{}, err
	}
	return s.k.add(mech.KeyMaterial{Attributes: object.Defaults(object.ClassCertificate).Merge(t)})
}

func (s *tokenSession) Find(_ context.Context, _ object.OperationID, pattern object.Template, want []object.AttributeType, after uint64, limit int) ([]object.Found, bool, error) {
	if err := s.enter("Find"); err != nil {
		return nil, false, err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	var found []object.Found
	for _, o := range s.k.objects {
		if o.Handle <= after || !o.Attributes.Matches(pattern) {
			continue
		}
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, object.Found{ID: o.ID, Attributes: o.Attributes.Select(want)})
	}
	return found, false, nil
}

func (s *tokenSession) Attributes(_ context.Context, _ object.OperationID, id object.ID, want []object.AttributeType) (object.Template, error) {
	if err := s.enter("Attributes"); err != nil {
		return nil, err
	}
	o, err := s.k.get(id)
	if err != nil {
		return nil, err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	return o.Attributes.Select(want), nil
}

func (s *tokenSession) SetAttributes(_ context.Context, _ object.OperationID, id object.ID, t object.Template) error {
	if err := s.enter("SetAttributes"); err != nil {
		return err
	}
	o, err := s.k.get(id)
	if err != nil {
		return err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	o.Attributes = o.Attributes.Merge(t)
	return nil
}

func (s *tokenSession) Destroy(_ context.Context, _ object.OperationID, id object.ID) error {
	if err := s.enter("Destroy"); err != nil {
		return err
	}
	if _, err := s.k.get(id); err != nil {
		return err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.objects = slices.DeleteFunc(s.k.objects, func(o *stored) bool { return o.ID == id })
	return nil
}

// key returns a key for an operation.
func (s *tokenSession) key(op string, id object.ID) (*mech.Key, error) {
	if err := s.enter(op); err != nil {
		return nil, err
	}
	o, err := s.k.get(id)
	if err != nil {
		return nil, err
	}
	if o.key == nil {
		return nil, object.Errorf(object.ErrKeyType, "object %v is no key", id)
	}
	return o.key, nil
}

func (s *tokenSession) Sign(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, object.Receipt, error) {
	key, err := s.key("Sign", id)
	if err != nil {
		return nil, nil, err
	}
	s.k.set(func() {
		if len(s.k.seen) < 100 {
			s.k.seen = append(s.k.seen, op)
		}
	})
	signature, err := key.Sign(m, digest)
	return signature, nil, err
}

func (s *tokenSession) Encrypt(_ context.Context, _ object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	key, err := s.key("Encrypt", id)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := key.Encrypt(m, data)
	return sealed, nil, err
}

func (s *tokenSession) Decrypt(_ context.Context, _ object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	key, err := s.key("Decrypt", id)
	if err != nil {
		return nil, nil, err
	}
	plain, err := key.Decrypt(m, data)
	return plain, nil, err
}

func (s *tokenSession) Wrap(_ context.Context, _ object.OperationID, wrapping, target object.ID, m object.Mechanism) ([]byte, error) {
	key, err := s.key("Wrap", wrapping)
	if err != nil {
		return nil, err
	}
	wrapped, err := s.key("Wrap", target)
	if err != nil {
		return nil, err
	}
	return key.Wrap(m, wrapped)
}

func (s *tokenSession) Unwrap(_ context.Context, _ object.OperationID, wrapping object.ID, m object.Mechanism, wrapped []byte, t object.Template) (object.ID, error) {
	key, err := s.key("Unwrap", wrapping)
	if err != nil {
		return object.ID{}, err
	}
	material, err := key.Unwrap(m, bytes.Clone(wrapped), t)
	if err != nil {
		return object.ID{}, err
	}
	return s.k.add(material)
}

func (s *tokenSession) Random(_ context.Context, _ object.OperationID, n int) ([]byte, error) {
	if err := s.enter("Random"); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	rand.Read(b)
	return b, nil
}
