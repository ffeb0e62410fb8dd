package mech_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// Known answers, from the standards themselves.

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// secretKey makes a secret key of known bytes that may do what uses say.
func secretKey(tb testing.TB, p mech.Policy, keyType object.KeyType, value []byte, uses ...object.AttributeType) *mech.Key {
	tb.Helper()
	key, err := p.ParseKey(usedFor(object.ClassSecretKey, keyType, uses...), value)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func usedFor(class object.Class, keyType object.KeyType, uses ...object.AttributeType) object.Template {
	t := object.New(object.Number(object.AttrClass, uint64(class)), object.Number(object.AttrKeyType, uint64(keyType)))
	for _, use := range uses {
		t = t.With(object.Bool(use, true))
	}
	return t
}

const (
	aes128     = "2b7e151628aed2a6abf7158809cf4f3c"
	aes256     = "603deb1015ca71be2b73aef0857d7781 1f352c073b6108d72d9810a30914dff4"
	fourBlocks = "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51 30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710"
)

// SP 800-38A, appendix F.
func TestBlockModeVectors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		m                    object.MechanismType
		key, iv, want, where string
	}{
		{object.MechAESCBC, aes128, "000102030405060708090a0b0c0d0e0f", "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2 73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7", "F.2.1"},
		{object.MechAESCBC, aes256, "000102030405060708090a0b0c0d0e0f", "f58c4c04d6e5f1ba779eabfb5f7bfbd6 9cfc4e967edb808d679f777bc6702c7d 39f23369a9d9bacfa530e26304231461 b2eb05e2c39be9fcda6c19078c6a9d1b", "F.2.5"},
		{object.MechAESCTR, aes128, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "874d6191b620e3261bef6864990db6ce 9806f66b7970fdff8617187bb9fffdff 5ae4df3edbd5d35e5b4f09020db03eab 1e031dda2fbe03d1792170a0f3009cee", "F.5.1"},
		{object.MechAESCTR, aes256, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "601ec313775789a5b7a7f504bbf3d228 f443e3ca4d62b59aca84e990cacaf5c5 2b0930daa23de94ce87017ba2d84988d dfc9c58db67aada613c2dd08457941a6", "F.5.5"},
	} {
		key := secretKey(t, mech.Policy{}, object.KeyAES, unhex(t, test.key), object.AttrEncrypt, object.AttrDecrypt)
		m := object.Mechanism{Type: test.m, IV: unhex(t, test.iv)}
		got, err := key.Encrypt(m, unhex(t, fourBlocks))
		if err != nil || !bytes.Equal(got, unhex(t, test.want)) {
			t.Errorf("%s: %x, %v, want %s", test.where, got, err, test.want)
		}
		back, err := key.Decrypt(m, got)
		if err != nil || !bytes.Equal(back, unhex(t, fourBlocks)) {
			t.Errorf("%s, back: %x, %v", test.where, back, err)
		}
	}
}

// The counter is one number of 16 bytes, which begins again after the last.
func TestCTRCarries(t *testing.T) {
	t.Parallel()
	key := secretKey(t, mech.Policy{}, object.KeyAES, unhex(t, aes128), object.AttrEncrypt, object.AttrDecrypt)
	last := object.Mechanism{Type: object.MechAESCTR, IV: bytes.Repeat([]byte{0xff}, 16)}
	two, err := key.Encrypt(last, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	zero, err := key.Encrypt(object.Mechanism{Type: object.MechAESCTR, IV: make([]byte, 16)}, make([]byte, 16))
	if err != nil || !bytes.Equal(two[16:], zero) {
		t.Errorf("after ff...ff comes %x, %v, want the keystream of 00...00, %x", two[16:], err, zero)
	}
}

// RFC 4493, section 4, and SP 800-38B, appendix D.3.
func TestCMACVectors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key  string
		size int
		want string
	}{
		{aes128, 0, "bb1d6929e95937287fa37d129b756746"},
		{aes128, 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{aes128, 40, "dfa66747de9ae63030ca32611497c827"},
		{aes128, 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{aes256, 0, "028962f61b7bf89efc6b551f4667d983"},
		{aes256, 16, "28a7023f452e8f82bd4bf28d8c37c35c"},
		{aes256, 40, "aaf3d8f1de5640c232f5b169b9c911e6"},
		{aes256, 64, "e1992190549f6ed5696a2c056c315410"},
	} {
		key := secretKey(t, mech.Policy{}, object.KeyAES, unhex(t, test.key))
		checkMAC(t, key, object.MechAESCMAC, unhex(t, fourBlocks)[:test.size], unhex(t, test.want))
	}
}

// RFC 4231, section 4.2.
func TestHMACVectors(t *testing.T) {
	t.Parallel()
	key := secretKey(t, mech.Policy{}, object.KeyGeneric, bytes.Repeat([]byte{0x0b}, 20))
	for m, want := range map[object.MechanismType]string{
		object.MechSHA256HMAC: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
		object.MechSHA384HMAC: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
		object.MechSHA512HMAC: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
	} {
		checkMAC(t, key, m, []byte("Hi There"), unhex(t, want))
	}
}

// checkMAC: the MAC is right, and nothing near it verifies.
func checkMAC(t *testing.T, key *mech.Key, typ object.MechanismType, message, want []byte) {
	t.Helper()
	m := object.Mechanism{Type: typ}
	got, err := key.Sign(m, message)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v of %d bytes: %x, %v, want %x", typ, len(message), got, err, want)
	}
	wantCode(t, "Verify", key.Verify(m, message, want), object.OK)
	wantCode(t, "another message", key.Verify(m, append(slices.Clone(message), 0), want), object.ErrSignatureInvalid)
	for i := range want {
		changed := slices.Clone(want)
		changed[i] ^= 0x80
		wantCode(t, "changed MAC", key.Verify(m, message, changed), object.ErrSignatureInvalid)
	}
	wantCode(t, "MAC cut short", key.Verify(m, message, want[:len(want)-1]), object.ErrSignatureLength)
	wantCode(t, "half a MAC", key.Verify(m, message, want[:len(want)/2]), object.ErrSignatureLength)
	wantCode(t, "long MAC", key.Verify(m, message, append(slices.Clone(want), 0)), object.ErrSignatureLength)
	wantCode(t, "no MAC", key.Verify(m, message, nil), object.ErrSignatureLength)
}

// RFC 3394, sections 4.1 and 4.6.
func TestKWVectors(t *testing.T) {
	t.Parallel()
	m := object.Mechanism{Type: object.MechAESKW}
	for _, test := range []struct{ key, plain, wrapped string }{
		{"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"},
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f", "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
	} {
		key := secretKey(t, mech.Policy{}, object.KeyAES, unhex(t, test.key))
		got, err := key.Wrap(m, secretKey(t, mech.Policy{}, object.KeyAES, unhex(t, test.plain)))
		if err != nil || !bytes.Equal(got, unhex(t, test.wrapped)) {
			t.Errorf("wrap: %x, %v, want %s", got, err, test.wrapped)
		}
		back, err := key.Unwrap(m, unhex(t, test.wrapped), secretTemplate())
		if err != nil || !bytes.Equal(back.Secret, unhex(t, test.plain)) {
			t.Errorf("unwrap: %x, %v, want %s", back.Secret, err, test.plain)
		}
	}
}

// RFC 5869, appendix A.1 and A.3.
func TestHKDFVectors(t *testing.T) {
	t.Parallel()
	key := secretKey(t, mech.Policy{}, object.KeyGeneric, bytes.Repeat([]byte{0x0b}, 22))
	for _, test := range []struct{ salt, info, want string }{
		{"000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
		{"", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
	} {
		m := object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256, Salt: unhex(t, test.salt), Info: unhex(t, test.info)}
		got, err := key.Derive(m, usedFor(object.ClassSecretKey, object.KeyGeneric).With(object.Number(object.AttrValueLen, 42)))
		if err != nil || !bytes.Equal(got.Secret, unhex(t, test.want)) {
			t.Errorf("%x, %v, want %s", got.Secret, err, test.want)
		}
	}
}

// privateKey makes a private key out of one of Go's.
func privateKey(tb testing.TB, keyType object.KeyType, key any, uses ...object.AttributeType) *mech.Key {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := mech.Policy{}.ParseKey(usedFor(object.ClassPrivateKey, keyType, uses...), der)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

// RFC 8032, section 7.1, test 2.
func TestEd25519Vector(t *testing.T) {
	t.Parallel()
	private := ed25519.NewKeyFromSeed(unhex(t, "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
	want := unhex(t, "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
	got, err := privateKey(t, object.KeyEdwards, private).Sign(object.Mechanism{Type: object.MechEdDSA}, []byte{0x72})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v, want %x", got, err, want)
	}
}

// RFC 7748, section 6.1, and RFC 5903, section 8.1.
func TestECDHVectors(t *testing.T) {
	t.Parallel()
	x25519, err := ecdh.X25519().NewPrivateKey(unhex(t, "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), unhex(t, "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		key        *mech.Key
		peer, want string
	}{
		{privateKey(t, object.KeyMontgomery, x25519), "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f", "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"},
		{privateKey(t, object.KeyEC, ec), "04 d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63 56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab", "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de"},
	} {
		m := object.Mechanism{Type: object.MechECDH1Derive, Peer: unhex(t, test.peer)}
		generic := usedFor(object.ClassSecretKey, object.KeyGeneric)
		got, err := test.key.Derive(m, generic)
		if err != nil || !bytes.Equal(got.Secret, unhex(t, test.want)) {
			t.Errorf("whole: %x, %v, want %s", got.Secret, err, test.want)
		}
		// Truncation takes bytes away in front (PKCS#11 v3.1, section 6.3.17).
		for _, template := range []object.Template{usedFor(object.ClassSecretKey, object.KeyAES), generic} {
			got, err := test.key.Derive(m, template.With(object.Number(object.AttrValueLen, 24)))
			if err != nil || !bytes.Equal(got.Secret, unhex(t, test.want)[8:]) {
				t.Errorf("24 bytes: %x, %v, want the end of %s", got.Secret, err, test.want)
			}
		}
	}
}
