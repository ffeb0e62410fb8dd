package memsearch

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"testing"
)

func TestEveryFormIsFound(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]any{"rsa": rsaKey, "ec": ecKey} {
		secrets, err := Secrets(name, key)
		if err != nil {
			t.Fatal(err)
		}
		s := New(secrets)
		const chunk = 64 << 10
		s.chunk = chunk
		noise := make([]byte, 3*chunk)
		rand.Read(noise)
		if finds := search(t, s, noise); len(finds) > 0 {
			t.Fatalf("%s: found %v in noise", name, finds)
		}
		for _, secret := range secrets {
			if len(secret.Value) < window {
				continue // a leading zero made a number short
			}
			for _, at := range []int{0, 7, chunk - 16, chunk, len(noise) - len(secret.Value)} {
				memory := slices.Clone(noise)
				copy(memory[at:], secret.Value)
				if len(search(t, s, memory)) == 0 {
					t.Errorf("%s was not found at %d", secret.Name, at)
				}
			}
			// A piece in the middle is enough.
			memory := slices.Clone(noise)
			middle := len(secret.Value) - window
			copy(memory[99:], secret.Value[middle:middle+window])
			if len(search(t, s, memory)) == 0 {
				t.Errorf("the last %d bytes of %s were not found", window, secret.Name)
			}
		}
	}
}

// TestWhatIsPublicIsNotFound: certificates and public keys are in every
// process.
func TestWhatIsPublicIsNotFound(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{"rsa": {rsaKey, rsaKey.Public()}, "ec": {ecKey, ecKey.Public()}} {
		secrets, err := Secrets(name, pair[0])
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		// In base64, what comes before decides how the same bytes look.
		for before := range 3 {
			shifted := append(make([]byte, before), der...)
			public := append(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: shifted}), der...)
			public = append(public, base64.StdEncoding.EncodeToString(shifted)...)
			if finds := search(t, New(secrets), public); len(finds) > 0 {
				t.Errorf("%s: found %v in the public key", name, finds)
			}
		}
	}
}

func search(t *testing.T, s *Searcher, memory []byte) []Find {
	t.Helper()
	finds, searched := s.Range(bytes.NewReader(memory), 0, uint64(len(memory)))
	if searched != int64(len(memory)) {
		t.Fatalf("%d bytes searched of %d", searched, len(memory))
	}
	return finds
}
