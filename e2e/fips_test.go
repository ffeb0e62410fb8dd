package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"moongate/client"
	"moongate/e2e/world"
)

// TestFIPSMode: an HSM that was made in FIPS mode starts itself in Go's FIPS
// 140-3 mode, says so beside what it is not, works, and refuses what is not
// approved.
func TestFIPSMode(t *testing.T) {
	t.Parallel()
	w := world.T(t)
	hsm, err := world.StartHSM(t.Context(), w.Dir(), "-fips")
	must(t, err)
	t.Cleanup(func() { must(t, hsm.Close()) })
	show, err := hsm.Command(t.Context(), "", "hsm", "show")
	must(t, err)
	for _, words := range []string{"FIPS mode on", "software, not validated hardware", "in FIPS 140-3 mode"} {
		if !strings.Contains(show, words) {
			t.Errorf("`hsm show` does not say %q:\n%s", words, show)
		}
	}
	config, err := w.Register(hsm, "c", w.Partition(hsm, "p")).Config(client.RoleCryptoOfficer)
	must(t, err)
	c, err := client.Dial(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	pair, err := c.GenerateRSA(t.Context(), 2048, nil, client.NewTemplate(client.BoolAttr(client.AttrDecrypt, true)))
	must(t, err)
	key, err := c.Key(t.Context(), pair.Private)
	must(t, err)
	digest := sha256.Sum256([]byte("approved"))
	_, err = key.Sign(rand.Reader, digest[:], cryptoSHA256)
	must(t, err)
	ciphertext := make([]byte, 256)
	ciphertext[255] = 1
	//lint:ignore SA1019 it is what a TLS server's RSA key exchange asks for, and what must be refused
	_, err = key.(crypto.Decrypter).Decrypt(rand.Reader, ciphertext, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: 48})
	var refusal *client.HSMError
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Error(), "FIPS") {
		t.Errorf("PKCS#1 v1.5 decryption, which is not approved: %v", err)
	}
}
