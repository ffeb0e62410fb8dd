package mech_test

import (
	"bytes"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

// importPrivate takes PKCS#8 in through a wrapping key.
func importPrivate(tb testing.TB, keyType object.KeyType, der []byte, extra ...object.Attribute) (mech.KeyMaterial, error) {
	tb.Helper()
	return importWith(tb, mech.Policy{}, keyType, der, extra...)
}

func importWith(tb testing.TB, p mech.Policy, keyType object.KeyType, der []byte, extra ...object.Attribute) (mech.KeyMaterial, error) {
	tb.Helper()
	value := bytes.Repeat([]byte{9}, 32)
	block, err := aes.NewCipher(value)
	if err != nil {
		tb.Fatal(err)
	}
	wrapping := secretKey(tb, p, object.KeyAES, value)
	template := usedFor(object.ClassPrivateKey, keyType).Merge(object.New(extra...))
	return wrapping.Unwrap(kwp, mech.KWPWrap(block, der), template)
}

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "openssl", name))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

var opensslKeys = []struct {
	file    string
	keyType object.KeyType
	bits    int
}{
	{"rsa.der", object.KeyRSA, 2048}, {"P-256.der", object.KeyEC, 256}, {"P-384.der", object.KeyEC, 384}, {"P-521.der", object.KeyEC, 521},
	{"ed25519.der", object.KeyEdwards, 256}, {"x25519.der", object.KeyMontgomery, 256},
}

// A key that OpenSSL made has the attributes that it would have if it had been
// made here, but for what is said of its past; and a public-key object of it
// has the same ID and verifies.
func TestImportedKeysAreComplete(t *testing.T) {
	t.Parallel()
	for _, test := range opensslKeys {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			material, err := importPrivate(t, test.keyType, readFile(t, test.file), object.Text(object.AttrLabel, "from elsewhere"))
			if err != nil {
				t.Fatal(err)
			}
			key := parse(t, material)
			if key.Bits() != test.bits || key.Type() != test.keyType || key.Class() != object.ClassPrivateKey {
				t.Errorf("imported: %v", key)
			}
			info, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			a := material.Attributes
			checkWritable(t, a)
			if a.Bool(object.AttrLocal) || a.Bool(object.AttrNeverExtractable) || a.Bool(object.AttrAlwaysSensitive) || !a.Bool(object.AttrSensitive) {
				t.Errorf("attributes of an imported key: %v", a)
			}
			public, err := mech.Policy{}.CompletePublic(usedFor(object.ClassPublicKey, test.keyType).With(object.Bytes(object.AttrPublicKeyInfo, info)))
			if err != nil {
				t.Fatal(err)
			}
			checkWritable(t, public)
			sum := sha256.Sum256(info)
			for _, half := range []object.Template{a, public} {
				if id, _ := half.Get(object.AttrID); !bytes.Equal(id, sum[:20]) {
					t.Errorf("CKA_ID is %x, want %x", id, sum[:20])
				}
			}
			// What describes the key is the same on both halves.
			describes := func(t object.Template) object.Template {
				return t.Select([]object.AttributeType{object.AttrKeyType, object.AttrModulus, object.AttrModulusBits, object.AttrPublicExponent,
					object.AttrECParams, object.AttrPublicKeyInfo, object.AttrLocal, object.AttrKeyGenMechanism})
			}
			if diff := cmp.Diff(describes(a), describes(public)); diff != "" {
				t.Errorf("halves (-private +public):\n%s", diff)
			}
			signedAndVerified(t, key, public)
		})
	}
}

func signedAndVerified(t *testing.T, key *mech.Key, publicAttributes object.Template) {
	t.Helper()
	public, err := mech.Policy{}.ParsePublic(publicAttributes)
	if err != nil {
		t.Fatal(err)
	}
	if public.Bits() != key.Bits() || public.Class() != object.ClassPublicKey {
		t.Errorf("public half: %v, of %v", public, key)
	}
	m := map[object.KeyType]object.Mechanism{
		object.KeyRSA: {Type: object.MechRSAPSS, Hash: object.HashSHA256, SaltLength: 32},
		object.KeyEC:  {Type: object.MechECDSA}, object.KeyEdwards: {Type: object.MechEdDSA},
	}[key.Type()]
	if m.Type == 0 {
		return // X25519 signs nothing
	}
	digest := sha256.Sum256([]byte("message"))
	signature, err := key.Sign(m, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, "Verify", public.Verify(m, digest[:], signature), object.OK)
	signature[len(signature)-1] ^= 1
	wantCode(t, "Verify of a changed signature", public.Verify(m, digest[:], signature), object.ErrSignatureInvalid)
	wantCode(t, "Verify of a short signature", public.Verify(m, digest[:], signature[1:]), object.ErrSignatureLength)
}

// What OpenSSL wrapped as CKM_RSA_AES_KEY_WRAP has it comes out, and no
// changed byte of it does.
func TestUnwrapsWhatOpenSSLWrapped(t *testing.T) {
	t.Parallel()
	material, err := importPrivate(t, object.KeyRSA, readFile(t, "rsa.der"), object.Bool(object.AttrUnwrap, true))
	if err != nil {
		t.Fatal(err)
	}
	key := parse(t, material)
	m := object.Mechanism{Type: object.MechRSAAESKeyWrap, Hash: object.HashSHA256}
	generic := usedFor(object.ClassSecretKey, object.KeyGeneric)
	got, err := key.Unwrap(m, readFile(t, "secret.wrapped"), generic)
	if err != nil || !bytes.Equal(got.Secret, readFile(t, "secret")) {
		t.Errorf("secret: %q, %v", got.Secret, err)
	}
	ec, err := key.Unwrap(m, readFile(t, "P-521.wrapped"), usedFor(object.ClassPrivateKey, object.KeyEC))
	if err != nil || parse(t, ec).Bits() != 521 {
		t.Errorf("private key: %v, %v", ec, err)
	}
	wrapped := readFile(t, "secret.wrapped")
	for _, i := range []int{0, 1, 128, 255, 256, 264, len(wrapped) - 1} {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 1
		_, err := key.Unwrap(m, changed, generic)
		wantCode(t, "changed", err, object.ErrEncryptedData)
	}
	for _, cut := range [][]byte{nil, wrapped[:255], wrapped[:256], wrapped[:264], wrapped[:len(wrapped)-8], append(bytes.Clone(wrapped), make([]byte, mech.MaxWrapped)...)} {
		_, err := key.Unwrap(m, cut, generic)
		wantCode(t, "cut or longer", err, object.ErrEncryptedData)
	}
	m.Hash = object.HashSHA384
	_, err = key.Unwrap(m, wrapped, generic)
	wantCode(t, "another hash", err, object.ErrEncryptedData)
}

// An ephemeral key of another size than 256 bits is refused like a changed one.
func TestRSAAESUnwrapTakesAES256Alone(t *testing.T) {
	t.Parallel()
	p := sharedRSA(t)
	m := object.Mechanism{Type: object.MechRSAAESKeyWrap, Hash: object.HashSHA256}
	for _, size := range []int{16, 24, 32, 40} {
		ephemeral := bytes.Repeat([]byte{3}, size)
		head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, p.key.Public().(*rsa.PublicKey), ephemeral, nil)
		if err != nil {
			t.Fatal(err)
		}
		block, err := aes.NewCipher(ephemeral[:min(size, 32)])
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.key.Unwrap(m, append(head, mech.KWPWrap(block, make([]byte, 32))...), secretTemplate())
		want := object.ErrEncryptedData
		if size == 32 {
			want = object.OK
		}
		wantCode(t, "ephemeral key", err, want)
	}
}

func TestPrivateKeysAreWrappedAndComeBack(t *testing.T) {
	t.Parallel()
	rsaKey := sharedRSA(t)
	public, err := mech.Policy{}.ParsePublic(rsaKey.public.Attributes)
	if err != nil {
		t.Fatal(err)
	}
	aesKey, _ := newAES(t, 32)
	for _, target := range []pair{rsaKey, newPair(t, ecPairGen, ecTemplate(p521)), newPair(t, edPairGen, nil), newPair(t, xPairGen, nil)} {
		template := usedFor(object.ClassPrivateKey, target.key.Type(), object.AttrExtractable)
		for _, way := range []struct {
			m              object.Mechanism
			wrap, unwrap   *mech.Key
			wholeSemiblock bool
		}{
			{kwp, aesKey, aesKey, false},
			{object.Mechanism{Type: object.MechAESKW}, aesKey, aesKey, true},
			{object.Mechanism{Type: object.MechRSAAESKeyWrap, Hash: object.HashSHA512}, public, rsaKey.key, false},
		} {
			wrapped, err := way.wrap.Wrap(way.m, target.key)
			if way.wholeSemiblock && len(target.private.Secret)%8 != 0 {
				wantCode(t, "KW of an odd length", err, object.ErrKeySize)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := way.unwrap.Unwrap(way.m, wrapped, template)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Secret, target.private.Secret) {
				t.Errorf("%v wrapped by %v: another key came back", target.key, way.m.Type)
			}
			_, err = way.unwrap.Unwrap(way.m, wrapped, template.With(object.Number(object.AttrKeyType, uint64(object.KeyAES))))
			wantCode(t, "as a private AES key", err, object.ErrTemplateInconsist)
			other := object.KeyRSA
			if target.key.Type() == object.KeyRSA {
				other = object.KeyEC
			}
			_, err = way.unwrap.Unwrap(way.m, wrapped, template.With(object.Number(object.AttrKeyType, uint64(other))))
			wantCode(t, "as another type", err, object.ErrTemplateInconsist)
			_, err = way.unwrap.Unwrap(way.m, wrapped, secretTemplate())
			wantCode(t, "as an AES key", err, object.ErrKeySize)
		}
	}
}

// der is what is inside of PKCS#8, in pieces that a test bends.
type der struct {
	Version    int
	Algorithm  asn1.RawValue
	PrivateKey []byte
	Attributes asn1.RawValue `asn1:"optional"`
	Public     asn1.RawValue `asn1:"optional"`
}

type ecInner struct {
	Version    int
	PrivateKey []byte
	Params     asn1.RawValue `asn1:"optional"`
	Public     asn1.RawValue `asn1:"optional"`
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	out, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tagged(tag int, compound bool, content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: content}
}

// bend takes a PKCS#8 key apart, changes it, and puts it together again.
func bend(t *testing.T, key []byte, change func(*der)) []byte {
	t.Helper()
	var d der
	if rest, err := asn1.Unmarshal(key, &d); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	change(&d)
	return mustMarshal(t, d)
}

func bendEC(t *testing.T, key []byte, change func(*ecInner)) []byte {
	t.Helper()
	return bend(t, key, func(d *der) {
		var inner ecInner
		if rest, err := asn1.Unmarshal(d.PrivateKey, &inner); err != nil || len(rest) > 0 {
			t.Fatal(err)
		}
		if inner.Params.Tag == 1 { // there are none: it took the public half
			inner.Params, inner.Public = asn1.RawValue{}, inner.Params
		}
		change(&inner)
		d.PrivateKey = mustMarshal(t, inner)
	})
}

func TestImportIsStrict(t *testing.T) {
	t.Parallel()
	ec, ed, x, rsaDER := readFile(t, "P-256.der"), readFile(t, "ed25519.der"), readFile(t, "x25519.der"), readFile(t, "rsa.der")
	parsed, err := x509.ParsePKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	point, err := parsed.(*ecdsa.PrivateKey).PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Clone(point)
	other[64] ^= 1
	bits := func(content []byte) []byte { return append([]byte{0}, content...) }
	edParsed, err := x509.ParsePKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	edPublic := []byte(edParsed.(ed25519.PrivateKey).Public().(ed25519.PublicKey))
	p256Params := p256
	for _, test := range []struct {
		name    string
		keyType object.KeyType
		der     []byte
		want    object.Code
	}{
		{"EC as it is", object.KeyEC, ec, object.OK},
		{"EC without its public half", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.Public = asn1.RawValue{} }), object.OK},
		{"EC with parameters twice", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.Params = tagged(0, true, p256Params) }), object.OK},
		{"EC with other parameters inside", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.Params = tagged(0, true, p384) }), object.ErrDataInvalid},
		{"EC with another public half", object.KeyEC, bendEC(t, ec, func(i *ecInner) {
			i.Public = tagged(1, true, mustMarshal(t, asn1.BitString{Bytes: other, BitLength: 8 * len(other)}))
		}), object.ErrDataInvalid},
		{"EC with a zero in front", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.PrivateKey = append([]byte{0}, i.PrivateKey...) }), object.ErrDataInvalid},
		{"EC of zero", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.PrivateKey = make([]byte, 32) }), object.ErrDataInvalid},
		{"EC over the order", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.PrivateKey = bytes.Repeat([]byte{0xff}, 32) }), object.ErrDataInvalid},
		{"EC of another version", object.KeyEC, bendEC(t, ec, func(i *ecInner) { i.Version = 2 }), object.ErrDataInvalid},
		{"attributes", object.KeyEC, bend(t, ec, func(d *der) { d.Attributes = tagged(0, true, nil) }), object.OK},
		{"version 1 with the public half", object.KeyEdwards, bend(t, ed, func(d *der) { d.Version, d.Public = 1, tagged(1, false, bits(edPublic)) }), object.OK},
		{"version 1 with another public half", object.KeyEdwards, bend(t, ed, func(d *der) { d.Version, d.Public = 1, tagged(1, false, bits(make([]byte, 32))) }), object.ErrDataInvalid},
		{"version 1 without it", object.KeyEdwards, bend(t, ed, func(d *der) { d.Version = 1 }), object.ErrDataInvalid},
		{"version 0 with it", object.KeyEdwards, bend(t, ed, func(d *der) { d.Public = tagged(1, false, bits(edPublic)) }), object.ErrDataInvalid},
		{"version 2", object.KeyEdwards, bend(t, ed, func(d *der) { d.Version = 2 }), object.ErrDataInvalid},
		{"bytes after the end", object.KeyEC, append(bytes.Clone(ec), 0), object.ErrDataInvalid},
		{"Ed25519 with bytes after the end inside", object.KeyEdwards, bend(t, ed, func(d *der) { d.PrivateKey = append(d.PrivateKey, 0) }), object.ErrDataInvalid},
		{"X25519 as it is", object.KeyMontgomery, x, object.OK},
		{"X25519 with bytes after the end inside", object.KeyMontgomery, bend(t, x, func(d *der) { d.PrivateKey = append(d.PrivateKey, 0) }), object.ErrDataInvalid},
		{"X25519 called EC", object.KeyEC, x, object.ErrTemplateInconsist},
		{"RSA as it is", object.KeyRSA, rsaDER, object.OK},
		{"RSA with bytes after the end inside", object.KeyRSA, bend(t, rsaDER, func(d *der) { d.PrivateKey = append(d.PrivateKey, 0) }), object.ErrDataInvalid},
		{"RSA with a number more", object.KeyRSA, bend(t, rsaDER, func(d *der) {
			var numbers []*big.Int
			if _, err := asn1.Unmarshal(d.PrivateKey, &numbers); err != nil {
				t.Fatal(err)
			}
			d.PrivateKey = mustMarshal(t, append(numbers, big.NewInt(7)))
		}), object.ErrDataInvalid},
		{"RSA without NULL", object.KeyRSA, bend(t, rsaDER, func(d *der) { d.Algorithm.Bytes = d.Algorithm.Bytes[:11]; d.Algorithm.FullBytes = nil }), object.ErrDataInvalid},
		{"PKCS #1", object.KeyRSA, x509.MarshalPKCS1PrivateKey(must(x509.ParsePKCS8PrivateKey(rsaDER)).(*rsa.PrivateKey)), object.ErrDataInvalid},
		{"nothing inside", object.KeyRSA, []byte{0}, object.ErrDataInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := importPrivate(t, test.keyType, test.der)
			wantCode(t, "import", err, test.want)
			if (got.Secret == nil) != (err != nil) {
				t.Error("a refusal came with a key")
			}
		})
	}
}

func must(key any, err error) any {
	if err != nil {
		panic(err)
	}
	return key
}

// rsaFrom makes an RSA key of two factors, whatever they are.
func rsaFrom(t *testing.T, p, q *big.Int, exponent int64) []byte {
	t.Helper()
	one := big.NewInt(1)
	n := new(big.Int).Mul(p, q)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	d := new(big.Int).ModInverse(big.NewInt(exponent), new(big.Int).Mul(p1, q1))
	if d == nil {
		return nil
	}
	inverse := new(big.Int).ModInverse(q, p)
	if inverse == nil {
		return nil
	}
	inner := mustMarshal(t, struct {
		Version                        int
		N, E, D, P, Q, Dp, Dq, Inverse *big.Int
	}{0, n, big.NewInt(exponent), d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), inverse})
	return bend(t, readFile(t, "rsa.der"), func(key *der) { key.PrivateKey = inner })
}

func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nextPrime is the first prime from n on.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).SetBit(n, 0, 1)
	for !p.ProbablyPrime(0) {
		p.Add(p, big.NewInt(2))
	}
	return p
}

func TestImportRefusesBadRSAKeys(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		make func(*testing.T) []byte
		want object.Code
	}{
		{"good", func(t *testing.T) []byte { return rsaFrom(t, prime(t, 1024), prime(t, 1024), 65537) }, object.OK},
		{"1024 bits", func(t *testing.T) []byte { return rsaFrom(t, prime(t, 512), prime(t, 512), 65537) }, object.ErrKeySize},
		{"exponent 3", func(t *testing.T) []byte { return rsaFrom(t, prime(t, 1024), prime(t, 1024), 3) }, object.ErrAttributeValue},
		{"factors of different lengths", func(t *testing.T) []byte { return rsaFrom(t, prime(t, 1124), prime(t, 924), 65537) }, object.ErrDataInvalid},
		{"factors close together", func(t *testing.T) []byte {
			p := prime(t, 1024)
			return rsaFrom(t, p, nextPrime(new(big.Int).Add(p, big.NewInt(1000))), 65537)
		}, object.ErrDataInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var made []byte
			for made == nil { // an exponent that has no inverse: other primes
				made = test.make(t)
			}
			_, err := importPrivate(t, object.KeyRSA, made)
			wantCode(t, "import", err, test.want)
		})
	}
}

// A factor that is a product is found, although all numbers fit each other:
// they were computed as if it were a prime.
func TestImportRefusesCompositeFactors(t *testing.T) {
	t.Parallel()
	for range 20 {
		p := new(big.Int).Mul(prime(t, 512), prime(t, 512))
		q := prime(t, 1024)
		made := rsaFrom(t, p, q, 65537)
		if made == nil || new(big.Int).Mul(p, q).BitLen() != 2048 || p.BitLen() != 1024 {
			continue
		}
		_, err := importPrivate(t, object.KeyRSA, made)
		wantCode(t, "import", err, object.ErrDataInvalid)
		return
	}
	t.Error("no such key was made in 20 tries")
}

func TestPublicKeysAreStrict(t *testing.T) {
	t.Parallel()
	marshal := func(key any) []byte {
		info, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agree, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	info := marshal(&ecKey.PublicKey)
	off := bytes.Clone(info)
	off[len(off)-1] ^= 1
	var parts []asn1.RawValue
	if _, err := asn1.Unmarshal(info, &parts); err != nil {
		t.Fatal(err)
	}
	longer := mustMarshal(t, append(parts, asn1.NullRawValue))
	modulus := new(big.Int).SetBit(new(big.Int).SetBit(new(big.Int), 2047, 1), 0, 1)
	with := func(info []byte) object.Template {
		return object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey)), object.Bytes(object.AttrPublicKeyInfo, info))
	}
	for _, test := range []struct {
		name string
		t    object.Template
		want object.Code
	}{
		{"P-256", with(info), object.OK},
		{"P-256 for ECDH", with(marshal(agree.PublicKey())), object.OK}, // the same encoding
		{"no key", with(nil).Without(object.AttrPublicKeyInfo), object.ErrTemplateIncomplete},
		{"empty", with(nil), object.ErrAttributeValue},
		{"bytes after the end", with(append(bytes.Clone(info), 0)), object.ErrAttributeValue},
		{"a part more", with(longer), object.ErrAttributeValue},
		{"off the curve", with(off), object.ErrAttributeValue},
		{"P-224", with(marshal(&p224.PublicKey)), object.ErrKeySize},
		{"RSA exponent 3", with(marshal(&rsa.PublicKey{N: modulus, E: 3})), object.ErrAttributeValue},
		{"RSA-2047", with(marshal(&rsa.PublicKey{N: new(big.Int).Rsh(modulus, 1), E: 65537})), object.ErrKeySize},
		{"called RSA", with(info).With(object.Number(object.AttrKeyType, uint64(object.KeyRSA))), object.ErrTemplateInconsist},
		{"another curve's parameters", with(info).With(object.Bytes(object.AttrECParams, p384)), object.ErrTemplateInconsist},
		{"wraps and verifies", with(info).With(object.Bool(object.AttrWrap, true)).With(object.Bool(object.AttrVerify, true)), object.ErrTemplateInconsist},
		{"signs", with(info).With(object.Bool(object.AttrSign, true)), object.ErrTemplateInconsist},
		{"called private", with(info).With(object.Number(object.AttrClass, uint64(object.ClassPrivateKey))), object.ErrTemplateInconsist},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := mech.Policy{}.CompletePublic(test.t)
			wantCode(t, "CompletePublic", err, test.want)
		})
	}
	whole, err := mech.Policy{}.CompletePublic(with(info))
	if err != nil {
		t.Fatal(err)
	}
	for name, attributes := range map[string]object.Template{
		"off the curve":   whole.With(object.Bytes(object.AttrPublicKeyInfo, off)),
		"another's class": whole.With(object.Number(object.AttrClass, uint64(object.ClassPrivateKey))),
		"another's type":  whole.With(object.Number(object.AttrKeyType, uint64(object.KeyRSA))),
	} {
		if key, err := (mech.Policy{}).ParsePublic(attributes); err == nil || key != nil {
			t.Errorf("ParsePublic of %s: %v, %v", name, key, err)
		}
	}
}
