package mech

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"

	"moongate/internal/hsm/object"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Sign signs data: a digest, or for MechEdDSA and the MACs a whole message.
//
//   - MechRSAPKCS: RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2). The DigestInfo is
//     made here from m.Hash, which is mandatory.
//   - MechRSAPSS: RSASSA-PSS (section 8.1) with m.Hash for the digest and for
//     MGF1, and a random salt of exactly m.SaltLength bytes.
//   - MechECDSA: r || s, each as long as the curve's order (PKCS#11 v3.1,
//     section 6.3.1). The digest is that of a known hash by its length; where
//     m.Hash is given, of that one.
//   - MechEdDSA: Ed25519 without a context (RFC 8032, section 5.1), 64 bytes.
//   - MechSHA256HMAC and its like: the whole HMAC (RFC 2104).
//   - MechAESCMAC: the whole CMAC of 16 bytes (RFC 4493).
func (k *Key) Sign(m object.Mechanism, data []byte) ([]byte, error) {
	if err := k.check(Sign, m); err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechEdDSA:
		return ed25519.Sign(k.edwards, data), nil
	case object.MechSHA256HMAC, object.MechSHA384HMAC, object.MechSHA512HMAC:
		return k.hmac(m.Type, data), nil
	case object.MechAESCMAC:
		return cmac(k.aes, data), nil
	}
	hash, err := hashOf(m.Hash, data)
	if err != nil {
		return nil, err
	}
	switch m.Type {
	case object.MechRSAPKCS:
		return failure(rsa.SignPKCS1v15(rand.Reader, k.rsa, hash, data))
	case object.MechRSAPSS:
		return failure(rsa.SignPSS(rand.Reader, k.rsa, hash, data, &rsa.PSSOptions{SaltLength: int(m.SaltLength)}))
	case object.MechECDSA:
		return k.signECDSA(hash, data)
	}
	return nil, notDone(Sign, m)
}

func (k *Key) signECDSA(hash crypto.Hash, digest []byte) ([]byte, error) {
	der, err := k.ec.Sign(rand.Reader, digest, hash)
	if err != nil {
		return failure(nil, err)
	}
	return fixedSignature(der, orderSize(k.ec.Curve))
}

// fixedSignature turns a DER Ecdsa-Sig-Value (RFC 3279, section 2.2.3) into
// r || s, each of size bytes.
func fixedSignature(der []byte, size int) ([]byte, error) {
	var r, s []byte
	var inner cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) ||
		len(r) > size || len(s) > size {
		return nil, object.Errorf(object.ErrGeneral, "ECDSA signature is not as it should be")
	}
	out := make([]byte, 2*size)
	copy(out[size-len(r):], r)
	copy(out[2*size-len(s):], s)
	return out, nil
}

// hashOf finds the digest's hash and checks the digest's length.
func hashOf(h object.Hash, digest []byte) (crypto.Hash, error) {
	if h != object.HashNone && len(digest) != h.Size() {
		return 0, object.Errorf(object.ErrDataLength, "digest has %d bytes, its hash makes %d", len(digest), h.Size())
	}
	for _, known := range hashes {
		if len(digest) == known.Size() {
			return known, nil
		}
	}
	return 0, object.Errorf(object.ErrDataLength, "digest has %d bytes, expected 32, 48 or 64 (SHA-256, SHA-384, SHA-512)", len(digest))
}

// hashes are the digests that signatures, OAEP and HKDF use.
var hashes = map[object.Hash]crypto.Hash{
	object.HashSHA256: crypto.SHA256, object.HashSHA384: crypto.SHA384, object.HashSHA512: crypto.SHA512,
}

// failure turns what the standard library says of a key that was checked
// before into a refusal.
func failure(out []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, object.Errorf(object.ErrGeneral, "%v", err)
	}
	return out, nil
}

func notDone(f Function, m object.Mechanism) error {
	return object.Errorf(object.ErrGeneral, "%v is in the table to %v and is not done", m.Type, f)
}
