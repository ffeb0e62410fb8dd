package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

func newEd25519Key(t testing.TB, c *Client) Key {
	t.Helper()
	pair, err := c.GenerateEd25519(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.Key(t.Context(), pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestEd25519Signatures(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	key := newEd25519Key(t, c)
	public := key.Public().(ed25519.PublicKey)
	for _, message := range [][]byte{nil, []byte("message"), make([]byte, MaxMessage)} {
		for _, opts := range []crypto.SignerOpts{crypto.Hash(0), &ed25519.Options{}} {
			signature, err := key.WithContext(t.Context()).Sign(nil, message, opts)
			if err != nil || !ed25519.Verify(public, message, signature) {
				t.Errorf("%d bytes: %v", len(message), err)
			}
		}
	}
	for name, test := range map[string]struct {
		message []byte
		opts    crypto.SignerOpts
		want    Code
	}{
		"no options":   {nil, nil, ErrArgumentsBad},
		"Ed25519ph":    {make([]byte, 64), &ed25519.Options{Hash: crypto.SHA512}, ErrMechanismParam},
		"a digest":     {make([]byte, 32), crypto.SHA256, ErrMechanismParam},
		"Ed25519ctx":   {nil, &ed25519.Options{Context: "x"}, ErrMechanismParam},
		"a long story": {make([]byte, MaxMessage+1), crypto.Hash(0), ErrDataLength},
	} {
		if _, err := key.Sign(nil, test.message, test.opts); CodeOf(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, is := key.(crypto.Decrypter); is {
		t.Error("an Ed25519 key is a crypto.Decrypter: crypto/tls refuses that")
	}
	if found, err := c.FindKeyByPublic(t.Context(), public); err != nil || found.ID() != key.ID() {
		t.Errorf("FindKeyByPublic: %v, %v", found, err)
	}
	// A certificate and a handshake with it.
	leaf := issue(t, key, x509.PureEd25519, "localhost")
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	here, there := net.Pipe()
	defer here.Close()
	served := make(chan error, 1)
	go func() {
		defer there.Close()
		_, err := io.WriteString(tls.Server(there, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}), "hello")
		served <- err
	}()
	conn := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	conn.SetDeadline(time.Now().Add(testPatience))
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestEveryCurveSigns(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	digest := sha512.Sum512([]byte("m"))
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		pair, err := c.GenerateEC(t.Context(), curve, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		key, err := c.Key(t.Context(), pair.Private)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := key.Sign(nil, digest[:], crypto.SHA512)
		if err != nil || !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
	}
	if _, err := c.GenerateEC(t.Context(), elliptic.P224(), nil, nil); err == nil {
		t.Error("a key on P-224 was made")
	}
}

func TestOAEP(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	key := newRSAKey(t, c, "rsa")
	for hash, opts := range map[crypto.Hash]*rsa.OAEPOptions{
		crypto.SHA256: {Hash: crypto.SHA256, Label: []byte("label")},
		crypto.SHA512: {Hash: crypto.SHA512, MGFHash: crypto.SHA512},
	} {
		ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte("plain"), opts.Label)
		if err != nil {
			t.Fatal(err)
		}
		got, err := key.(crypto.Decrypter).Decrypt(nil, ciphertext, opts)
		if err != nil || string(got) != "plain" {
			t.Errorf("%v: %q, %v", hash, got, err)
		}
		other := *opts
		other.Label = []byte("other")
		if _, err := key.(crypto.Decrypter).Decrypt(nil, ciphertext, &other); CodeOf(err) != ErrEncryptedData {
			t.Errorf("another label: %v", err)
		}
	}
}

func TestVerifyOnTheHSM(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	ctx := t.Context()
	local, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := c.StorePublicKey(ctx, local.Public(), NewTemplate(TextAttr(AttrLabel, "theirs")))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("m"))
	r, s, err := ecdsa.Sign(rand.Reader, local, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	m := Mechanism{Type: MechECDSA, Hash: HashSHA256}
	if err := c.Verify(ctx, public, m, digest[:], signature); err != nil {
		t.Error(err)
	}
	signature[5] ^= 1
	if err := c.Verify(ctx, public, m, digest[:], signature); CodeOf(err) != ErrSignatureInvalid {
		t.Errorf("a changed signature: %v", err)
	}
	if err := c.Verify(ctx, public, m, digest[:], signature[1:]); CodeOf(err) != ErrSignatureLength {
		t.Errorf("a short signature: %v", err)
	}
	if err := c.Verify(ctx, public, m, digest[:], make([]byte, 2000)); CodeOf(err) != ErrSignatureLength {
		t.Errorf("a long signature: %v", err)
	}
	got, err := c.PublicKey(ctx, public)
	if err != nil || !local.PublicKey.Equal(got) {
		t.Errorf("PublicKey: %v, %v", got, err)
	}
	// It is asked again when the connection breaks, as it changes nothing.
	k.set(func() {
		broken := false
		k.before = func(op string) error {
			if op == "Verify" && !broken {
				broken = true
				c.ready.Load().conn.Close()
			}
			return nil
		}
	})
	signature[5] ^= 1
	if err := c.Verify(ctx, public, m, digest[:], signature); err != nil {
		t.Errorf("over a connection that broke: %v", err)
	}
}

func TestMACs(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	usage := NewTemplate(BoolAttr(AttrSign, true), BoolAttr(AttrVerify, true))
	secret := bytes.Repeat([]byte{7}, 40)
	id, err := c.ImportKey(ctx, secret, usage)
	if err != nil {
		t.Fatal(err)
	}
	message := bytes.Repeat([]byte("message"), 1000)
	mac, err := c.MAC(ctx, id, MechSHA256HMAC, message)
	want := hmac.New(sha256.New, secret)
	want.Write(message)
	if err != nil || !hmac.Equal(mac, want.Sum(nil)) {
		t.Errorf("HMAC: %x, %v", mac, err)
	}
	if err := c.VerifyMAC(ctx, id, MechSHA256HMAC, message, mac); err != nil {
		t.Error(err)
	}
	if err := c.VerifyMAC(ctx, id, MechSHA256HMAC, message[1:], mac); CodeOf(err) != ErrSignatureInvalid {
		t.Errorf("another message: %v", err)
	}
	generated, err := c.GenerateSecret(ctx, 32, usage)
	if err != nil {
		t.Fatal(err)
	}
	if mac, err := c.MAC(ctx, generated, MechSHA512HMAC, message); err != nil || len(mac) != 64 {
		t.Errorf("HMAC with a key that was made there: %x, %v", mac, err)
	}
}

func TestCiphers(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	secret := bytes.Repeat([]byte{9}, 16)
	usage := NewTemplate(NumberAttr(AttrKeyType, uint64(KeyAES)), BoolAttr(AttrEncrypt, true), BoolAttr(AttrDecrypt, true))
	id, err := c.ImportKey(ctx, secret, usage)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	iv := bytes.Repeat([]byte{1}, 16)
	plaintext := []byte("thirty-two bytes are two blocks.")
	want := make([]byte, 32)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, plaintext)
	got, err := c.EncryptWith(ctx, id, Mechanism{Type: MechAESCBC, IV: iv}, plaintext)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("CBC: %x, %v; want %x", got, err, want)
	}
	for _, m := range []MechanismType{MechAESCBC, MechAESCBCPad, MechAESCTR} {
		ciphertext, err := c.EncryptWith(ctx, id, Mechanism{Type: m, IV: iv}, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.DecryptWith(ctx, id, Mechanism{Type: m, IV: iv}, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%v: %q, %v", m, got, err)
		}
	}
	for name, m := range map[string]Mechanism{
		"short IV": {Type: MechAESCBC, IV: iv[1:]}, "long IV": {Type: MechAESCBC, IV: make([]byte, 65)},
		"AAD": {Type: MechAESGCM, AAD: make([]byte, 65<<10)},
	} {
		if _, err := c.EncryptWith(ctx, id, m, plaintext); CodeOf(err) != ErrMechanismParam {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Encrypt(ctx, id, make([]byte, MaxMessage+1), nil); CodeOf(err) != ErrDataLength {
		t.Errorf("too long a plaintext: %v", err)
	}
	if !c.Status().Connected {
		t.Error("a refusal ended the connection")
	}
}

func TestWrapWith(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	target, err := c.GenerateAES(ctx, 32, NewTemplate(BoolAttr(AttrExtractable, true), BoolAttr(AttrEncrypt, true)))
	if err != nil {
		t.Fatal(err)
	}
	wrapping, err := c.GenerateAES(ctx, 32, NewTemplate(BoolAttr(AttrWrap, true), BoolAttr(AttrUnwrap, true)))
	if err != nil {
		t.Fatal(err)
	}
	ciphertext, err := c.Encrypt(ctx, target, []byte("plain"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []MechanismType{MechAESKW, MechAESKWP} {
		wrapped, err := c.WrapWith(ctx, wrapping, target, Mechanism{Type: m})
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.UnwrapWith(ctx, wrapping, Mechanism{Type: m}, wrapped,
			NewTemplate(NumberAttr(AttrClass, uint64(ClassSecretKey)), NumberAttr(AttrKeyType, uint64(KeyAES)), BoolAttr(AttrDecrypt, true)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Decrypt(ctx, id, ciphertext, nil); err != nil || string(got) != "plain" {
			t.Errorf("%v: %q, %v", m, got, err)
		}
	}
	if _, err := c.Unwrap(ctx, wrapping, make([]byte, 65<<10), nil); CodeOf(err) != ErrDataLength {
		t.Errorf("too long a wrapped key: %v", err)
	}
}

// TestStagesOfRefusals: what the HSM refuses names its stage, and what to do.
func TestStagesOfRefusals(t *testing.T) {
	t.Parallel()
	k, c := newClient(t)
	for code, want := range map[Code]Stage{
		ErrKeyDate: StageKey, ErrKeyNotPermitted: StageKey, ErrPolicy: StageRequest, ErrDelayed: StageLogin,
	} {
		k.set(func() { k.before = func(string) error { return object.Errorf(code, "because") } })
		_, err := c.Random(context.Background(), 1)
		e, is := err.(*Error)
		if !is || e.Stage != want || e.Fix == "" || CodeOf(err) != code {
			t.Errorf("%v: %v", code, err)
		}
	}
}
