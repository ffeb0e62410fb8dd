package syslog

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An authority makes certificates, and writes them to files.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.path, _, a.cert, a.key = a.issue(t, "ca", nil)
	return a
}

// issue makes a certificate for localhost, or the authority's own.
func (a *authority) issue(t *testing.T, name string, parent *x509.Certificate) (certPath, keyPath string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	signer := a.key
	if parent == nil {
		template.IsCA, template.KeyUsage, parent, signer = true, x509.KeyUsageCertSign, template, key
	} else {
		template.DNSNames, template.KeyUsage = []string{"localhost"}, x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	for path, block := range map[string]*pem.Block{certPath: {Type: "CERTIFICATE", Bytes: der}, keyPath: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certPath, keyPath, cert, key
}

// A collector takes messages, and can be told to close, stall or go away.
type collector struct {
	addr   string
	config *tls.Config
	cert   *x509.Certificate

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	messages []string
	stalled  chan struct{} // not nil: reads nothing until it is closed
	done     sync.WaitGroup
}

func newCollector(t *testing.T, a *authority, demandClient bool) *collector {
	t.Helper()
	certPath, keyPath, cert, _ := a.issue(t, "server", a.cert)
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{conns: map[net.Conn]bool{}, cert: cert, config: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}
	if demandClient {
		c.config.ClientAuth, c.config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.config.ClientCAs.AddCert(a.cert)
	}
	c.addr = "127.0.0.1:0"
	c.up(t)
	t.Cleanup(c.down)
	return c
}

// up listens, at the same address as before.
func (c *collector) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	c.listener, c.addr = l, l.Addr().String()
	c.mu.Unlock()
	c.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns[conn] = true
			c.mu.Unlock()
			c.done.Go(func() { c.serve(tls.Server(conn, c.config)) })
		}
	})
}

func (c *collector) serve(conn *tls.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		c.mu.Lock()
		stalled := c.stalled
		c.mu.Unlock()
		if stalled != nil {
			if conn.Handshake() != nil {
				return
			}
			<-stalled
		}
		var size int
		if _, err := fmt.Fscanf(r, "%d ", &size); err != nil || size > MaxMessage {
			return
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		c.mu.Lock()
		c.messages = append(c.messages, string(b))
		c.mu.Unlock()
	}
}

// hangUp ends the connections.
func (c *collector) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

// down goes away.
func (c *collector) down() {
	c.mu.Lock()
	c.listener.Close()
	if c.stalled != nil {
		close(c.stalled)
		c.stalled = nil
	}
	c.mu.Unlock()
	c.hangUp()
	c.done.Wait()
}

func (c *collector) until(t *testing.T, n int) []string {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		got := c.messages
		c.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(limit) {
			t.Fatalf("%d messages, want %d", len(got), n)
		}
	}
}

func testOptions(addr string, a *authority) Options {
	return Options{
		Address: addr, ServerName: "localhost", CAFile: a.path, Hostname: "hsm.example", App: "moongate-hsm", Logger: slog.New(slog.DiscardHandler),
		settle: 200 * time.Millisecond, userTimeout: 5 * time.Second, backoff: time.Millisecond,
	}
}

func newSender(t *testing.T, opts Options) *Sender {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func message(mark int) Message {
	return Message{Mark: int64(mark), Severity: Notice, ID: "test", Data: []Element{{"audit@32473", []Param{{"seq", fmt.Sprint(mark)}}}}, Text: "hello"}
}

func send(t *testing.T, s *Sender, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.Send(t.Context(), message(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
}

func waitSettled(t *testing.T, s *Sender, mark int64) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); s.Settled() != mark; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("settled up to %d, want %d", s.Settled(), mark)
		}
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c := newCollector(t, a, true)
	opts := testOptions(c.addr, a)
	opts.Certificate, opts.Key, _, _ = a.issue(t, "client", a.cert)
	s := newSender(t, opts)
	start := time.Now()
	send(t, s, 0, 300)
	if s.Settled() != -1 && time.Since(start) < opts.settle {
		t.Errorf("settled up to %d at once", s.Settled())
	}
	got := c.until(t, 300)
	for i, m := range got {
		if !syntax.MatchString(m) || !strings.Contains(m, fmt.Sprintf(` hsm.example moongate-hsm %d test [audit@32473 seq="%d"] hello`, os.Getpid(), i)) {
			t.Fatalf("message %d is %q", i, m)
		}
	}
	waitSettled(t, s, 299)
	if st := s.Status(); !st.Connected || st.Messages != 300 || st.Err != nil {
		t.Errorf("%+v", st)
	}
}

// A connection that dies is told of, so that what had not settled is sent
// again; also when there is nothing to send.
func TestLostIsTold(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c := newCollector(t, a, false)
	s := newSender(t, testOptions(c.addr, a))
	send(t, s, 0, 10)
	waitSettled(t, s, 9)
	send(t, s, 10, 20)
	c.hangUp()
	var err error
	for limit := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		err = s.Flush()
	}
	if !errors.Is(err, ErrLost) {
		t.Fatalf("Flush: %v", err)
	}
	if settled := s.Settled(); settled != 9 {
		t.Errorf("settled up to %d, want 9", settled)
	}
	if st := s.Status(); st.Connected || st.Err == nil {
		t.Errorf("%+v", st)
	}
	send(t, s, 10, 30) // again, over a new connection
	c.until(t, 30)
	waitSettled(t, s, 29)

	// Away for a while: Send waits, and then sends.
	c.down()
	for err = nil; err == nil; time.Sleep(time.Millisecond) {
		err = s.Flush()
	}
	done := make(chan error)
	go func() { done <- s.Send(t.Context(), message(30)) }()
	select {
	case err := <-done:
		t.Fatalf("Send without a collector: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	c.up(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	waitSettled(t, s, 30)
	ctx, cancel := context.WithCancel(t.Context())
	c.down()
	for err = nil; err == nil; time.Sleep(time.Millisecond) {
		err = s.Flush()
	}
	cancel()
	if err := s.Send(ctx, message(31)); !errors.Is(err, context.Canceled) {
		t.Errorf("Send with a context that is done: %v", err)
	}
}

// A collector that stops reading is given up, in bounded time and memory.
func TestStalledCollector(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c := newCollector(t, a, false)
	c.mu.Lock()
	c.stalled = make(chan struct{})
	c.mu.Unlock()
	opts := testOptions(c.addr, a)
	opts.userTimeout, opts.settle = 200*time.Millisecond, 400*time.Millisecond
	s := newSender(t, opts)
	big := message(0)
	big.Text = strings.Repeat("x", maxText)
	start := time.Now()
	var err error
	for err == nil && time.Since(start) < 20*time.Second {
		err = s.Send(t.Context(), big)
		big.Mark++
	}
	if !errors.Is(err, ErrLost) {
		t.Errorf("Send: %v", err)
	}
	// What its machine has taken counts as arrived; what we still had does not.
	if s.Settled() >= big.Mark-1 {
		t.Errorf("settled up to %d, and %d could not be written", s.Settled(), big.Mark-1)
	}
}

// Nobody but the collector is sent anything.
func TestVerification(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	c := newCollector(t, a, false)
	demanding := newCollector(t, a, true)
	pin := sha256.Sum256(c.cert.Raw)
	wrong := sha256.Sum256(other.cert.Raw)
	for name, change := range map[string]func(*Options){
		"another authority":    func(o *Options) { o.CAFile = other.path },
		"another name":         func(o *Options) { o.ServerName = "elsewhere.example" },
		"another certificate":  func(o *Options) { o.CAFile, o.Fingerprint = "", hex.EncodeToString(wrong[:]) },
		"the address's own":    func(o *Options) { o.ServerName = "" }, // 127.0.0.1 is not in the certificate
		"no certificate of us": func(o *Options) { o.Address = demanding.addr },
	} {
		opts := testOptions(c.addr, a)
		change(&opts)
		s := newSender(t, opts)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		var err error
		for err == nil { // with TLS 1.3 the collector's refusal comes after the handshake
			err = s.Send(ctx, message(0))
			if ferr := s.Flush(); err == nil {
				err = ferr
			}
		}
		cancel()
		if st := s.Status(); st.Connected || st.Err == nil {
			t.Errorf("%s: %v, %+v", name, err, st)
		}
	}
	for _, l := range []*collector{c, demanding} {
		l.mu.Lock()
		if len(l.messages) > 0 {
			t.Errorf("somebody got %q", l.messages)
		}
		l.mu.Unlock()
	}
	opts := testOptions(c.addr, a)
	opts.CAFile, opts.Fingerprint, opts.ServerName = "", hex.EncodeToString(pin[:]), "any.example"
	send(t, newSender(t, opts), 0, 1)
	c.until(t, 1)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"expected host and port": func(o *Options) { o.Address = "collector" },
		"could be anybody":       func(o *Options) { o.CAFile = "" },
		"expected one of them":   func(o *Options) { o.Fingerprint = strings.Repeat("00", 32) },
		"64 hexadecimal digits":  func(o *Options) { o.CAFile, o.Fingerprint = "", "abc" },
		"no certificate in it":   func(o *Options) { o.CAFile = empty },
		"no such file":           func(o *Options) { o.CAFile += ".none" },
		"its key go together":    func(o *Options) { o.Certificate = a.path },
		"our certificate":        func(o *Options) { o.Certificate, o.Key = a.path, empty },
		"no logger":              func(o *Options) { o.Logger = nil },
	} {
		opts := testOptions("127.0.0.1:6514", a)
		change(&opts)
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
