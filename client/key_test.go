package client

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

func newRSAKey(t testing.TB, c *Client, label string) Key {
	t.Helper()
	usage := NewTemplate(TextAttr(AttrLabel, label), BoolAttr(AttrSign, true), BoolAttr(AttrDecrypt, true))
	pair, err := c.GenerateRSA(t.Context(), 2048, NewTemplate(BoolAttr(AttrEncrypt, true)), usage)
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.Key(t.Context(), pair.Private)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeysAreFound(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	ctx := t.Context()
	key := newECKey(t, c, "web")
	newECKey(t, c, "twice")
	newECKey(t, c, "twice")
	attributes, err := c.Attributes(ctx, key.ID(), AttrID)
	if err != nil {
		t.Fatal(err)
	}
	keyID, _ := attributes.Get(AttrID)
	for name, find := range map[string]func() (Key, error){
		"public": func() (Key, error) { return c.FindKeyByPublic(ctx, key.Public()) },
		"label":  func() (Key, error) { return c.FindKeyByLabel(ctx, "web") },
		"CKA_ID": func() (Key, error) { return c.FindKeyByKeyID(ctx, keyID) },
	} {
		got, err := find()
		if err != nil || got.ID() != key.ID() || got.Label() != "web" || !got.Public().(*ecdsa.PublicKey).Equal(key.Public()) {
			t.Errorf("by %s: %+v, %v", name, got, err)
		}
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := c.Find(ctx, NewTemplate(NumberAttr(AttrClass, uint64(ClassPublicKey))))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		find func() (Key, error)
		code Code
		text string
	}{
		"another public key": {func() (Key, error) { return c.FindKeyByPublic(ctx, other.Public()) }, ErrKeyHandle, "no private key"},
		"another label":      {func() (Key, error) { return c.FindKeyByLabel(ctx, "none") }, ErrKeyHandle, `"none" in partition "p1"`},
		"a label of two":     {func() (Key, error) { return c.FindKeyByLabel(ctx, "twice") }, ErrKeyHandle, "2 private keys"},
		"no object":          {func() (Key, error) { return c.Key(ctx, ID{1}) }, ErrKeyHandle, "cmu list"},
		"a public object":    {func() (Key, error) { return c.Key(ctx, public[0].ID) }, ErrKeyType, "public object"},
	} {
		_, err := test.find()
		e, is := errors.AsType[*Error](err)
		if !is || e.Stage != StageKey || CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) || Unavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRSASignatures(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	key := newRSAKey(t, c, "rsa")
	public := key.Public().(*rsa.PublicKey)
	digest := sha256.Sum256([]byte("m"))
	long := sha512.Sum512([]byte("m"))

	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	for _, test := range []struct{ ask, salt int }{
		{rsa.PSSSaltLengthAuto, 64}, {rsa.PSSSaltLengthEqualsHash, 64}, {20, 20}, {64, 64},
	} {
		signature, err := key.Sign(nil, long[:], &rsa.PSSOptions{SaltLength: test.ask, Hash: crypto.SHA512})
		if err != nil {
			t.Errorf("salt length %d: %v", test.ask, err)
			continue
		}
		if err := rsa.VerifyPSS(public, crypto.SHA512, long[:], signature, &rsa.PSSOptions{SaltLength: test.salt}); err != nil {
			t.Errorf("salt length %d: %v", test.ask, err)
		}
	}
	for name, test := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
		want   Code
	}{
		"no options":         {digest[:], nil, ErrArgumentsBad},
		"the message itself": {[]byte("message"), crypto.SHA256, ErrDataLength},
		"no hash":            {digest[:], crypto.Hash(0), ErrMechanismParam},
		"SHA-1":              {digest[:20], crypto.SHA1, ErrMechanismParam},
		"salt too long":      {digest[:], &rsa.PSSOptions{SaltLength: 33, Hash: crypto.SHA256}, ErrMechanismParam},
		"salt of -2":         {digest[:], &rsa.PSSOptions{SaltLength: -2, Hash: crypto.SHA256}, ErrMechanismParam},
	} {
		if _, err := key.Sign(nil, test.digest, test.opts); CodeOf(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestRSADecryptionIsNoOracle(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	key := newRSAKey(t, c, "rsa")
	public := key.Public().(*rsa.PublicKey)
	secret := bytes.Repeat([]byte{0x42}, 48)
	//lint:ignore SA1019 it is what TLS clients send
	ciphertext, err := rsa.EncryptPKCS1v15(rand.Reader, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 it is what crypto/tls asks with
	opts := &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48}
	decrypter := key.(crypto.Decrypter)
	if got, err := decrypter.Decrypt(nil, ciphertext, opts); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Decrypt: %x, %v", got, err)
	}
	// What is not a ciphertext at all decrypts to bytes of the length asked.
	bad := bytes.Clone(ciphertext)
	bad[100] ^= 1
	if got, err := decrypter.Decrypt(nil, bad, opts); err != nil || len(got) != 48 || bytes.Equal(got, secret) {
		t.Errorf("Decrypt of a changed ciphertext: %x, %v", got, err)
	}
	for name, test := range map[string]struct {
		ciphertext []byte
		opts       crypto.DecrypterOpts
		want       Code
	}{
		"no options": {ciphertext, nil, ErrMechanismParam},
		//lint:ignore SA1019 what is refused
		"nil options": {ciphertext, (*rsa.PKCS1v15DecryptOptions)(nil), ErrMechanismParam},
		//lint:ignore SA1019 what is refused
		"no length": {ciphertext, &rsa.PKCS1v15DecryptOptions{}, ErrMechanismParam},
		//lint:ignore SA1019 what is refused
		"too long":         {ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 246}, ErrMechanismParam},
		"OAEP":             {ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256}, ErrEncryptedData},
		"nil OAEP":         {ciphertext, (*rsa.OAEPOptions)(nil), ErrMechanismParam},
		"OAEP with SHA-1":  {ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA1}, ErrMechanismParam},
		"OAEP, two hashes": {ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256, MGFHash: crypto.SHA512}, ErrMechanismParam},
		"short":            {ciphertext[1:], opts, ErrEncryptedData},
	} {
		if _, err := decrypter.Decrypt(nil, test.ciphertext, test.opts); CodeOf(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, is := newECKey(t, c, "ec").(crypto.Decrypter); is {
		t.Error("an ECDSA key is a crypto.Decrypter: crypto/tls refuses that")
	}
}

// ecdsaASN1 agrees with encoding/asn1 on every kind of integer.
func TestECDSASignatureEncoding(t *testing.T) {
	t.Parallel()
	for _, size := range []int{32, 48, 66} {
		for _, first := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			for zeros := range 3 {
				raw := bytes.Repeat([]byte{0xa5}, 2*size)
				raw[zeros], raw[size+zeros] = first, first
				for i := range zeros {
					raw[i], raw[size+i] = 0, 0
				}
				want, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
				if err != nil {
					t.Fatal(err)
				}
				if got := ecdsaASN1(raw); !bytes.Equal(got, want) {
					t.Errorf("%x became %x, want %x", raw, got, want)
				}
			}
		}
	}
}

func TestX509SignsWithKeys(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	for name, key := range map[string]Key{"RSA": newRSAKey(t, c, "rsa"), "EC": newECKey(t, c, "ec")} {
		for _, algorithm := range map[string][]x509.SignatureAlgorithm{
			"RSA": {x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA256WithRSAPSS, x509.SHA512WithRSAPSS},
			"EC":  {x509.ECDSAWithSHA256, x509.ECDSAWithSHA384},
		}[name] {
			leaf := issue(t, key, algorithm, "localhost")
			if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
				t.Errorf("%v: %v", algorithm, err)
			}
		}
	}
}

// issue makes a certificate that the key signs for itself.
func issue(t *testing.T, key Key, algorithm x509.SignatureAlgorithm, host string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		SignatureAlgorithm: algorithm, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestTLSServersUseKeys(t *testing.T) {
	t.Parallel()
	_, c := newClient(t)
	rsaKey, ecKey := newRSAKey(t, c, "rsa"), newECKey(t, c, "ec")
	for _, test := range []struct {
		name    string
		key     Key
		version uint16
		suite   uint16
	}{
		{"TLS 1.2 RSA key exchange", rsaKey, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256},
		{"TLS 1.2 ECDHE RSA", rsaKey, tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"TLS 1.2 ECDHE ECDSA", ecKey, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"TLS 1.3 RSA-PSS", rsaKey, tls.VersionTLS13, 0},
		{"TLS 1.3 ECDSA", ecKey, tls.VersionTLS13, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			leaf := issue(t, test.key, 0, "localhost")
			roots := x509.NewCertPool()
			roots.AddCert(leaf)
			server := &tls.Config{
				Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: test.key.WithContext(t.Context())}},
				CipherSuites: []uint16{test.suite}, MinVersion: test.version, MaxVersion: test.version,
			}
			client := &tls.Config{RootCAs: roots, ServerName: "localhost", CipherSuites: []uint16{test.suite}, MaxVersion: test.version}
			here, there := net.Pipe()
			defer here.Close()
			served := make(chan error, 1)
			go func() {
				defer there.Close()
				conn := tls.Server(there, server)
				_, err := io.WriteString(conn, "hello")
				served <- err
			}()
			conn := tls.Client(here, client)
			conn.SetDeadline(time.Now().Add(testPatience))
			got := make([]byte, 5)
			if _, err := io.ReadFull(conn, got); err != nil {
				t.Errorf("client: %v", err)
			}
			if err := <-served; err != nil {
				t.Errorf("server: %v", err)
			}
			if state := conn.ConnectionState(); string(got) != "hello" || state.Version != test.version || test.suite != 0 && state.CipherSuite != test.suite {
				t.Errorf("%q over %x with suite %x", got, state.Version, state.CipherSuite)
			}
		})
	}
}
