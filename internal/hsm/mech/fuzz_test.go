package mech

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"moongate/internal/hsm/object"
)

func addFiles(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "openssl", pattern))
	if err != nil || len(names) == 0 {
		f.Fatalf("%s: %d files, %v", pattern, len(names), err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}

// What is imported is a whole key: it is written back as it is kept, keeps its
// public half, and says the same again.
func FuzzImportPrivate(f *testing.F) {
	addFiles(f, "*.der")
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := importPrivate(der)
		if err != nil {
			return
		}
		kept, err := x509.MarshalPKCS8PrivateKey(key.private())
		if err != nil {
			t.Fatalf("%x is imported and cannot be kept: %v", der, err)
		}
		again, err := importPrivate(kept)
		if err != nil {
			t.Fatalf("%x is kept as %x, which is refused: %v", der, kept, err)
		}
		if again.bits != key.bits || again.keyType != key.keyType || !again.public.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.public) {
			t.Errorf("%x is %v, and then %v", der, key, again)
		}
	})
}

// A key has one CKA_PUBLIC_KEY_INFO.
func FuzzPublicKeyInfo(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "openssl", "*.der"))
	if err != nil || len(names) == 0 {
		f.Fatal("no keys", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		key, err := importPrivate(raw)
		if err != nil {
			f.Fatal(err)
		}
		info, err := x509.MarshalPKIXPublicKey(key.public)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(info)
	}
	f.Fuzz(func(t *testing.T, info []byte) {
		template := object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey)), object.Bytes(object.AttrPublicKeyInfo, info))
		whole, err := Policy{}.CompletePublic(template)
		if err != nil {
			return
		}
		key, err := Policy{}.ParsePublic(whole)
		if err != nil {
			t.Fatalf("%x is completed and not parsed: %v", info, err)
		}
		if back, err := x509.MarshalPKIXPublicKey(key.public); err != nil || !bytes.Equal(back, info) {
			t.Errorf("%x is written back as %x, %v", info, back, err)
		}
	})
}

// No wrapped bytes, and no payload inside of good ones, break an unwrapping.
func FuzzUnwrap(f *testing.F) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	wrapping, err := Policy{}.ParseKey(object.New(object.Number(object.AttrClass, uint64(object.ClassSecretKey)),
		object.Number(object.AttrKeyType, uint64(object.KeyAES))), make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	addFiles(f, "*")
	f.Add(kwpWrap(block, make([]byte, 32)))
	f.Add(kwWrap(block, make([]byte, 32)))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, class := range []object.Class{object.ClassSecretKey, object.ClassPrivateKey} {
			types := []object.KeyType{object.KeyAES, object.KeyGeneric}
			if class == object.ClassPrivateKey {
				types = []object.KeyType{object.KeyRSA, object.KeyEC, object.KeyEdwards, object.KeyMontgomery}
			}
			for _, typ := range types {
				template := object.New(object.Number(object.AttrClass, uint64(class)), object.Number(object.AttrKeyType, uint64(typ)))
				inputs := [][]byte{data}
				if len(data) > 0 && len(data) <= MaxWrapped {
					inputs = append(inputs, kwpWrap(block, data))
				}
				for _, wrapped := range inputs {
					for _, m := range []object.MechanismType{object.MechAESKW, object.MechAESKWP} {
						material, err := wrapping.Unwrap(object.Mechanism{Type: m}, wrapped, template)
						if err != nil {
							continue
						}
						if _, err := (Policy{}).ParseKey(material.Attributes, material.Secret); err != nil {
							t.Errorf("%x becomes a key that does not parse: %v", data, err)
						}
					}
				}
			}
		}
	})
}

// The RSA half of an unwrapping takes anything.
func FuzzRSAAESUnwrap(f *testing.F) {
	raw, err := os.ReadFile(filepath.Join("testdata", "openssl", "rsa.der"))
	if err != nil {
		f.Fatal(err)
	}
	key, err := importPrivate(raw)
	if err != nil {
		f.Fatal(err)
	}
	addFiles(f, "*.wrapped")
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		key.rsaAESUnwrap(object.Mechanism{Type: object.MechRSAAESKeyWrap, Hash: object.HashSHA256}, wrapped)
	})
}
