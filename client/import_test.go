package client

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
)

// The vectors of RFC 5649, section 6.
func TestKWP(t *testing.T) {
	t.Parallel()
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	block, err := aes.NewCipher(unhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	if err != nil {
		t.Fatal(err)
	}
	for plaintext, want := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		if got := kwpWrap(block, unhex(plaintext)); hex.EncodeToString(got) != want {
			t.Errorf("%s became %x, want %s", plaintext, got, want)
		}
	}
}

func TestImportPrivateKeys(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	xKey, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("m"))
	for name, test := range map[string]struct {
		key   any
		check func(Key) bool
	}{
		"RSA": {rsaKey, func(k Key) bool {
			s, err := k.Sign(nil, digest[:], crypto.SHA256)
			return err == nil && rsa.VerifyPKCS1v15(&rsaKey.PublicKey, crypto.SHA256, digest[:], s) == nil
		}},
		"EC": {ecKey, func(k Key) bool {
			s, err := k.Sign(nil, digest[:], crypto.SHA256)
			return err == nil && ecdsa.VerifyASN1(&ecKey.PublicKey, digest[:], s)
		}},
		"Ed25519": {edKey, func(k Key) bool {
			s, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
			return err == nil && ed25519.Verify(edPublic, []byte("m"), s)
		}},
		"X25519": {xKey, nil},
	} {
		id, err := c.ImportKey(ctx, test.key, NewTemplate(TextAttr(AttrLabel, name)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if test.check == nil {
			if public, err := c.PublicKey(ctx, id); err != nil || !xKey.PublicKey().Equal(public) {
				t.Errorf("%s: %v, %v", name, public, err)
			}
			continue
		}
		key, err := c.Key(ctx, id)
		if err != nil || key.Label() != name || !test.check(key) {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
	noTemporaryKeys(t, c, 4)

	onCurve, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"a public key": edPublic, "nothing": nil, "no bytes": []byte{}, "ECDH on P-256": onCurve} {
		if _, err := c.ImportKey(ctx, key, nil); err == nil || !strings.Contains(err.Error(), "importing") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// noTemporaryKeys expects as many objects as there are, none of them of an
// import's own.
func noTemporaryKeys(t *testing.T, c *Client, want int) {
	t.Helper()
	found, err := c.Find(t.Context(), nil, AttrLabel)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if strings.Contains(f.Attributes.Text(AttrLabel), "temporary") {
			t.Errorf("%q is left", f.Attributes.Text(AttrLabel))
		}
	}
	if len(found) != want {
		t.Errorf("%d objects, want %d", len(found), want)
	}
}

// TestImportLeavesNoPair: wherever an import ends, its own keys are destroyed.
func TestImportLeavesNoPair(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		op   string
		fail func(*Client, context.CancelFunc) error
	}{
		"refused":                    {"Unwrap", func(*Client, context.CancelFunc) error { return object.Errorf(ErrPolicy, "no imports") }},
		"refused before":             {"Attributes", func(*Client, context.CancelFunc) error { return object.Errorf(ErrGeneral, "") }},
		"given up":                   {"Unwrap", func(_ *Client, cancel context.CancelFunc) error { cancel(); return object.Errorf(ErrGeneral, "") }},
		"the pair's answer was lost": {"Attributes", func(c *Client, cancel context.CancelFunc) error { cancel(); c.ready.Load().conn.Close(); return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, c := newClient(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			k.set(func() {
				k.before = func(op string) error {
					if op == test.op {
						return test.fail(c, cancel)
					}
					return nil
				}
			})
			if _, err := c.ImportKey(ctx, make([]byte, 32), nil); err == nil {
				t.Error("the import succeeded")
			}
			k.set(func() { k.before = nil })
			if err := c.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			noTemporaryKeys(t, c, 0)
		})
	}
}

// TestImportSaysWhatIsLeft where the pair cannot be destroyed; the key is
// there all the same.
func TestImportSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	k.set(func() {
		k.before = func(op string) error {
			if op == "Destroy" {
				return object.Errorf(ErrAuditFailed, "")
			}
			return nil
		}
	})
	id, err := c.ImportKey(t.Context(), make([]byte, 32), nil)
	if id == (ID{}) || !errors.Is(err, &HSMError{Code: ErrAuditFailed}) || !strings.Contains(err.Error(), `"temporary import key `) {
		t.Errorf("ImportKey: %v, %v", id, err)
	}
}

// TestImportTakesLargerKeys where the partition's policy has no smaller ones.
func TestImportTakesLargerKeys(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	asked := 0
	k.set(func() {
		k.before = func(op string) error {
			if op == "Generate" {
				if asked++; asked == 1 {
					return object.Errorf(ErrPolicy, "min-rsa-bits is 4096")
				}
				return object.Errorf(ErrBusy, "this test does not wait for RSA-4096")
			}
			return nil
		}
	})
	if _, err := c.ImportKey(t.Context(), make([]byte, 32), nil); CodeOf(err) != ErrBusy || asked != 2 {
		t.Errorf("%v after %d attempts", err, asked)
	}
}
