package mech

import (
	"crypto/ecdh"
	"crypto/hkdf"

	"moongate/internal/hsm/object"
)

// Derive makes a secret key of k. The template says CKA_CLASS secret and
// CKA_KEY_TYPE AES or generic secret, and is checked as GenerateKeyPair does.
// The new key was not generated here; it has always been sensitive, and never
// extractable, where that is so of k and of itself.
//
//   - MechECDH1Derive: the shared secret with m.Peer (SP 800-56A, section
//     5.7.1.2; RFC 7748, section 6.1), without a key derivation function. Where
//     CKA_VALUE_LEN is less than it has bytes, the trailing ones are the key
//     (PKCS#11 v3.1, section 6.3.17: truncation removes bytes from the leading
//     end); a generic secret without CKA_VALUE_LEN takes it whole. Bytes of it
//     are not evenly random: derive keys from it by HKDF. In FIPS mode there
//     is no other way: it must become a whole generic secret with CKA_DERIVE.
//     A peer that is not on the curve, or that makes the secret zero, is
//     refused with ErrMechanismParam.
//   - MechHKDFDerive: RFC 5869, extract then expand, with m.Hash, m.Salt and
//     m.Info, into CKA_VALUE_LEN bytes.
func (k *Key) Derive(m object.Mechanism, template object.Template) (KeyMaterial, error) {
	if err := k.check(Derive, m); err != nil {
		return KeyMaterial{}, err
	}
	plan, err := k.policy.planSecret(template)
	if err != nil {
		return KeyMaterial{}, err
	}
	var value []byte
	switch m.Type {
	case object.MechECDH1Derive:
		value, err = k.agree(m.Peer, plan)
	case object.MechHKDFDerive:
		value, err = k.expand(m, plan)
	default:
		err = notDone(Derive, m)
	}
	if err != nil {
		return KeyMaterial{}, err
	}
	return plan.material(value, keptInside(plan.base, k.alwaysSensitive, k.neverExtractable))
}

// agree returns the shared secret, cut to the length that the plan asks.
func (k *Key) agree(peer []byte, plan *plan) ([]byte, error) {
	if k.policy.FIPS && (plan.keyType != object.KeyGeneric || plan.template.Has(object.AttrValueLen) || !plan.base.Bool(object.AttrDerive)) {
		return nil, object.Errorf(object.ErrTemplateInconsist,
			"in FIPS mode a shared secret becomes a generic secret with CKA_DERIVE and without CKA_VALUE_LEN, from which keys are derived by HKDF (SP 800-56C)")
	}
	private := k.x25519
	if private == nil {
		var err error
		if private, err = k.ec.ECDH(); err != nil {
			return failure(nil, err)
		}
	}
	public, err := private.Curve().NewPublicKey(peer)
	if err != nil {
		return nil, badPeer(private.Curve())
	}
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, badPeer(private.Curve())
	}
	size := len(shared)
	if plan.template.Has(object.AttrValueLen) || plan.keyType != object.KeyGeneric {
		if size, err = valueLen(plan.keyType, plan.template); err != nil {
			clear(shared)
			return nil, err
		}
	}
	if size > len(shared) {
		clear(shared)
		return nil, object.Errorf(object.ErrTemplateInconsist, "CKA_VALUE_LEN is %d, the shared secret has %d bytes", size, len(shared))
	}
	clear(shared[:len(shared)-size])
	return shared[len(shared)-size:], nil
}

func badPeer(curve ecdh.Curve) error {
	if curve == ecdh.X25519() {
		return object.Errorf(object.ErrMechanismParam, "peer's public key is not 32 bytes of X25519, or makes the shared secret zero")
	}
	return object.Errorf(object.ErrMechanismParam, "peer's public key is not an uncompressed point on %v", curve)
}

// expand is HKDF.
func (k *Key) expand(m object.Mechanism, plan *plan) ([]byte, error) {
	size, err := valueLen(plan.keyType, plan.template)
	if err != nil {
		return nil, err
	}
	return failure(hkdf.Key(hashes[m.Hash].New, k.value, m.Salt, string(m.Info), size))
}
