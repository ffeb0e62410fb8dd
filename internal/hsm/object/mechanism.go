package object

import "fmt"

// MechanismType is a PKCS#11 CKM_ number.
type MechanismType uint32

const (
	MechRSAKeyPairGen MechanismType = 0x0000
	MechRSAPKCS       MechanismType = 0x0001 // PKCS #1 v1.5: sign a digest, decrypt
	MechRSAPSS        MechanismType = 0x000d
	MechECKeyPairGen  MechanismType = 0x1040
	MechECDSA         MechanismType = 0x1041 // sign a digest; the signature is r || s
	MechAESKeyGen     MechanismType = 0x1080
	MechAESGCM        MechanismType = 0x1087
	MechAESKWP        MechanismType = 0x210b // RFC 5649
)

func (m MechanismType) String() string {
	switch m {
	case MechRSAKeyPairGen:
		return "CKM_RSA_PKCS_KEY_PAIR_GEN"
	case MechRSAPKCS:
		return "CKM_RSA_PKCS"
	case MechRSAPSS:
		return "CKM_RSA_PKCS_PSS"
	case MechECKeyPairGen:
		return "CKM_EC_KEY_PAIR_GEN"
	case MechECDSA:
		return "CKM_ECDSA"
	case MechAESKeyGen:
		return "CKM_AES_KEY_GEN"
	case MechAESGCM:
		return "CKM_AES_GCM"
	case MechAESKWP:
		return "CKM_AES_KEY_WRAP_KWP"
	}
	return fmt.Sprintf("CKM_0x%08x", uint32(m))
}

// Hash is the digest that a signature is over: the CKM_ number of the digest
// mechanism. HashNone is no digest.
type Hash uint32

const (
	HashNone   Hash = 0
	HashSHA256 Hash = 0x0250
	HashSHA384 Hash = 0x0260
	HashSHA512 Hash = 0x0270
)

// Size is the digest's length in bytes, 0 for one that is not known.
func (h Hash) Size() int {
	switch h {
	case HashSHA256:
		return 32
	case HashSHA384:
		return 48
	case HashSHA512:
		return 64
	}
	return 0
}

// Mechanism is a mechanism and its parameters. Fields that a mechanism does
// not use are zero; the HSM refuses them otherwise.
type Mechanism struct {
	Type MechanismType
	// Hash is the digest's algorithm for signatures, and MGF1's for PSS.
	Hash Hash
	// SaltLength is the PSS salt's length in bytes.
	SaltLength uint32
	// SessionKeyLen, for MechRSAPKCS decryption, is the length in bytes of
	// the plaintext that the caller expects. It is mandatory: when the
	// padding or the length is wrong, bytes of this length that look random,
	// the same for each try, are returned in the same time, and nobody can
	// tell (RFC 8017, section 7.2.2; RFC 5246, section 7.4.7.1).
	SessionKeyLen uint32
	// AAD is the additional authenticated data of MechAESGCM. The nonce is
	// chosen by the HSM: 12 random bytes in front of the ciphertext.
	AAD []byte
}
