package p11_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/p11"
)

// blocks are what the ciphertext of a session key of 48 bytes may hold.
func blocks(k int) map[string][]byte {
	pad := func(front ...byte) []byte {
		em := bytes.Repeat([]byte{0x5a}, k)
		copy(em, front)
		return em
	}
	good := pad(0, 2)
	good[k-49] = 0
	list := map[string][]byte{
		"":                       good,
		"another block type":     append([]byte{0, 1}, good[2:]...),
		"no zero in front":       append([]byte{1, 2}, good[2:]...),
		"no zero at all":         pad(0, 2),
		"a zero in the padding":  bytes.Clone(good),
		"a zero behind the type": bytes.Clone(good),
		"a shorter key":          bytes.Clone(good),
		"a longer key":           pad(0, 2),
		"no padding":             pad(0, 2, 0),
		"zeros":                  make([]byte, k),
	}
	list["a zero in the padding"][k/2] = 0
	list["a zero behind the type"][2] = 0
	list["a shorter key"][k-49], list["a shorter key"][k-48] = 0x5a, 0
	list["a longer key"][k-50] = 0
	return list
}

// TestDecryptionTellsNothing: whatever is in a ciphertext, the answer is a
// session key's worth of bytes; only the right one's is the plaintext. The module
// applies the bare permutation, or where it does not do that removes the padding
// itself.
func TestDecryptionTellsNothing(t *testing.T) {
	t.Parallel()
	for name, hidden := range map[string][]uint{"CKM_RSA_X_509": nil, "CKM_RSA_PKCS": {3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := closedWorld(t)
			w.module.without = hidden
			w.start(t)
			s := w.session(t, object.RoleCryptoOfficer)
			id := makeRSA(t, s, "server")
			key := public(t, private(t, s, "server").Attributes).(*rsa.PublicKey)
			k := key.Size()
			m := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}
			answers := map[string]string{}
			for what, em := range blocks(k) {
				if em[0] != 0 && new(big.Int).SetBytes(em).Cmp(key.N) >= 0 {
					t.Fatal("the block is not less than the modulus")
				}
				c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, k))
				first, _, err := s.Decrypt(t.Context(), op, id, m, c)
				if err != nil || len(first) != 48 {
					t.Errorf("%q: %d bytes, %v", what, len(first), err)
					continue
				}
				again, _, err := s.Decrypt(t.Context(), op, id, m, c)
				if err != nil || !bytes.Equal(first, again) {
					t.Errorf("%q: another answer the second time, %v", what, err)
				}
				right := bytes.Equal(first, em[k-48:])
				if right != (what == "") {
					t.Errorf("%q: the plaintext is the answer: %v", what, right)
				}
				if other, twice := answers[string(first)]; twice {
					t.Errorf("%q and %q have the same answer", what, other)
				}
				answers[string(first)] = what
			}
			if w.token.Health().Ready == false {
				t.Error("wrong paddings lose the token")
			}

			// What anybody can see of a ciphertext is refused.
			for what, test := range map[string]struct {
				m    object.Mechanism
				c    []byte
				code object.Code
			}{
				"short":          {m, make([]byte, k-1), object.ErrDataLength},
				"long":           {m, make([]byte, k+1), object.ErrDataLength},
				"the modulus":    {m, key.N.FillBytes(make([]byte, k)), object.ErrEncryptedData},
				"no length":      {object.Mechanism{Type: object.MechRSAPKCS}, make([]byte, k), object.ErrMechanismParam},
				"a small length": {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 15}, make([]byte, k), object.ErrMechanismParam},
				"a large length": {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: uint32(k - 10)}, make([]byte, k), object.ErrMechanismParam},
				"OAEP":           {object.Mechanism{Type: object.MechRSAOAEP, Hash: object.HashSHA256}, make([]byte, k), object.ErrMechanism},
				"an IV":          {object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48, IV: make([]byte, 16)}, make([]byte, k), object.ErrMechanismParam},
			} {
				_, _, err := s.Decrypt(t.Context(), op, id, test.m, test.c)
				wantCode(t, what, err, test.code)
			}

			// Trouble that has nothing to do with the padding is told.
			w.module.set(func(call string) error {
				if call == "decrypt" {
					return p11.CKR(0x32) // CKR_DEVICE_REMOVED
				}
				return nil
			})
			_, _, err := s.Decrypt(t.Context(), op, id, m, make([]byte, k))
			wantCode(t, "a token that is gone", err, object.ErrBusy)
		})
	}
}

func TestGCM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeAES(t, s, "wrapping")
	user := w.session(t, object.RoleCryptoUser)
	aad := []byte("what it is for")
	m := object.Mechanism{Type: object.MechAESGCM, AAD: aad}
	plain := make([]byte, 100)
	rand.Read(plain)
	sealed, _, err := user.Encrypt(t.Context(), op, id, m, plain)
	if err != nil || len(sealed) != 12+len(plain)+16 {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	if again, _, err := user.Encrypt(t.Context(), op, id, m, plain); err != nil || bytes.Equal(again[:12], sealed[:12]) {
		t.Errorf("the nonce is the same twice, %v", err)
	}
	opened, _, err := user.Decrypt(t.Context(), op, id, m, sealed)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("decrypted: %v", err)
	}
	for at := range sealed {
		changed := bytes.Clone(sealed)
		changed[at] ^= 1
		if _, _, err := user.Decrypt(t.Context(), op, id, m, changed); err == nil {
			t.Fatalf("a changed byte %d is not seen", at)
		}
	}
	if _, _, err := user.Decrypt(t.Context(), op, id, object.Mechanism{Type: object.MechAESGCM}, sealed); err == nil {
		t.Error("other additional data is not seen")
	}
	_, _, err = user.Decrypt(t.Context(), op, id, m, sealed[:27])
	wantCode(t, "less than nonce and tag", err, object.ErrEncryptedData)
	_, _, err = user.Encrypt(t.Context(), op, id, object.Mechanism{Type: object.MechAESGCM, IV: make([]byte, 16)}, plain)
	wantCode(t, "a nonce of the caller's", err, object.ErrMechanismParam)
	_, _, err = user.Encrypt(t.Context(), op, id, object.Mechanism{Type: object.MechAESCBC, IV: make([]byte, 16)}, plain[:16])
	wantCode(t, "CBC", err, object.ErrMechanism)
	empty, _, err := user.Encrypt(t.Context(), op, id, m, nil)
	if err != nil || len(empty) != 28 {
		t.Fatalf("nothing, encrypted: %d bytes, %v", len(empty), err)
	}
	if opened, _, err := user.Decrypt(t.Context(), op, id, m, empty); err != nil || len(opened) != 0 {
		t.Errorf("nothing, decrypted: %x, %v", opened, err)
	}
}

// TestOwnNonce: a token that takes no nonce, and appends its own.
func TestOwnNonce(t *testing.T) {
	t.Parallel()
	for _, size := range []int{12, 16} {
		w := closedWorld(t)
		w.module.ownIV = size
		w.start(t)
		s := w.session(t, object.RoleCryptoOfficer)
		id := makeAES(t, s, "wrapping")
		m := object.Mechanism{Type: object.MechAESGCM, AAD: []byte("aad")}
		for _, plain := range []string{"", "secret", "a secret of 32 bytes as keys are"} {
			sealed, _, err := s.Encrypt(t.Context(), op, id, m, []byte(plain))
			if err != nil || len(sealed) != size+len(plain)+16 {
				t.Fatalf("a nonce of %d bytes: %d bytes, %v", size, len(sealed), err)
			}
			opened, _, err := s.Decrypt(t.Context(), op, id, m, sealed)
			if err != nil || string(opened) != plain {
				t.Errorf("a nonce of %d bytes: decrypted: %q, %v", size, opened, err)
			}
			sealed[len(sealed)-1] ^= 1
			_, _, err = s.Decrypt(t.Context(), op, id, m, sealed)
			wantCode(t, "a changed tag", err, object.ErrEncryptedData)
		}
	}
	// And one whose answer nobody understands.
	w := closedWorld(t)
	w.module.ownIV = 13
	w.start(t)
	s := w.session(t, object.RoleCryptoOfficer)
	_, _, err := s.Encrypt(t.Context(), op, makeAES(t, s, "wrapping"), object.Mechanism{Type: object.MechAESGCM}, []byte("secret"))
	wantCode(t, "a nonce of 13 bytes", err, object.ErrMechanism)
}

// TestNoGCM: a token without CKM_AES_GCM is told so, and nothing is used in its
// place.
func TestNoGCM(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.module.without = []uint{uint(object.MechAESGCM)}
	w.start(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeAES(t, s, "wrapping")
	_, _, err := s.Encrypt(t.Context(), op, id, object.Mechanism{Type: object.MechAESGCM}, []byte("secret"))
	wantCode(t, "a token without CKM_AES_GCM", err, object.ErrMechanism)
}
