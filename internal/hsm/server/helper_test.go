package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// patience bounds what a test waits for; it is not meant to pass.
const patience = 60 * time.Second

// device is a backend with one partition and one key, in memory. Its hooks may
// be set before it is served.
type device struct {
	key *ecdsa.PrivateKey

	attach func(Peer) error
	// sign runs before each signature.
	sign func(ctx context.Context, digest []byte) error
	// receipt is what a signature waits for.
	receipt object.Receipt
	// found is what Find returns of.
	found []object.Found
	// cloneIn runs before each CloneIn; plain sessions do not replicate.
	cloneIn func(ctx context.Context) error
	plain   bool

	mu       sync.Mutex
	attached int         // guarded by mu
	sessions int         // open ones; guarded by mu
	inside   int         // calls that run; guarded by mu
	logins   [][]byte    // passwords, the slices themselves; guarded by mu
	acts     []string    // of administration; guarded by mu
	broken   []error     // breaches of the contract by the server; guarded by mu
	changed  chan string // told of closes, where somebody listens
}

func newDevice(t testing.TB) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{key: key, changed: make(chan string, 5000)}
	t.Cleanup(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.attached != 0 || d.sessions != 0 || d.inside != 0 {
			t.Errorf("after the server's end %d clients, %d sessions, %d calls are left", d.attached, d.sessions, d.inside)
		}
		if err := errors.Join(d.broken...); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *device) Attach(_ context.Context, peer Peer) (Client, error) {
	if d.attach != nil {
		if err := d.attach(peer); err != nil {
			return nil, err
		}
	}
	d.count(&d.attached, 1)
	return &deviceClient{d: d}, nil
}

func (d *device) count(what *int, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*what += by
}

func (d *device) breach(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = append(d.broken, errors.New(text))
}

type deviceClient struct {
	d    *device
	open int // sessions; guarded by d.mu
}

func (c *deviceClient) Partitions(context.Context) ([]object.PartitionInfo, error) {
	return []object.PartitionInfo{{Label: "p1", Serial: "11"}}, nil
}

func (c *deviceClient) OpenSession(_ context.Context, partition string) (Session, error) {
	if partition != "" && partition != "p1" {
		return nil, object.Errorf(object.ErrNotAssigned, "partition %q", partition)
	}
	c.d.count(&c.d.sessions, 1)
	c.d.count(&c.open, 1)
	s := &deviceSession{c: c, d: c.d}
	if c.d.plain {
		return plainSession{s}, nil
	}
	return s, nil
}

func (c *deviceClient) Close() {
	c.d.mu.Lock()
	open := c.open
	c.d.mu.Unlock()
	if open != 0 {
		c.d.breach("a client was closed before its sessions")
	}
	c.d.count(&c.d.attached, -1)
	c.d.changed <- "client"
}

type deviceSession struct {
	c      *deviceClient
	d      *device
	calls  int  // guarded by d.mu
	closed bool // guarded by d.mu
}

func (s *deviceSession) enter() func() {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if s.closed {
		s.d.broken = append(s.d.broken, errors.New("a closed session was used"))
	}
	s.calls++
	s.d.inside++
	return func() {
		s.d.mu.Lock()
		defer s.d.mu.Unlock()
		s.calls--
		s.d.inside--
	}
}

func (s *deviceSession) Close() {
	s.d.mu.Lock()
	if s.closed || s.calls > 0 {
		s.d.broken = append(s.d.broken, errors.New("a session was closed twice, or while in use"))
	}
	s.closed = true
	s.d.sessions--
	s.c.open--
	s.d.mu.Unlock()
	s.d.changed <- "session"
}

func (s *deviceSession) Info() object.PartitionInfo {
	return object.PartitionInfo{Label: "p1", Serial: "11"}
}

func (s *deviceSession) Login(_ context.Context, _ object.OperationID, _ object.Role, password []byte) error {
	defer s.enter()()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.logins = append(s.d.logins, password)
	if string(password) != "right" {
		return object.Errorf(object.ErrPINIncorrect, "4 attempts left")
	}
	return nil
}

func (s *deviceSession) Sign(ctx context.Context, _ object.OperationID, _ object.ID, _ object.Mechanism, digest []byte) ([]byte, object.Receipt, error) {
	defer s.enter()()
	if s.d.sign != nil {
		if err := s.d.sign(ctx, digest); err != nil {
			return nil, nil, err
		}
	}
	signature, err := ecdsa.SignASN1(rand.Reader, s.d.key, digest)
	return signature, s.d.receipt, err
}

func (s *deviceSession) Find(_ context.Context, _ object.OperationID, _ object.Template, _ []object.AttributeType, _ uint64, limit int) ([]object.Found, bool, error) {
	defer s.enter()()
	return s.d.found[:min(limit, len(s.d.found))], false, nil
}

func (s *deviceSession) Random(_ context.Context, _ object.OperationID, n int) ([]byte, error) {
	defer s.enter()()
	b := make([]byte, n)
	rand.Read(b)
	return b, nil
}

var errPrivate = errors.New("/var/lib/secret: disk on fire")

func (s *deviceSession) Logout(context.Context, object.OperationID) error { return nil }
func (s *deviceSession) Generate(context.Context, object.OperationID, object.Mechanism, object.Template, object.Template) (object.ID, object.ID, error) {
	return object.ID{}, object.ID{}, errPrivate
}
func (s *deviceSession) Store(context.Context, object.OperationID, object.Template) (object.ID, error) {
	return object.NewID(), nil
}
func (s *deviceSession) Attributes(context.Context, object.OperationID, object.ID, []object.AttributeType) (object.Template, error) {
	// More than a frame holds.
	var t object.Template
	for i := range object.AttributeType(20) {
		t = append(t, object.Attribute{Type: i, Value: make([]byte, object.MaxAttributeValue)})
	}
	return t, nil
}
func (s *deviceSession) SetAttributes(context.Context, object.OperationID, object.ID, object.Template) error {
	return nil
}
func (s *deviceSession) Destroy(context.Context, object.OperationID, object.ID) error { return nil }
func (s *deviceSession) Encrypt(_ context.Context, _ object.OperationID, _ object.ID, _ object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	return bytes.Clone(data), nil, nil
}
func (s *deviceSession) Decrypt(_ context.Context, _ object.OperationID, _ object.ID, _ object.Mechanism, data []byte) ([]byte, object.Receipt, error) {
	return bytes.Clone(data), nil, nil
}
func (s *deviceSession) Wrap(context.Context, object.OperationID, object.ID, object.ID, object.Mechanism) ([]byte, error) {
	return nil, object.Errorf(object.ErrKeyUnextractable, "")
}
func (s *deviceSession) Unwrap(context.Context, object.OperationID, object.ID, object.Mechanism, []byte, object.Template) (object.ID, error) {
	return object.NewID(), nil
}

// newCertificate makes a self-signed certificate.
func newCertificate(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func fingerprintOf(c tls.Certificate) Fingerprint { return sha256.Sum256(c.Certificate[0]) }

// running is a server that is served until the test's end.
type running struct {
	*Server
	address string
	stop    func() error // ends it and returns Serve's error; may be called again
}

func start(t testing.TB, o Options) *running {
	t.Helper()
	if o.Certificate.PrivateKey == nil {
		o.Certificate = newCertificate(t, "hsm")
	}
	if o.Logger == nil && testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = patience // the machine may be busy
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.handshakes.count() + len(s.handshakes.from); len(s.conns)+len(s.clients)+n > 0 {
			t.Errorf("after its end the server counts %d connections of %d clients, %d handshakes", len(s.conns), len(s.clients), n)
		}
		if n, m := s.metrics.sessions.Load(), s.metrics.inFlight.Load(); n+m != 0 {
			t.Errorf("after its end the server counts %d sessions, %d requests", n, m)
		}
	})
	return &running{s, listener.Addr().String(), stop}
}

// peer is a client that speaks the protocol by hand.
type peer struct {
	t      testing.TB
	conn   *tls.Conn
	frames *wire.Reader
	last   uint64
}

// dial makes a connection without a Hello.
func (r *running) dial(t testing.TB, certificate tls.Certificate) *peer {
	t.Helper()
	conn, err := tls.Dial("tcp", r.address, &tls.Config{
		Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, NextProtos: []string{wire.ALPN},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &peer{t: t, conn: conn, frames: wire.NewReader(conn, wire.MaxFrame)}
}

// connect makes a connection with a session, number 1.
func (r *running) connect(t testing.TB, certificate tls.Certificate) *peer {
	t.Helper()
	p := r.dial(t, certificate)
	p.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1, Software: "test"})
	p.want(object.OK)
	p.send(wire.OpOpenSession, &wire.OpenSessionRequest{})
	var opened wire.OpenSessionAnswer
	if err := opened.Decode(p.want(object.OK)); err != nil || opened.Session != 1 {
		t.Fatalf("OpenSession: %+v, %v", opened, err)
	}
	return p
}

func (p *peer) send(op wire.Op, m answer) uint64 {
	p.t.Helper()
	return p.sendWithin(op, 0, m)
}

func (p *peer) sendWithin(op wire.Op, milliseconds uint32, m answer) uint64 {
	p.t.Helper()
	p.last++
	b := m.Append(wire.BeginRequest(nil, wire.Request{ID: p.last, Op: op, Deadline: milliseconds, Operation: object.OperationID{0xab}}))
	if !wire.End(b, 0) {
		p.t.Fatalf("%v: too long", op)
	}
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("sending %v: %v", op, err)
	}
	return p.last
}

// receive returns the next answer.
func (p *peer) receive() (wire.Answer, []byte) {
	p.t.Helper()
	frame, err := p.frames.Next()
	if err != nil {
		p.t.Fatalf("reading an answer: %v", err)
	}
	head, body, err := wire.ParseAnswer(frame)
	if err != nil {
		p.t.Fatal(err)
	}
	return head, body
}

// want takes the next answer, which must be that of the last request and have
// the code.
func (p *peer) want(code object.Code) []byte {
	p.t.Helper()
	head, body := p.receive()
	if head.ID != p.last || head.Code != code {
		p.t.Fatalf("answer %d: %v %q; want %d: %v", head.ID, head.Code, body, p.last, code)
	}
	return body
}

// wantEnd expects the server to end the connection.
func (p *peer) wantEnd() {
	p.t.Helper()
	frame, err := p.frames.Next()
	if err == nil {
		p.t.Fatalf("an answer (%x), want the connection's end", frame)
	}
	if timeout, is := errors.AsType[net.Error](err); is && timeout.Timeout() {
		p.t.Fatal("the connection did not end")
	}
}

func sign(data byte) *wire.UseRequest {
	return &wire.UseRequest{Session: 1, Mechanism: object.Mechanism{Type: object.MechECDSA}, Data: bytes.Repeat([]byte{data}, 32)}
}

// wait receives from c, or fails the test.
func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waiting for %s", what)
		panic("unreachable")
	}
}
