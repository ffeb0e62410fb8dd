package mech

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"

	"moongate/internal/hsm/object"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Import of private keys: PKCS#8 (RFC 5958) of keys that other programs made.
// crypto/x509 reads it, and reads more than it should: bytes after the end,
// public keys that do not fit, numbers with zeros in front. So what it read is
// compared with what it was given.

// importPrivate reads a PKCS#8 key strictly and checks that its parts belong
// together.
func importPrivate(der []byte) (*Key, error) {
	key, err := parsePrivate(der)
	if err != nil {
		return nil, err
	}
	if !key.isWritten(der) {
		return nil, object.Errorf(object.ErrDataInvalid, "private key is not PKCS#8 as RFC 5958 has it, or its parts do not belong together")
	}
	if key.rsa != nil {
		if err := checkPrimes(key.rsa); err != nil {
			return nil, err
		}
	}
	return key, nil
}

// isWritten reports whether der is a PKCS#8 encoding of the key. Keys differ
// in what they leave out: attributes, and the public half in one of two places.
func (k *Key) isWritten(der []byte) bool {
	info, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return false
	}
	wantAlgorithm, wantPublic, ok := splitInfo(info)
	if !ok {
		return false
	}
	// OneAsymmetricKey (RFC 5958, section 2).
	var inner, algorithm, private cryptobyte.String
	var version int
	input := cryptobyte.String(der)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() ||
		!inner.ReadASN1Integer(&version) ||
		!inner.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !bytes.Equal(algorithm, wantAlgorithm) ||
		!inner.ReadASN1(&private, asn1.OCTET_STRING) ||
		!inner.SkipOptionalASN1(asn1.Tag(0).Constructed().ContextSpecific()) {
		return false
	}
	var public cryptobyte.String
	var given bool
	if !inner.ReadOptionalASN1(&public, &given, asn1.Tag(1).ContextSpecific()) || !inner.Empty() {
		return false
	}
	// Version 1 (v2) has the public key, version 0 (v1) has not.
	if version != 0 && version != 1 || given != (version == 1) || given && !bytes.Equal(public, wantPublic) {
		return false
	}
	return k.isInner(private, wantPublic)
}

// splitInfo takes a SubjectPublicKeyInfo apart: the AlgorithmIdentifier, and
// the content of the BIT STRING, with the count of its unused bits in front.
func splitInfo(info []byte) (algorithm, public cryptobyte.String, ok bool) {
	var inner cryptobyte.String
	input := cryptobyte.String(info)
	ok = input.ReadASN1(&inner, asn1.SEQUENCE) &&
		inner.ReadASN1Element(&algorithm, asn1.SEQUENCE) && inner.ReadASN1(&public, asn1.BIT_STRING)
	return algorithm, public, ok
}

// isInner reports whether private is the key in the form that its algorithm
// has inside of PKCS#8.
func (k *Key) isInner(private, wantPublic []byte) bool {
	switch {
	case k.rsa != nil:
		// RFC 8017, appendix A.1.2: one encoding.
		return bytes.Equal(private, x509.MarshalPKCS1PrivateKey(k.rsa))
	case k.ec != nil:
		return k.isECInner(private, wantPublic)
	case k.edwards != nil:
		return isOctets(private, k.edwards.Seed()[:ed25519.SeedSize]) // RFC 8410, section 7
	case k.x25519 != nil:
		return isOctets(private, k.x25519.Bytes())
	}
	return false
}

func isOctets(der, want []byte) bool {
	var octets cryptobyte.String
	input := cryptobyte.String(der)
	return input.ReadASN1(&octets, asn1.OCTET_STRING) && input.Empty() && bytes.Equal(octets, want)
}

// isECInner is RFC 5915, section 3, with its two optional parts.
func (k *Key) isECInner(der, wantPublic []byte) bool {
	c, err := curveOf(k.ec.Curve)
	if err != nil {
		return false
	}
	scalar, err := k.ec.Bytes()
	if err != nil {
		return false
	}
	defer clear(scalar)
	var inner, octets, params, public, bits cryptobyte.String
	var version int
	var hasParams, hasPublic bool
	input := cryptobyte.String(der)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() ||
		!inner.ReadASN1Integer(&version) || version != 1 ||
		!inner.ReadASN1(&octets, asn1.OCTET_STRING) || !bytes.Equal(octets, scalar) ||
		!inner.ReadOptionalASN1(&params, &hasParams, asn1.Tag(0).Constructed().ContextSpecific()) ||
		!inner.ReadOptionalASN1(&public, &hasPublic, asn1.Tag(1).Constructed().ContextSpecific()) || !inner.Empty() {
		return false
	}
	if hasParams && !bytes.Equal(params, c.params) {
		return false
	}
	return !hasPublic || public.ReadASN1(&bits, asn1.BIT_STRING) && public.Empty() && bytes.Equal(bits, wantPublic)
}

// primeRounds is how often Miller-Rabin is done, beside math/big's Baillie-PSW
// test: enough for keys that were made badly (FIPS 186-5, table B.1). Whoever
// makes a key to be broken knows it anyway.
const primeRounds = 5

// checkPrimes refuses an RSA key that was made badly. That p·q is the modulus,
// that d fits e and is not small, and that p is far from q (FIPS 186-5, appendix
// A.1) has been checked by crypto/rsa.
func checkPrimes(key *rsa.PrivateKey) error {
	p, q := key.Primes[0], key.Primes[1]
	if p.BitLen() != q.BitLen() {
		return object.Errorf(object.ErrDataInvalid, "RSA key has primes of different lengths (FIPS 186-5, section 5.1)")
	}
	if !p.ProbablyPrime(primeRounds) || !q.ProbablyPrime(primeRounds) {
		return object.Errorf(object.ErrDataInvalid, "RSA key has a factor that is not prime")
	}
	return nil
}
