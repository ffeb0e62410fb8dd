package mech

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/subtle"
	"math/big"

	"moongate/internal/hsm/object"
)

// Verify checks what Sign makes of the same data: a signature with a public
// key, a MAC with a secret one, in constant time. ErrSignatureLength where its
// length is wrong, which everybody can see, ErrSignatureInvalid for all else
// that is wrong with it. MACs are whole: shortened ones are not accepted.
func (k *Key) Verify(m object.Mechanism, data, signature []byte) error {
	if err := k.check(Verify, m); err != nil {
		return err
	}
	switch m.Type {
	case object.MechEdDSA:
		return k.verified(signature, ed25519.SignatureSize, func() bool {
			return ed25519.Verify(k.public.(ed25519.PublicKey), data, signature)
		})
	case object.MechSHA256HMAC, object.MechSHA384HMAC, object.MechSHA512HMAC:
		return k.verifyMAC(k.hmac(m.Type, data), signature)
	case object.MechAESCMAC:
		return k.verifyMAC(cmac(k.aes, data), signature)
	}
	hash, err := hashOf(m.Hash, data)
	if err != nil {
		return err
	}
	switch m.Type {
	case object.MechRSAPKCS:
		public := k.public.(*rsa.PublicKey)
		return k.verified(signature, public.Size(), func() bool {
			return rsa.VerifyPKCS1v15(public, hash, data, signature) == nil
		})
	case object.MechRSAPSS:
		public := k.public.(*rsa.PublicKey)
		return k.verified(signature, public.Size(), func() bool {
			return rsa.VerifyPSS(public, hash, data, signature, &rsa.PSSOptions{SaltLength: int(m.SaltLength)}) == nil
		})
	case object.MechECDSA:
		public := k.public.(*ecdsa.PublicKey)
		size := orderSize(public.Curve)
		return k.verified(signature, 2*size, func() bool {
			r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
			return ecdsa.Verify(public, data, r, s)
		})
	}
	return notDone(Verify, m)
}

func (k *Key) verified(signature []byte, size int, good func() bool) error {
	if len(signature) != size {
		return object.Errorf(object.ErrSignatureLength, "signature has %d bytes, one of a %d-bit %v key has %d", len(signature), k.bits, k.keyType, size)
	}
	if !good() {
		return object.Errorf(object.ErrSignatureInvalid, "signature was not made over this data with this key and mechanism")
	}
	return nil
}

func (k *Key) verifyMAC(right, given []byte) error {
	return k.verified(given, len(right), func() bool { return subtle.ConstantTimeCompare(right, given) == 1 })
}

// orderSize is the length in bytes of one half of an ECDSA signature.
func orderSize(c elliptic.Curve) int { return (c.Params().N.BitLen() + 7) / 8 }
