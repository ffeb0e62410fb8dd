package mech_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// A key that may only encrypt cannot be made to decrypt by another mode, nor
// the other way round: each use of each mode, with each permission.
func TestOneWayKeysStayOneWay(t *testing.T) {
	t.Parallel()
	type use struct {
		m object.MechanismType
		f mech.Function
	}
	both := map[use]bool{
		{object.MechAESGCM, mech.Encrypt}: false, {object.MechAESGCM, mech.Decrypt}: false,
		{object.MechAESCTR, mech.Encrypt}: true, {object.MechAESCTR, mech.Decrypt}: true,
		{object.MechAESCBC, mech.Encrypt}: true, {object.MechAESCBC, mech.Decrypt}: false,
		{object.MechAESCBCPad, mech.Encrypt}: true, {object.MechAESCBCPad, mech.Decrypt}: false,
	}
	for u, needsBoth := range both {
		for bits := range 4 {
			uses := []object.AttributeType{object.AttrToken}
			if bits&1 != 0 {
				uses = append(uses, object.AttrEncrypt)
			}
			if bits&2 != 0 {
				uses = append(uses, object.AttrDecrypt)
			}
			key := secretKey(t, mech.Policy{}, object.KeyAES, make([]byte, 32), uses...)
			m := object.Mechanism{Type: u.m, IV: make([]byte, 16)}
			if u.m == object.MechAESGCM {
				m.IV = nil
			}
			var err error
			if u.f == mech.Encrypt {
				_, err = key.Encrypt(m, make([]byte, 32))
			} else {
				_, err = key.Decrypt(m, make([]byte, 32))
			}
			refused := object.CodeOf(err) == object.ErrKeyNotPermitted
			if want := needsBoth && bits != 3; refused != want {
				t.Errorf("%v to %v with %v: %v, refused should be %v", u.m, u.f, uses, err, want)
			}
		}
	}
}

// The attack that the rule above is against: with AES-CTR, and with AES-CBC
// encryption, whoever chooses the IV opens what GCM sealed.
func TestChosenIVsOpenGCM(t *testing.T) {
	t.Parallel()
	key := secretKey(t, mech.Policy{}, object.KeyAES, make([]byte, 32), object.AttrEncrypt, object.AttrDecrypt)
	sealed, err := key.Encrypt(object.Mechanism{Type: object.MechAESGCM}, []byte("sixteen bytes ok"))
	if err != nil {
		t.Fatal(err)
	}
	counter := append(bytes.Clone(sealed[:12]), 0, 0, 0, 2)
	opened, err := key.Encrypt(object.Mechanism{Type: object.MechAESCTR, IV: counter}, sealed[12:28])
	if err != nil || string(opened) != "sixteen bytes ok" {
		t.Errorf("CTR: %q, %v: the rule guards against nothing", opened, err)
	}
}

func TestBlockModesRefuse(t *testing.T) {
	t.Parallel()
	key := secretKey(t, mech.Policy{}, object.KeyAES, make([]byte, 16), object.AttrEncrypt, object.AttrDecrypt)
	iv := make([]byte, 16)
	for _, test := range []struct {
		name    string
		m       object.Mechanism
		decrypt bool
		data    []byte
		want    object.Code
	}{
		{"CBC of 15 bytes", object.Mechanism{Type: object.MechAESCBC, IV: iv}, false, make([]byte, 15), object.ErrDataLength},
		{"CBC of nothing", object.Mechanism{Type: object.MechAESCBC, IV: iv}, false, nil, object.OK},
		{"CBC without an IV", object.Mechanism{Type: object.MechAESCBC}, false, make([]byte, 16), object.ErrMechanismParam},
		{"CBC with 12 bytes of IV", object.Mechanism{Type: object.MechAESCBC, IV: iv[:12]}, false, make([]byte, 16), object.ErrMechanismParam},
		{"CBC with AAD", object.Mechanism{Type: object.MechAESCBC, IV: iv, AAD: iv}, false, make([]byte, 16), object.ErrMechanismParam},
		{"GCM with an IV", object.Mechanism{Type: object.MechAESGCM, IV: iv}, false, make([]byte, 16), object.ErrMechanismParam},
		{"CBC back of 17 bytes", object.Mechanism{Type: object.MechAESCBC, IV: iv}, true, make([]byte, 17), object.ErrDataLength},
		{"padded CBC back of nothing", object.Mechanism{Type: object.MechAESCBCPad, IV: iv}, true, nil, object.ErrDataLength},
		{"padded CBC back of 17 bytes", object.Mechanism{Type: object.MechAESCBCPad, IV: iv}, true, make([]byte, 17), object.ErrDataLength},
		{"CTR of 17 bytes", object.Mechanism{Type: object.MechAESCTR, IV: iv}, false, make([]byte, 17), object.OK},
		{"CTR of nothing", object.Mechanism{Type: object.MechAESCTR, IV: iv}, true, nil, object.OK},
	} {
		var err error
		if test.decrypt {
			_, err = key.Decrypt(test.m, test.data)
		} else {
			_, err = key.Encrypt(test.m, test.data)
		}
		wantCode(t, test.name, err, test.want)
	}
}

// Whatever is wrong with the padding, the answer is the same, to the letter.
func TestWrongPaddingLooksAlike(t *testing.T) {
	t.Parallel()
	value := make([]byte, 16)
	key := secretKey(t, mech.Policy{}, object.KeyAES, value, object.AttrDecrypt)
	block, err := aes.NewCipher(value)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 16)
	m := object.Mechanism{Type: object.MechAESCBCPad, IV: iv}
	answers := map[string]bool{}
	for _, end := range []string{"00", "11", "ff", "0102", "020302", "10", "0404040304"} {
		plain := append(bytes.Repeat([]byte{0x77}, 32), unhex(t, end)...)
		plain = plain[len(plain)-32:]
		ciphertext := make([]byte, 32)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, plain)
		got, err := key.Decrypt(m, ciphertext)
		wantCode(t, end, err, object.ErrEncryptedData)
		if got != nil {
			t.Errorf("%s: a refusal came with %x", end, got)
		}
		if err != nil {
			answers[err.Error()] = true
		}
	}
	if len(answers) != 1 {
		t.Errorf("%d answers: %v", len(answers), answers)
	}
}
