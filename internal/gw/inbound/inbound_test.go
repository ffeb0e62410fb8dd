package inbound

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/keys/keystest"
)

const serverName = "shop.example.com"

// world is a protected server's certificates, whose keys are with a provider.
type world struct {
	t          testing.TB
	provider   *keystest.Provider
	rsa, ecdsa *certstore.Entry
	roots      *x509.CertPool
	// pipe connects both sides in memory, for tests with a time of their own.
	// It is not for clients that refuse a certificate: they do not read the
	// rest of the server's flight, and a net.Pipe's writes wait for that.
	pipe bool
}

// Names of the certificates in the store.
const (
	nameRSA   = "shop-rsa"
	nameECDSA = "shop-ecdsa"
)

// testRSA is shared, since making an RSA key takes long.
var testRSA = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return key
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, provider: &keystest.Provider{}, roots: x509.NewCertPool()}
	root, rootKey := issue(t, "root", newECDSA(t), nil, nil, true)
	middle, middleKey := issue(t, "middle", newECDSA(t), root, rootKey, true)
	w.roots.AddCert(root)
	var list []config.Certificate
	for name, key := range map[string]crypto.Signer{nameRSA: testRSA(), nameECDSA: newECDSA(t)} {
		w.provider.Add(key)
		leaf, _ := issue(t, serverName, key, middle, middleKey, false)
		list = append(list, config.Certificate{Name: name, Chain: []*x509.Certificate{leaf, middle, root}, OnHSM: true})
	}
	store, err := certstore.New(list, w.provider)
	if err != nil {
		t.Fatal(err)
	}
	if w.rsa, err = store.Certificate(nameRSA); err != nil {
		t.Fatal(err)
	}
	if w.ecdsa, err = store.Certificate(nameECDSA); err != nil {
		t.Fatal(err)
	}
	return w
}

func newECDSA(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, subject string, key crypto.Signer, parent *x509.Certificate, signer crypto.Signer, ca bool) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: subject},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: ca,
	}
	if !ca {
		template.DNSNames = []string{subject}
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (w *world) inbound(o Options) *Inbound {
	w.t.Helper()
	i, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

// outcome is what both sides of a handshake say.
type outcome struct {
	client    tls.ConnectionState
	clientErr error
	serverErr error
	meter     *flow.Meter
}

// handshake connects a client, and lets it read a byte, so that it has its
// session ticket.
func (w *world) handshake(ctx context.Context, i *Inbound, protocol string, client *tls.Config) outcome {
	w.t.Helper()
	o := outcome{meter: &flow.Meter{ID: flow.NewID()}}
	presented, err := i.Certify(ctx, &flow.CertifyRequest{Name: client.ServerName, Protocol: protocol})
	if err != nil {
		w.t.Fatal(err)
	}
	near, far := w.connect()
	defer near.Close()
	served := make(chan error, 1)
	go func() {
		defer far.Close()
		server := tls.Server(far, presented.Config)
		if err := server.HandshakeContext(flow.WithMeter(ctx, o.meter)); err != nil {
			served <- err
			return
		}
		_, err := server.Write([]byte{1})
		served <- err
	}()
	conn := tls.Client(near, client)
	if o.clientErr = conn.HandshakeContext(w.t.Context()); o.clientErr == nil {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			o.clientErr = err
		}
		o.client = conn.ConnectionState()
	}
	near.Close()
	o.serverErr = <-served
	return o
}

// connect returns both ends of a connection.
func (w *world) connect() (near, far net.Conn) {
	w.t.Helper()
	if w.pipe {
		return net.Pipe()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		w.t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		w.t.Fatal(err)
	}
	return near, far
}

func (w *world) client(edit ...func(*tls.Config)) *tls.Config {
	c := &tls.Config{ServerName: serverName, RootCAs: w.roots, NextProtos: []string{"h2", "http/1.1"}}
	for _, e := range edit {
		e(c)
	}
	return c
}

func only(version uint16, suites ...uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion, c.CipherSuites = version, version, suites }
}

func TestChoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	both := []*certstore.Entry{w.rsa, w.ecdsa}
	for _, test := range []struct {
		name    string
		options Options
		client  func(*tls.Config)
		want    string // the certificate; empty is a handshake that fails
		suite   uint16
	}{
		{"TLS 1.3", Options{Certificates: both}, only(tls.VersionTLS13), nameECDSA, 0},
		{"TLS 1.2", Options{Certificates: both}, only(tls.VersionTLS12), nameECDSA, 0},
		{"TLS 1.2, ECDHE_RSA alone", Options{Certificates: both}, only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384), nameRSA, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
		{"one RSA certificate, TLS 1.3", Options{Certificates: both[:1]}, only(tls.VersionTLS13), nameRSA, 0},
		{"one RSA certificate, TLS 1.2", Options{Certificates: both[:1]}, only(tls.VersionTLS12), nameRSA, 0},
		{"one ECDSA certificate, RSA suites", Options{Certificates: both[1:]}, only(tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384), "", 0},
		{"RSA key exchange, allowed", Options{Certificates: both, RSAKeyExchange: true}, only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256), nameRSA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		{"RSA key exchange with CBC, allowed", Options{Certificates: both, RSAKeyExchange: true}, only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_256_CBC_SHA), nameRSA, tls.TLS_RSA_WITH_AES_256_CBC_SHA},
		{"RSA key exchange, not allowed", Options{Certificates: both}, only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "", 0},
		{"RSA key exchange, allowed and not needed", Options{Certificates: both, RSAKeyExchange: true}, only(tls.VersionTLS12,
			tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), nameRSA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"RSA key exchange with an ECDSA certificate", Options{Certificates: both[1:], RSAKeyExchange: true}, only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256), "", 0},
		{"TLS 1.1", Options{Certificates: both}, only(tls.VersionTLS11), "", 0},
		{"TLS 1.1, allowed", Options{Certificates: both, MinVersion: tls.VersionTLS11}, only(tls.VersionTLS11), nameECDSA, 0},
		{"TLS 1.2, not allowed", Options{Certificates: both, MinVersion: tls.VersionTLS13}, only(tls.VersionTLS12), "", 0},
		{"TLS 1.3, not allowed", Options{Certificates: both, MaxVersion: tls.VersionTLS12}, only(tls.VersionTLS13), "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := w.handshake(t.Context(), w.inbound(test.options), "h2", w.client(test.client))
			if test.want == "" {
				if o.clientErr == nil {
					t.Fatal("the handshake succeeded")
				}
				if f := o.meter.Failure(); f != nil {
					t.Errorf("the key is blamed: %v", f)
				}
				return
			}
			if o.clientErr != nil || o.serverErr != nil {
				t.Fatalf("client: %v; server: %v", o.clientErr, o.serverErr)
			}
			name, leaf := o.meter.Presented()
			if name != test.want || !leaf.Equal(o.client.PeerCertificates[0]) {
				t.Errorf("the meter says %s was presented, want %s", name, test.want)
			}
			if test.suite != 0 && o.client.CipherSuite != test.suite {
				t.Errorf("the suite is %s, want %s", tls.CipherSuiteName(o.client.CipherSuite), tls.CipherSuiteName(test.suite))
			}
			if o.client.NegotiatedProtocol != "h2" {
				t.Errorf("protocol is %q", o.client.NegotiatedProtocol)
			}
			if n := len(o.client.PeerCertificates); n != 2 {
				t.Errorf("%d certificates were presented, want leaf and intermediate", n)
			}
			if calls, _ := o.meter.Read(); calls != 1 {
				t.Errorf("the meter counts %d calls, want 1", calls)
			}
		})
	}
}

// TestOtherName: a client that asks for another name gets a certificate and
// decides by itself.
func TestOtherName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa, w.ecdsa}})
	o := w.handshake(t.Context(), i, "", w.client(func(c *tls.Config) { c.ServerName = "other.example.com" }))
	if _, wrong := errors.AsType[x509.HostnameError](o.clientErr); !wrong {
		t.Errorf("the client says %v", o.clientErr)
	}
	if name, _ := o.meter.Presented(); name != nameECDSA {
		t.Errorf("%s was presented", name)
	}
}

func TestCertify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa}})
	p, err := one.Certify(t.Context(), &flow.CertifyRequest{Protocol: "h2"})
	if err != nil || p.Authority != nameRSA || p.Leaf != w.rsa.Leaf() {
		t.Errorf("got %+v, %v", p, err)
	}
	again, err := one.Certify(t.Context(), &flow.CertifyRequest{Protocol: "h2"})
	if err != nil || again.Config != p.Config {
		t.Error("the same protocol got another configuration")
	}
	for n := range 50 {
		if _, err := one.Certify(t.Context(), &flow.CertifyRequest{Protocol: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(one.configs); n != maxProtocols {
		t.Errorf("%d configurations are kept", n)
	}
	if w.provider.Uses() != 0 {
		t.Error("a key was used")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("an Inbound without certificates was made")
	}
}

// TestProviderAway: the cause of a handshake's failure is with the meter; a
// session that is resumed needs no key.
func TestProviderAway(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			i := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa, w.ecdsa}})
			resuming := w.client(only(version), func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) })
			if o := w.handshake(t.Context(), i, "h2", resuming); o.clientErr != nil || o.client.DidResume {
				t.Fatalf("first handshake: %v, resumed %v", o.clientErr, o.client.DidResume)
			}
			if err := i.Ready(serverName); err != nil {
				t.Errorf("Ready says %v", err)
			}

			w.provider.SetAway(true)
			if err := i.Ready(serverName); flow.FailureOf(err, "").Stage != flow.StageHSM || !errors.Is(err, keys.ErrUnavailable) {
				t.Errorf("Ready says %v", err)
			}
			o := w.handshake(t.Context(), i, "h2", w.client(only(version)))
			if o.clientErr == nil {
				t.Fatal("a full handshake succeeded without a key")
			}
			if f := o.meter.Failure(); f == nil || f.Stage != flow.StageHSM || !errors.Is(f, keys.ErrUnavailable) || !strings.Contains(f.Error(), nameECDSA) {
				t.Errorf("the meter says %v", f)
			}
			if o := w.handshake(t.Context(), i, "h2", resuming); o.clientErr != nil || !o.client.DidResume {
				t.Errorf("resuming: %v, resumed %v", o.clientErr, o.client.DidResume)
			}

			w.provider.SetAway(false)
			if o := w.handshake(t.Context(), i, "h2", w.client(only(version))); o.clientErr != nil {
				t.Errorf("with the provider back: %v", o.clientErr)
			}
		})
	}
}

// TestProviderHangs: the deadline ends the handshake.
func TestProviderHangs(t *testing.T) {
	t.Parallel()
	for _, exchange := range []struct {
		name   string
		client func(*tls.Config)
	}{
		{"signing", only(tls.VersionTLS13)},
		{"decrypting", only(tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)},
	} {
		t.Run(exchange.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.pipe = true
				i := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa}, RSAKeyExchange: true})
				w.provider.SetHang(true)
				began := time.Now()
				o := w.handshake(t.Context(), i, "", w.client(exchange.client))
				if o.clientErr == nil {
					t.Fatal("the handshake succeeded")
				}
				if took := time.Since(began); took != defaultSignTimeout {
					t.Errorf("the handshake ended after %v", took)
				}
				if f := o.meter.Failure(); f == nil || f.Stage != flow.StageHSM || !errors.Is(f, context.DeadlineExceeded) {
					t.Errorf("the meter says %v", f)
				}

				// One that is known to be away gets as long as it may take
				// to be back.
				w.provider.SetAway(true)
				began = time.Now()
				if o := w.handshake(t.Context(), i, "", w.client(exchange.client)); o.clientErr == nil || time.Since(began) != awayTimeout {
					t.Errorf("with the provider away the handshake ended after %v: %v", time.Since(began), o.clientErr)
				}
				w.provider.SetAway(false)

				// The handshake's own end comes first.
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				began = time.Now()
				if o := w.handshake(ctx, i, "", w.client(exchange.client)); o.serverErr == nil || time.Since(began) != 2*time.Second {
					t.Errorf("with a deadline of two seconds the handshake ended after %v: %v", time.Since(began), o.serverErr)
				}
			})
		})
	}
}

// TestResumptionStaysInside: a ticket of one server is nothing to another.
func TestResumptionStaysInside(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t)
		here := w.inbound(Options{Certificates: []*certstore.Entry{w.ecdsa}})
		there := w.inbound(Options{Certificates: []*certstore.Entry{w.ecdsa}})
		client := w.client(only(version), func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) })
		for n, step := range []struct {
			i        *Inbound
			protocol string
			resume   bool
		}{{here, "h2", false}, {here, "h2", true}, {here, "http/1.1", false}, {there, "http/1.1", false}} {
			o := w.handshake(t.Context(), step.i, step.protocol, client)
			if o.clientErr != nil || o.client.DidResume != step.resume {
				t.Errorf("%s, handshake %d: %v, resumed %v", tls.VersionName(version), n, o.clientErr, o.client.DidResume)
			}
		}
	}
}

// TestNoOracle: what a client sends as premaster secret is refused or random,
// and never blamed on the key.
func TestNoOracle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa}, RSAKeyExchange: true})
	meter := &flow.Meter{}
	bound := i.certificates[0].bind(flow.WithMeter(t.Context(), meter))
	decrypter := bound.PrivateKey.(crypto.Decrypter)
	//lint:ignore SA1019 it is what crypto/tls asks with for RSA key exchange
	opts := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}
	public := w.rsa.Leaf().PublicKey.(*rsa.PublicKey)

	garbage := make([]byte, public.Size())
	garbage[100] = 1
	if secret, err := decrypter.Decrypt(rand.Reader, garbage, opts); err != nil || len(secret) != 48 {
		t.Errorf("wrong padding: %d bytes, %v; want 48 random ones", len(secret), err)
	}
	before := w.provider.Uses()
	for _, none := range [][]byte{nil, garbage[1:], bytes.Repeat([]byte{0xff}, public.Size()), public.N.Bytes()} {
		if _, err := decrypter.Decrypt(rand.Reader, none, opts); err == nil {
			t.Errorf("%d bytes that are no ciphertext were decrypted", len(none))
		}
	}
	if w.provider.Uses() != before || meter.Failure() != nil {
		t.Errorf("the key was asked, or blamed: %v", meter.Failure())
	}
	if _, decrypts := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa}}).certificates[0].bind(t.Context()).PrivateKey.(crypto.Decrypter); decrypts {
		t.Error("without RSA key exchange the key decrypts")
	}
}

// TestOpenSSL: another implementation connects by each kind of key exchange.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl")
	}
	w := newWorld(t)
	i := w.inbound(Options{Certificates: []*certstore.Entry{w.rsa, w.ecdsa}, RSAKeyExchange: true})
	presented, err := i.Certify(t.Context(), &flow.CertifyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", presented.Config)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				conn.(*tls.Conn).Handshake()
				conn.Read(make([]byte, 1)) // until the client has gone
			})
		}
	})
	defer serving.Wait()
	defer listener.Close()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-tls1_3"}, "TLS_AES_"},
		{[]string{"-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"}, "Peer signature type: RSA-PSS"},
		{[]string{"-tls1_2"}, "ECDHE-ECDSA-"},
		{[]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, "ECDHE-RSA-AES128-GCM-SHA256"},
		{[]string{"-tls1_2", "-cipher", "AES256-GCM-SHA384"}, "Cipher is AES256-GCM-SHA384"},
	} {
		args := append([]string{"s_client", "-connect", listener.Addr().String(), "-servername", serverName}, test.args...)
		out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
		if !bytes.Contains(out, []byte(test.want)) {
			t.Errorf("%v: %v, want %q in\n%s", test.args, err, test.want, out)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b)
	for name, entry := range map[string]*certstore.Entry{"RSA": w.rsa, "ECDSA": w.ecdsa} {
		b.Run(name, func(b *testing.B) {
			i := w.inbound(Options{Certificates: []*certstore.Entry{entry}})
			client := w.client()
			for b.Loop() {
				if o := w.handshake(b.Context(), i, "h2", client); o.clientErr != nil {
					b.Fatal(o.clientErr)
				}
			}
		})
	}
}
