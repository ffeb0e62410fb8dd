package e2e

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"testing"

	"github.com/c2sp/wycheproof"

	"moongate/client"
	"moongate/e2e/world"
	"moongate/internal/hsm/mech/wycheprooftest"
	"moongate/internal/hsm/object"
)

// TestWycheproof runs Project Wycheproof's vectors through the client protocol:
// keys are imported into a partition of an HSM that is a process of its own,
// used there, and destroyed.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	w := world.T(t)
	hsm := w.HSM()
	p, err := hsm.NewPartition(t.Context(), "vectors")
	if err != nil {
		t.Fatal(err)
	}
	registered, err := hsm.Register(t.Context(), "vectors", p)
	if err != nil {
		t.Fatal(err)
	}
	// Some vectors wrap private keys, which only a policy allows.
	for _, policy := range []string{"extractable-private-keys"} {
		if _, err := hsm.Shell(t.Context(), "partition changePolicy -partition vectors -policy "+policy+" -value on"); err != nil {
			t.Fatal(err)
		}
	}
	config, err := registered.Config(client.RoleCryptoOfficer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &remoteDevice{ctx: t.Context(), c: c, value: make([]byte, 32)}
	rand.Read(d.value)
	d.unwrapping, err = c.ImportKey(t.Context(), d.value, client.NewTemplate(
		client.NumberAttr(client.AttrKeyType, uint64(object.KeyAES)), client.BoolAttr(client.AttrUnwrap, true)))
	if err != nil {
		t.Fatal(err)
	}
	totals := wycheprooftest.Run(t, wycheproof.TestVectors, d)
	t.Log(totals)
	left, err := c.Find(t.Context(), client.NewTemplate())
	if err != nil || len(left) != 1 {
		t.Errorf("%d objects are left, %v; want the one that unwraps", len(left), err)
	}
}

// remoteDevice is a partition of an HSM, over the network. Keys enter wrapped
// by RFC 5649 under a key that both sides know.
type remoteDevice struct {
	ctx        context.Context
	c          *client.Client
	value      []byte
	unwrapping client.ID
}

var kwp = client.Mechanism{Type: object.MechAESKWP}

func (d *remoteDevice) ImportPrivate(t object.Template, pkcs8 []byte) (wycheprooftest.Key, error) {
	return d.ImportSecret(t, pkcs8)
}

func (d *remoteDevice) ImportSecret(t object.Template, value []byte) (wycheprooftest.Key, error) {
	return d.c.UnwrapWith(d.ctx, d.unwrapping, kwp, wrapPadded(d.value, value), t)
}

func (d *remoteDevice) ImportPublic(t object.Template, info []byte) (wycheprooftest.Key, error) {
	public, err := x509.ParsePKIXPublicKey(info)
	if err != nil {
		return nil, object.Errorf(object.ErrAttributeValue, "%v", err)
	}
	return d.c.StorePublicKey(d.ctx, public, t)
}

func (d *remoteDevice) Sign(k wycheprooftest.Key, m object.Mechanism, data []byte) ([]byte, error) {
	return d.c.Sign(d.ctx, k.(client.ID), m, data)
}

func (d *remoteDevice) Verify(k wycheprooftest.Key, m object.Mechanism, data, signature []byte) error {
	return d.c.Verify(d.ctx, k.(client.ID), m, data, signature)
}

func (d *remoteDevice) Encrypt(k wycheprooftest.Key, m object.Mechanism, plaintext []byte) ([]byte, error) {
	return d.c.EncryptWith(d.ctx, k.(client.ID), m, plaintext)
}

func (d *remoteDevice) Decrypt(k wycheprooftest.Key, m object.Mechanism, ciphertext []byte) ([]byte, error) {
	return d.c.DecryptWith(d.ctx, k.(client.ID), m, ciphertext)
}

func (d *remoteDevice) Wrap(wrapping, target wycheprooftest.Key, m object.Mechanism) ([]byte, error) {
	return d.c.WrapWith(d.ctx, wrapping.(client.ID), target.(client.ID), m)
}

func (d *remoteDevice) Unwrap(unwrapping wycheprooftest.Key, m object.Mechanism, wrapped []byte, t object.Template) (wycheprooftest.Key, error) {
	return d.c.UnwrapWith(d.ctx, unwrapping.(client.ID), m, wrapped, t)
}

func (d *remoteDevice) Derive(base wycheprooftest.Key, m object.Mechanism, t object.Template) (wycheprooftest.Key, error) {
	return d.c.Derive(d.ctx, base.(client.ID), m, t)
}

func (d *remoteDevice) Destroy(k wycheprooftest.Key) error { return d.c.Destroy(d.ctx, k.(client.ID)) }

// wrapPadded is the key wrap of RFC 5649, section 4.1.
func wrapPadded(key, value []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // a key of 32 bytes
	}
	padded := append([]byte(nil), value...)
	for len(padded)%8 != 0 {
		padded = append(padded, 0)
	}
	out := append(binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(value))), padded...)
	if len(padded) == 8 {
		block.Encrypt(out, out)
		return out
	}
	var b [16]byte
	for j := range uint64(6) {
		for i := 1; i <= len(padded)/8; i++ {
			copy(b[:8], out[:8])
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:])^(j*uint64(len(padded)/8)+uint64(i)))
			copy(out[8*i:8*i+8], b[8:])
		}
	}
	return out
}
