package mech_test

import (
	"crypto/x509"
	"sync"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

var (
	p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	p384 = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
	p521 = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}

	ed25519Params = []byte{0x06, 0x03, 0x2b, 0x65, 0x70}
	x25519Params  = []byte{0x06, 0x03, 0x2b, 0x65, 0x6e}

	rsaPairGen = object.Mechanism{Type: object.MechRSAKeyPairGen}
	ecPairGen  = object.Mechanism{Type: object.MechECKeyPairGen}
	edPairGen  = object.Mechanism{Type: object.MechEdwardsGen}
	xPairGen   = object.Mechanism{Type: object.MechMontgomeryGen}
	aesGen     = object.Mechanism{Type: object.MechAESKeyGen}
	genericGen = object.Mechanism{Type: object.MechGenericSecretGen}
)

func rsaTemplate(bits uint64) object.Template {
	return object.New(object.Number(object.AttrModulusBits, bits))
}

func ecTemplate(params []byte) object.Template {
	return object.New(object.Bytes(object.AttrECParams, params))
}

func aesTemplate(size uint64) object.Template {
	return object.New(object.Number(object.AttrValueLen, size))
}

// pair is a generated key pair, ready for use.
type pair struct {
	public, private mech.KeyMaterial
	key             *mech.Key
}

func newPair(tb testing.TB, m object.Mechanism, public object.Template) pair {
	tb.Helper()
	pub, priv, err := mech.Policy{}.GenerateKeyPair(m, public, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{pub, priv, parse(tb, priv)}
}

func parse(tb testing.TB, material mech.KeyMaterial) *mech.Key {
	tb.Helper()
	key, err := mech.Policy{}.ParseKey(material.Attributes, material.Secret)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newAES(tb testing.TB, size uint64) (*mech.Key, mech.KeyMaterial) {
	tb.Helper()
	material, err := mech.Policy{}.GenerateKey(aesGen, aesTemplate(size))
	if err != nil {
		tb.Fatal(err)
	}
	return parse(tb, material), material
}

// The RSA pair that tests share: making one takes long.
var rsa2048 = sync.OnceValues(func() (mech.KeyMaterial, mech.KeyMaterial) {
	public, private, err := mech.Policy{}.GenerateKeyPair(rsaPairGen, rsaTemplate(2048), nil)
	if err != nil {
		panic(err)
	}
	return public, private
})

func sharedRSA(tb testing.TB) pair {
	tb.Helper()
	public, private := rsa2048()
	return pair{public, private, parse(tb, private)}
}

func publicKey(tb testing.TB, material mech.KeyMaterial) any {
	tb.Helper()
	info, _ := material.Attributes.Get(object.AttrPublicKeyInfo)
	key, err := x509.ParsePKIXPublicKey(info)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func wantCode(tb testing.TB, what string, err error, want object.Code) {
	tb.Helper()
	if got := object.CodeOf(err); got != want {
		tb.Errorf("%s: %v, want %v", what, err, want)
	}
}
