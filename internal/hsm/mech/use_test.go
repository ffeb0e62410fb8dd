package mech_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

var hashes = map[object.Hash]crypto.Hash{
	object.HashSHA256: crypto.SHA256, object.HashSHA384: crypto.SHA384, object.HashSHA512: crypto.SHA512,
}

func digestOf(h crypto.Hash) []byte {
	w := h.New()
	w.Write([]byte("message"))
	return w.Sum(nil)
}

func TestRSASignaturesVerify(t *testing.T) {
	t.Parallel()
	p := sharedRSA(t)
	public := publicKey(t, p.public).(*rsa.PublicKey)
	for ours, hash := range hashes {
		digest := digestOf(hash)
		sig, err := p.key.Sign(object.Mechanism{Type: object.MechRSAPKCS, Hash: ours}, digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := rsa.VerifyPKCS1v15(public, hash, digest, sig); err != nil {
			t.Errorf("PKCS #1 v1.5 with %v: %v", hash, err)
		}
		for _, salt := range []int{1, 20, hash.Size()} {
			sig, err := p.key.Sign(object.Mechanism{Type: object.MechRSAPSS, Hash: ours, SaltLength: uint32(salt)}, digest)
			if err != nil {
				t.Fatal(err)
			}
			if err := rsa.VerifyPSS(public, hash, digest, sig, &rsa.PSSOptions{SaltLength: salt}); err != nil {
				t.Errorf("PSS with %v and a salt of %d: %v", hash, salt, err)
			}
		}
	}
}

func TestECDSASignaturesVerify(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		params []byte
		size   int
	}{{p256, 32}, {p384, 48}} {
		p := newPair(t, ecPairGen, ecTemplate(test.params))
		public := publicKey(t, p.public).(*ecdsa.PublicKey)
		for ours, hash := range hashes {
			digest := digestOf(hash)
			for i := range 4 {
				m := object.Mechanism{Type: object.MechECDSA}
				if i%2 == 0 {
					m.Hash = ours
				}
				sig, err := p.key.Sign(m, digest)
				if err != nil {
					t.Fatal(err)
				}
				if len(sig) != 2*test.size {
					t.Fatalf("signature has %d bytes, want %d", len(sig), 2*test.size)
				}
				r, s := new(big.Int).SetBytes(sig[:test.size]), new(big.Int).SetBytes(sig[test.size:])
				if !ecdsa.Verify(public, digest, r, s) {
					t.Fatalf("signature %x does not verify", sig)
				}
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey := sharedRSA(t).key, newPair(t, ecPairGen, ecTemplate(p256)).key
	digest := make([]byte, 32)
	for _, test := range []struct {
		name   string
		key    *mech.Key
		m      object.Mechanism
		digest []byte
		want   object.Code
	}{
		{"PKCS without hash", rsaKey, object.Mechanism{Type: object.MechRSAPKCS}, digest, object.ErrMechanismParam},
		{"PKCS with SHA-1", rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: 0x220}, make([]byte, 20), object.ErrMechanismParam},
		{"PKCS with a short digest", rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}, digest[:31], object.ErrDataLength},
		{"PKCS with a salt", rsaKey, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256, SaltLength: 32}, digest, object.ErrMechanismParam},
		{"PSS without salt", rsaKey, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256}, digest, object.ErrMechanismParam},
		{"PSS with a long salt", rsaKey, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 33}, digest, object.ErrMechanismParam},
		{"PSS with a session key", rsaKey, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 32, SessionKeyLen: 48}, digest, object.ErrMechanismParam},
		{"ECDSA of another hash", ecKey, object.Mechanism{Type: object.MechECDSA, Hash: object.HashSHA384}, digest, object.ErrDataLength},
		{"ECDSA of no hash's digest", ecKey, object.Mechanism{Type: object.MechECDSA}, digest[:20], object.ErrDataLength},
		{"ECDSA of nothing", ecKey, object.Mechanism{Type: object.MechECDSA}, nil, object.ErrDataLength},
		{"ECDSA with AAD", ecKey, object.Mechanism{Type: object.MechECDSA, AAD: []byte{1}}, digest, object.ErrMechanismParam},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := test.key.Sign(test.m, test.digest)
			wantCode(t, "Sign", err, test.want)
		})
	}
}

func TestDecryptionIsNoOracle(t *testing.T) {
	t.Parallel()
	p := sharedRSA(t)
	public := publicKey(t, p.public).(*rsa.PublicKey)
	encrypt := func(size int) []byte {
		//lint:ignore SA1019 it is what is being tested
		out, err := rsa.EncryptPKCS1v15(rand.Reader, public, bytes.Repeat([]byte{0x5e}, size))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := bytes.Repeat([]byte{0x5e}, 48)
	m := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}

	if got, err := p.key.Decrypt(m, encrypt(48)); err != nil || !bytes.Equal(got, good) {
		t.Errorf("right: %x, %v", got, err)
	}
	seen := map[string]bool{string(good): true}
	unpadded := make([]byte, 256)
	unpadded[255] = 2 // 2^e mod n: decrypts to the number 2, which has no padding
	for name, ciphertext := range map[string][]byte{
		"a byte less": encrypt(47), "a byte more": encrypt(49), "nothing": encrypt(0),
		"no padding": unpadded, "zero": make([]byte, 256),
	} {
		first, err := p.key.Decrypt(m, ciphertext)
		if err != nil || len(first) != 48 || seen[string(first)] {
			t.Errorf("%s: %x, %v, want 48 bytes like no others", name, first, err)
		}
		seen[string(first)] = true
		// Asking again tells nothing, neither here nor at another copy.
		for _, key := range []*mech.Key{p.key, parse(t, p.private)} {
			if again, err := key.Decrypt(m, ciphertext); err != nil || !bytes.Equal(again, first) {
				t.Errorf("%s: %x, then %x, %v", name, first, again, err)
			}
		}
		longer, err := p.key.Decrypt(object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 100}, ciphertext)
		if err != nil || len(longer) != 100 || bytes.Contains(longer, first[:8]) {
			t.Errorf("%s: the rejection of 100 bytes is %x, %v", name, longer, err)
		}
	}
	other := newPair(t, rsaPairGen, rsaTemplate(2048))
	elsewhere, err := other.key.Decrypt(m, make([]byte, 256))
	if err != nil || seen[string(elsewhere)] {
		t.Errorf("another key rejects alike, or %v", err)
	}

	// What is refused can be seen without the private key.
	big := bytes.Repeat([]byte{0xff}, 256)
	for name, test := range map[string]struct {
		m          object.Mechanism
		ciphertext []byte
		want       object.Code
	}{
		"short ciphertext":    {m, encrypt(48)[1:], object.ErrDataLength},
		"no ciphertext":       {m, nil, object.ErrDataLength},
		"over the modulus":    {m, big, object.ErrEncryptedData},
		"no length":           {object.Mechanism{Type: object.MechRSAPKCS}, encrypt(48), object.ErrMechanismParam},
		"length can be tried": {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 8}, encrypt(8), object.ErrMechanismParam},
		"length over 256":     {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 257}, encrypt(48), object.ErrMechanismParam},
		"no room":             {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 246}, encrypt(48), object.ErrMechanismParam},
	} {
		_, err := p.key.Decrypt(test.m, test.ciphertext)
		wantCode(t, name, err, test.want)
	}
	room := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 245}
	if got, err := p.key.Decrypt(room, encrypt(245)); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{0x5e}, 245)) {
		t.Errorf("longest: %x, %v", got, err)
	}
}

func TestGCM(t *testing.T) {
	t.Parallel()
	key, material := newAES(t, 32)
	m := object.Mechanism{Type: object.MechAESGCM, AAD: []byte("about it")}
	sealed, err := key.Encrypt(m, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) != len("plaintext")+mech.GCMOverhead {
		t.Errorf("ciphertext has %d bytes", len(sealed))
	}
	// Others can open it: nonce || ciphertext || tag.
	block, err := aes.NewCipher(material.Secret)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := gcm.Open(nil, sealed[:12], sealed[12:], m.AAD); err != nil || string(got) != "plaintext" {
		t.Errorf("opened elsewhere: %q, %v", got, err)
	}
	if got, err := key.Decrypt(m, sealed); err != nil || string(got) != "plaintext" {
		t.Errorf("opened here: %q, %v", got, err)
	}
	again, err := key.Encrypt(m, []byte("plaintext"))
	if err != nil || bytes.Equal(again[:12], sealed[:12]) {
		t.Errorf("the nonce came twice, or %v", err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := key.Decrypt(m, changed); object.CodeOf(err) != object.ErrEncryptedData {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	_, err = key.Decrypt(object.Mechanism{Type: object.MechAESGCM}, sealed)
	wantCode(t, "other AAD", err, object.ErrEncryptedData)
	_, err = key.Decrypt(m, sealed[:20])
	wantCode(t, "cut", err, object.ErrEncryptedData)
	_, err = key.Encrypt(object.Mechanism{Type: object.MechAESGCM, AAD: make([]byte, mech.MaxAAD+1)}, nil)
	wantCode(t, "much AAD", err, object.ErrMechanismParam)
}

func secretTemplate(extra ...object.Attribute) object.Template {
	return object.New(append(extra, object.Number(object.AttrClass, uint64(object.ClassSecretKey)),
		object.Number(object.AttrKeyType, uint64(object.KeyAES)))...)
}

func TestWrapAndUnwrap(t *testing.T) {
	t.Parallel()
	wrapping, _ := newAES(t, 32)
	m := object.Mechanism{Type: object.MechAESKWP}
	for _, size := range []uint64{16, 24, 32} {
		target, material := newAES(t, size)
		wrapped, err := wrapping.Wrap(m, target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wrapping.Unwrap(m, wrapped, secretTemplate(object.Text(object.AttrLabel, "back"), object.Bool(object.AttrEncrypt, true)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Secret, material.Secret) {
			t.Error("another key came back")
		}
		a := got.Attributes
		if a.Text(object.AttrLabel) != "back" || !a.Bool(object.AttrEncrypt) || !a.Bool(object.AttrSensitive) ||
			a.Bool(object.AttrLocal) || a.Bool(object.AttrAlwaysSensitive) || a.Bool(object.AttrNeverExtractable) {
			t.Errorf("attributes of the unwrapped key: %v", a)
		}
		if n, _ := a.Number(object.AttrValueLen); n != size {
			t.Errorf("CKA_VALUE_LEN is %d, want %d", n, size)
		}
		checkWritable(t, a)
	}
}

func TestUnwrapRefuses(t *testing.T) {
	t.Parallel()
	wrapping, _ := newAES(t, 32)
	other, _ := newAES(t, 32)
	m := object.Mechanism{Type: object.MechAESKWP}
	wrapped, err := wrapping.Wrap(m, other)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		key     *mech.Key
		wrapped []byte
		t       object.Template
		want    object.Code
	}{
		{"another key", other, wrapped, secretTemplate(), object.ErrEncryptedData},
		{"cut", wrapping, wrapped[:32], secretTemplate(), object.ErrEncryptedData},
		{"nothing", wrapping, nil, secretTemplate(), object.ErrEncryptedData},
		{"too long", wrapping, make([]byte, mech.MaxWrapped+16), secretTemplate(), object.ErrEncryptedData},
		{"no class", wrapping, wrapped, nil, object.ErrTemplateIncomplete},
		{"no key type", wrapping, wrapped, secretTemplate().Without(object.AttrKeyType), object.ErrTemplateIncomplete},
		{"as a private key", wrapping, wrapped, object.New(object.Number(object.AttrClass, uint64(object.ClassPrivateKey))), object.ErrTemplateIncomplete},
		{"another length", wrapping, wrapped, secretTemplate(object.Number(object.AttrValueLen, 16)), object.ErrTemplateInconsist},
		{"local", wrapping, wrapped, secretTemplate(object.Bool(object.AttrLocal, true)), object.ErrAttributeReadOnly},
		{"insensitive", wrapping, wrapped, secretTemplate(object.Bool(object.AttrSensitive, false)), object.ErrTemplateInconsist},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := test.key.Unwrap(m, test.wrapped, test.t)
			wantCode(t, "Unwrap", err, test.want)
			if got.Secret != nil {
				t.Error("a refusal came with a key")
			}
		})
	}
	public, err := mech.Policy{}.ParsePublic(sharedRSA(t).public.Attributes)
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrapping.Wrap(m, public)
	wantCode(t, "wrapping a public key", err, object.ErrKeyUnextractable)
}

// What was wrapped cannot be decrypted, whatever the key may do.
func TestWrappedKeysAreNotDecrypted(t *testing.T) {
	t.Parallel()
	wrapping, _ := newAES(t, 32)
	wrapped, err := wrapping.Wrap(object.Mechanism{Type: object.MechAESKWP}, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	_, err = wrapping.Decrypt(object.Mechanism{Type: object.MechAESKWP}, wrapped)
	wantCode(t, "Decrypt with KWP", err, object.ErrMechanism)
	_, err = wrapping.Decrypt(object.Mechanism{Type: object.MechAESGCM}, wrapped)
	wantCode(t, "Decrypt with GCM", err, object.ErrEncryptedData)
}

func TestKeysServeManyGoroutines(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey := sharedRSA(t).key, newPair(t, ecPairGen, ecTemplate(p256)).key
	aesKey, _ := newAES(t, 32)
	digest := sha256.Sum256(nil)
	use := []func() error{
		func() error {
			_, err := rsaKey.Sign(object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 32}, digest[:])
			return err
		},
		func() error {
			_, err := rsaKey.Decrypt(object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}, make([]byte, 256))
			return err
		},
		func() error { _, err := ecKey.Sign(object.Mechanism{Type: object.MechECDSA}, digest[:]); return err },
		func() error {
			m := object.Mechanism{Type: object.MechAESGCM}
			sealed, err := aesKey.Encrypt(m, digest[:])
			if err != nil {
				return err
			}
			_, err = aesKey.Decrypt(m, sealed)
			return err
		},
		func() error {
			m := object.Mechanism{Type: object.MechAESKWP}
			wrapped, err := aesKey.Wrap(m, aesKey)
			if err != nil {
				return err
			}
			_, err = aesKey.Unwrap(m, wrapped, secretTemplate())
			return err
		},
	}
	var wg sync.WaitGroup
	errs := make(chan error, 8*len(use))
	for range 8 {
		for _, f := range use {
			wg.Go(func() {
				for range 5 {
					if err := f(); err != nil {
						errs <- err
						return
					}
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestRefusalsHoldNoKeyBytes(t *testing.T) {
	t.Parallel()
	secret := []byte("THE SECRET THE SECRET THE SECRET")
	attrs := object.Defaults(object.ClassPrivateKey).With(object.Number(object.AttrKeyType, 0))
	_, err := mech.Policy{}.ParseKey(attrs, secret)
	var refusal *object.Error
	if !errors.As(err, &refusal) || bytes.Contains([]byte(err.Error()), secret[:10]) {
		t.Errorf("refusal: %v", err)
	}
}

func TestPrintingShowsNoKeyBytes(t *testing.T) {
	t.Parallel()
	key, material := newAES(t, 32)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{key, material, &material} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, hex.EncodeToString(material.Secret[:4])) || strings.Contains(text, strings.Trim(fmt.Sprint(material.Secret[:4]), "[]")) {
				t.Errorf("%s of %T is %s", verb, v, text)
			}
		}
	}
}

func BenchmarkSign(b *testing.B) {
	digest := sha256.Sum256(nil)
	for _, bench := range []struct {
		name string
		key  *mech.Key
		m    object.Mechanism
	}{
		{"RSA-2048-PKCS1", sharedRSA(b).key, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}},
		{"RSA-2048-PSS", sharedRSA(b).key, object.Mechanism{Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 32}},
		{"P-256", newPair(b, ecPairGen, ecTemplate(p256)).key, object.Mechanism{Type: object.MechECDSA}},
		{"P-384", newPair(b, ecPairGen, ecTemplate(p384)).key, object.Mechanism{Type: object.MechECDSA}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := bench.key.Sign(bench.m, digest[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseKey(b *testing.B) {
	for name, p := range map[string]pair{"RSA-2048": sharedRSA(b), "P-256": newPair(b, ecPairGen, ecTemplate(p256))} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				parse(b, p.private)
			}
		})
	}
}
