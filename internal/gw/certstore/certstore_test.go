package certstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/keys/keystest"
)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func issue(t *testing.T, issuer *party, name string) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	parent, signer := template, crypto.Signer(key)
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func TestStore(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root")
	middle := issue(t, root, "middle")
	there, gone := issue(t, middle, "there"), issue(t, middle, "gone")
	provider := &keystest.Provider{}
	provider.Add(there.key)
	provider.SetAway(true) // at the start
	s, err := New([]config.Certificate{
		{Name: "there", Chain: []*x509.Certificate{there.cert, middle.cert, root.cert}, OnHSM: true},
		{Name: "gone", Chain: []*x509.Certificate{gone.cert}, OnHSM: true},
		{Name: "root", Chain: []*x509.Certificate{root.cert}},
	}, provider)
	if err != nil {
		t.Fatal(err)
	}
	states := func(want map[string]State) {
		t.Helper()
		for name, state := range want {
			if got, err := s.State(t.Context(), name); err != nil || got != state {
				t.Errorf("state of %s is %s, %v; want %s", name, got, err, state)
			}
		}
	}
	entry := func(name string) *Entry {
		t.Helper()
		e, err := s.Certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}

	states(map[string]State{"there": Unavailable, "gone": Unavailable, "root": NoKey})
	e := entry("there")
	if _, err := e.Key(t.Context()); !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), `"there"`) {
		t.Errorf("with the provider away the key's error is %v", err)
	}
	if err := e.Ready(); !errors.Is(err, keys.ErrUnavailable) || !strings.Contains(err.Error(), "took the provider away") {
		t.Errorf("with the provider away Ready says %v", err)
	}

	provider.SetAway(false)
	states(map[string]State{"there": Locked, "gone": Missing, "root": NoKey})
	key, err := e.Key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	signature, err := key.Bind(t.Context()).Sign(nil, digest, crypto.SHA256)
	if err != nil || !ecdsa.VerifyASN1(there.cert.PublicKey.(*ecdsa.PublicKey), digest, signature) {
		t.Errorf("the key's signature does not verify: %v", err)
	}
	if err := e.Ready(); err != nil {
		t.Errorf("Ready says %v", err)
	}
	if _, err := entry("gone").Key(t.Context()); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("the missing key's error is %v", err)
	}
	provider.Add(gone.key) // it was imported since
	states(map[string]State{"gone": Locked})
	provider.SetAway(true)
	states(map[string]State{"there": Unavailable})

	if _, err := s.Certificate("nobody"); err == nil {
		t.Error("a certificate was found that is not there")
	}
	if _, err := s.State(t.Context(), "nobody"); err == nil {
		t.Error("a certificate that is not there has a state")
	}
	if err := entry("root").Ready(); err == nil {
		t.Error("a certificate without a key is ready")
	}
}

func TestPresented(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, "root")
	middle := issue(t, root, "middle")
	leaf := issue(t, middle, "leaf")
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  []*x509.Certificate
	}{
		"leaf alone":                   {[]*x509.Certificate{leaf.cert}, []*x509.Certificate{leaf.cert}},
		"leaf and intermediate":        {[]*x509.Certificate{leaf.cert, middle.cert}, []*x509.Certificate{leaf.cert, middle.cert}},
		"the root is left out":         {[]*x509.Certificate{leaf.cert, middle.cert, root.cert}, []*x509.Certificate{leaf.cert, middle.cert}},
		"unless it is the certificate": {[]*x509.Certificate{root.cert}, []*x509.Certificate{root.cert}},
	} {
		got := (&Entry{Chain: test.chain}).Presented()
		if len(got) != len(test.want) {
			t.Errorf("%s: %d certificates, want %d", name, len(got), len(test.want))
			continue
		}
		for i := range got {
			if string(got[i]) != string(test.want[i].Raw) {
				t.Errorf("%s: certificate %d is another", name, i)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	c := issue(t, nil, "c").cert
	for name, list := range map[string][]config.Certificate{
		"an empty chain": {{Name: "a"}},
		"two of a name":  {{Name: "a", Chain: []*x509.Certificate{c}}, {Name: "a", Chain: []*x509.Certificate{c}}},
	} {
		if _, err := New(list, &keystest.Provider{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
