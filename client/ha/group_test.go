package ha

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"testing"

	"moongate/client"
)

func pemOf(pair tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
}

// newEC makes a P-256 key through a group.
func newEC(t testing.TB, g *Group, label string) client.Key {
	t.Helper()
	pair, err := g.GenerateEC(t.Context(), elliptic.P256(), nil, client.NewTemplate(client.TextAttr(client.AttrLabel, label)))
	must(t, err)
	key, err := g.Key(t.Context(), pair.Private)
	must(t, err)
	return key
}

var digest = sha256.Sum256([]byte("message"))

// sign signs and verifies.
func sign(key client.Key) error {
	signature, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	if !ecdsa.VerifyASN1(key.Public().(*ecdsa.PublicKey), digest[:], signature) {
		return errWrong
	}
	return nil
}

var errWrong = &client.HSMError{Code: client.ErrSignatureInvalid, Detail: "a member signed wrongly"}

// TestCreate: a group of two, a key through it, each alone signs with it.
func TestCreate(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	g := c.create(c.config(client.RoleCryptoOfficer))
	key := newEC(t, g, "k")
	must(t, sign(key))
	c.wantEqual()
	for i := range c.hsms {
		k, err := c.direct(i).FindKeyByLabel(t.Context(), "k")
		must(t, err)
		if k.ID() != key.ID() {
			t.Errorf("%s calls the key %v, the group %v", c.hsms[i].name, k.ID(), key.ID())
		}
	}
}
