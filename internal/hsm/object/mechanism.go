package object

import "fmt"

// MechanismType is a PKCS#11 CKM_ number.
type MechanismType uint32

const (
	MechRSAKeyPairGen    MechanismType = 0x0000
	MechRSAPKCS          MechanismType = 0x0001 // PKCS #1 v1.5: sign a digest, decrypt
	MechRSAOAEP          MechanismType = 0x0009
	MechRSAPSS           MechanismType = 0x000d
	MechSHA256HMAC       MechanismType = 0x0251
	MechSHA384HMAC       MechanismType = 0x0261
	MechSHA512HMAC       MechanismType = 0x0271
	MechGenericSecretGen MechanismType = 0x0350
	MechECKeyPairGen     MechanismType = 0x1040
	MechECDSA            MechanismType = 0x1041 // sign a digest; the signature is r || s
	MechECDH1Derive      MechanismType = 0x1050 // P-256, P-384, P-521 and X25519
	MechRSAAESKeyWrap    MechanismType = 0x1054 // an AES-256 key by OAEP, then the key by KWP
	MechEdwardsGen       MechanismType = 0x1055 // Ed25519
	MechMontgomeryGen    MechanismType = 0x1056 // X25519
	MechEdDSA            MechanismType = 0x1057 // sign a whole message
	MechAESKeyGen        MechanismType = 0x1080
	MechAESCBC           MechanismType = 0x1082 // whole blocks
	MechAESCBCPad        MechanismType = 0x1085 // PKCS #7 padding
	MechAESCTR           MechanismType = 0x1086 // the counter is all 16 bytes of the IV
	MechAESGCM           MechanismType = 0x1087
	MechAESCMAC          MechanismType = 0x108a
	MechAESKW            MechanismType = 0x2109 // RFC 3394
	MechAESKWP           MechanismType = 0x210b // RFC 5649
	MechHKDFDerive       MechanismType = 0x402a // RFC 5869, extract then expand
)

var mechanismNames = map[MechanismType]string{
	MechRSAKeyPairGen:    "CKM_RSA_PKCS_KEY_PAIR_GEN",
	MechRSAPKCS:          "CKM_RSA_PKCS",
	MechRSAOAEP:          "CKM_RSA_PKCS_OAEP",
	MechRSAPSS:           "CKM_RSA_PKCS_PSS",
	MechSHA256HMAC:       "CKM_SHA256_HMAC",
	MechSHA384HMAC:       "CKM_SHA384_HMAC",
	MechSHA512HMAC:       "CKM_SHA512_HMAC",
	MechGenericSecretGen: "CKM_GENERIC_SECRET_KEY_GEN",
	MechECKeyPairGen:     "CKM_EC_KEY_PAIR_GEN",
	MechECDSA:            "CKM_ECDSA",
	MechECDH1Derive:      "CKM_ECDH1_DERIVE",
	MechRSAAESKeyWrap:    "CKM_RSA_AES_KEY_WRAP",
	MechEdwardsGen:       "CKM_EC_EDWARDS_KEY_PAIR_GEN",
	MechMontgomeryGen:    "CKM_EC_MONTGOMERY_KEY_PAIR_GEN",
	MechEdDSA:            "CKM_EDDSA",
	MechAESKeyGen:        "CKM_AES_KEY_GEN",
	MechAESCBC:           "CKM_AES_CBC",
	MechAESCBCPad:        "CKM_AES_CBC_PAD",
	MechAESCTR:           "CKM_AES_CTR",
	MechAESGCM:           "CKM_AES_GCM",
	MechAESCMAC:          "CKM_AES_CMAC",
	MechAESKW:            "CKM_AES_KEY_WRAP",
	MechAESKWP:           "CKM_AES_KEY_WRAP_KWP",
	MechHKDFDerive:       "CKM_HKDF_DERIVE",
}

func (m MechanismType) String() string {
	if name, known := mechanismNames[m]; known {
		return name
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
	// Hash is the digest's algorithm for signatures, OAEP and HKDF, and MGF1's
	// for PSS and OAEP.
	Hash Hash
	// SaltLength is the PSS salt's length in bytes.
	SaltLength uint32
	// SessionKeyLen, for MechRSAPKCS decryption, is the length in bytes of
	// the plaintext that the caller expects. It is mandatory: when the
	// padding or the length is wrong, bytes of this length that look random,
	// the same for each try, are returned in the same time, and nobody can
	// tell (RFC 8017, section 7.2.2; RFC 5246, section 7.4.7.1).
	SessionKeyLen uint32
	// AAD is the additional authenticated data of MechAESGCM, whose nonce is
	// chosen by the HSM: 12 random bytes in front of the ciphertext. For
	// MechRSAOAEP it is the label, which need not be secret either.
	AAD []byte
	// IV is the 16 bytes that MechAESCBC, MechAESCBCPad and MechAESCTR begin
	// with; the caller chooses it, as PKCS#11 has it.
	IV []byte
	// Salt and Info are those of MechHKDFDerive.
	Salt, Info []byte
	// Peer is the other side's public key for MechECDH1Derive: an uncompressed
	// point, or 32 bytes for X25519.
	Peer []byte
}
