package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/gw/flow"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/partition"
)

// hsm is a network HSM on disk with one partition and one client; start serves
// it at a fixed address.
type hsm struct {
	t       *testing.T
	dir     string
	address string
	client  tls.Certificate
	stop    func()
}

func newHSM(t *testing.T) *hsm {
	t.Helper()
	h := &hsm{t: t, dir: filepath.Join(t.TempDir(), "hsm"), stop: func() {}}
	so, co := []byte("so-password"), []byte("co-password")
	if _, err := daemon.Init(daemon.InitOptions{Dir: h.dir, Label: "test", Hosts: []string{"127.0.0.1"}, Officer: so}); err != nil {
		t.Fatal(err)
	}
	cert, key, err := client.NewCertificate("gateway")
	if err != nil {
		t.Fatal(err)
	}
	if h.client, err = tls.X509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	appliance, err := daemon.Open(daemon.Options{Dir: h.dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	officer, err := appliance.HSM.AuthenticateOfficer(t.Context(), partition.Operator{Name: "test", From: "here"}, so)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return officer.CreatePartition(t.Context(), "p") },
		func() error { return officer.InitCryptoOfficer(t.Context(), "p", co) },
		func() error {
			return officer.RegisterClient(t.Context(), partition.Registration{Name: "gateway", Address: "127.0.0.1", Certificate: cert})
		},
		func() error { return officer.AssignPartition(t.Context(), "gateway", "p") },
		appliance.Close,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	h.address = "127.0.0.1:0"
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start serves the HSM until stop is called, from then on at the same address.
func (h *hsm) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Dir: h.dir, Listen: h.address, Logger: slog.New(slog.DiscardHandler),
			Ready: func(at daemon.Addresses) { ready <- at.NTLS },
		})
	}()
	select {
	case h.address = <-ready:
	case err := <-ended:
		cancel()
		h.t.Fatalf("starting the HSM: %v", err)
	}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			h.t.Errorf("stopping the HSM: %v", err)
		}
	})
}

func (h *hsm) dial() *client.Client {
	h.t.Helper()
	pinned, err := client.LoadCertificates(daemon.In(h.dir).Certificate())
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := client.Dial(h.t.Context(), client.Config{
		Address: h.address, ServerCertificates: pinned, Certificate: h.client, Partition: "p",
		Role:       client.RoleCryptoOfficer,
		Password:   func() ([]byte, error) { return []byte("co-password"), nil },
		MaxBackoff: 100 * time.Millisecond,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// newKey makes a key pair and returns its public half.
func newKey(t *testing.T, c *client.Client, rsaKey bool) (client.KeyPair, crypto.PublicKey) {
	t.Helper()
	public := client.NewTemplate(client.BoolAttr(client.AttrVerify, true))
	private := client.NewTemplate(client.BoolAttr(client.AttrSign, true))
	var pair client.KeyPair
	var err error
	if rsaKey {
		pair, err = c.GenerateRSA(t.Context(), 2048, public.With(client.BoolAttr(client.AttrEncrypt, true)), private.With(client.BoolAttr(client.AttrDecrypt, true)))
	} else {
		pair, err = c.GenerateEC(t.Context(), elliptic.P256(), public, private)
	}
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	key, err := c.Key(t.Context(), pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	return pair, key.Public()
}

// TestNetwork uses keys on a real HSM, over TLS.
func TestNetwork(t *testing.T) {
	t.Parallel()
	h := newHSM(t)
	c := h.dial()
	provider := Network(c)
	if s := provider.Status(); !s.Ready || s.Stage != "" || s.Cause != "" {
		t.Errorf("status is %+v", s)
	}
	_, rsaPublic := newKey(t, c, true)
	ecPair, ecPublic := newKey(t, c, false)
	digest := sha256.Sum256([]byte("message"))

	meter := &flow.Meter{ID: flow.NewID()}
	ctx := flow.WithMeter(t.Context(), meter)
	key, err := provider.Key(ctx, rsaPublic)
	if err != nil {
		t.Fatal(err)
	}
	bound := key.Bind(ctx)
	public := rsaPublic.(*rsa.PublicKey)
	if sig, err := bound.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil {
		t.Errorf("PKCS #1 v1.5: %v", err)
	}
	pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	if sig, err := bound.Sign(rand.Reader, digest[:], pss); err != nil || rsa.VerifyPSS(public, crypto.SHA256, digest[:], sig, pss) != nil {
		t.Errorf("PSS: %v", err)
	}
	secret := bytes.Repeat([]byte{7}, 48)
	//lint:ignore SA1019 it is what crypto/tls's clients do in RSA key exchange
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 it is what crypto/tls asks with for RSA key exchange
	out, err := bound.(crypto.Decrypter).Decrypt(rand.Reader, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
	if err != nil || !bytes.Equal(out, secret) {
		t.Errorf("decrypting: %x, %v", out, err)
	}
	if calls, took := meter.Read(); calls != 4 || took <= 0 {
		t.Errorf("the meter counts %d calls in %v, want 4: the look-up and three uses", calls, took)
	}

	key, err = provider.Key(t.Context(), ecPublic)
	if err != nil {
		t.Fatal(err)
	}
	if sig, err := key.Bind(t.Context()).Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(ecPublic.(*ecdsa.PublicKey), digest[:], sig) {
		t.Errorf("ECDSA: %v", err)
	}
	if _, decrypts := key.Bind(t.Context()).(crypto.Decrypter); decrypts {
		t.Error("an ECDSA key decrypts")
	}

	// A key that is gone is looked up again, and found missing.
	if err := c.Destroy(t.Context(), ecPair.Private); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Bind(t.Context()).Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, ErrNotFound) {
		t.Errorf("a destroyed key's error is %v", err)
	}
	if _, err := provider.Key(t.Context(), ecPublic); !errors.Is(err, ErrNotFound) {
		t.Errorf("looking up a destroyed key: %v", err)
	}

	// The caller's own end is not the provider's.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := bound.Sign(rand.Reader, digest[:], crypto.MD5); err == nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) {
		t.Errorf("a digest that the HSM does not sign: %v", err)
	}
	key, err = provider.Key(t.Context(), rsaPublic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Bind(ended).Sign(rand.Reader, digest[:], crypto.SHA256); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("a handshake that was given up: %v", err)
	}

	h.stop()
	uses := 0
	for record, err := range audit.Records(daemon.In(h.dir).Audit(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if record.Kind == audit.Use && record.Op == meter.ID {
			uses++
		}
	}
	if uses != 3 {
		t.Errorf("the HSM's audit has %d uses under the flow's id, want 3", uses)
	}
}

// TestNetworkAway: the provider says so, and the same key works again when the
// HSM does.
func TestNetworkAway(t *testing.T) {
	t.Parallel()
	h := newHSM(t)
	c := h.dial()
	provider := Network(c)
	_, public := newKey(t, c, false)
	_, unseen := newKey(t, c, false)
	key, err := provider.Key(t.Context(), public)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("message"))

	h.stop()
	// The client notices that the connection broke, and that there is no other.
	for provider.Status().Stage != "tcp" {
		time.Sleep(time.Millisecond)
	}
	if s := provider.Status(); s.Ready || s.Cause == "" {
		t.Errorf("status is %+v", s)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := key.Bind(short).Sign(rand.Reader, digest[:], crypto.SHA256); !errors.Is(err, ErrUnavailable) {
		t.Errorf("signing: %v", err)
	}
	if _, err := provider.Key(short, unseen); !errors.Is(err, ErrUnavailable) {
		t.Errorf("looking up: %v", err)
	}

	h.start()
	if _, err := key.Bind(t.Context()).Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("with the HSM back: %v", err)
	}
	if s := provider.Status(); !s.Ready {
		t.Errorf("status is %+v", s)
	}
}
