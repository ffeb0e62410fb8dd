package mech

import "moongate/internal/hsm/object"

var (
	rsaSizes   = []int{2048, 3072, 4096}
	ecSizes    = []int{256, 384, 521}
	curve25519 = []int{256}
	aesSizes   = []int{128, 192, 256}
	// Secrets of 112 bits and more are approved (SP 800-131A); ours begin at
	// 128. The largest is that of MaxGeneric bytes.
	genericSizes = everyByte(MinGeneric, MaxGeneric)
)

func everyByte(low, high int) []int {
	var bits []int
	for size := low; size <= high; size++ {
		bits = append(bits, 8*size)
	}
	return bits
}

const (
	publicKey  = object.ClassPublicKey
	privateKey = object.ClassPrivateKey
	secretKey  = object.ClassSecretKey
)

// table is the one source of what this package does; docs/mechanisms.md is
// printed from it.
//
// No mechanism both wraps and decrypts, and no key may do both either (see
// object.Template.CheckUses): a sensitive key would leave in clear. CBC does
// not unwrap: its padding would be an oracle for whoever may unwrap and not
// decrypt (Bardou et al., "Efficient Padding Oracle Attacks on Cryptographic
// Hardware", CRYPTO 2012); PKCS #1 v1.5 does not unwrap for the same reason.
var table = []Info{
	{object.MechRSAKeyPairGen, GenerateKeyPair, privateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5, appendix A.1", nil},
	{object.MechRSAPKCS, Sign, privateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5, section 5.4; RFC 8017, section 8.2", []parameter{paramHash}},
	{object.MechRSAPKCS, Verify, publicKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5, section 5.4; RFC 8017, section 8.2", []parameter{paramHash}},
	{object.MechRSAPKCS, Decrypt, privateKey, object.KeyRSA, rsaSizes, false, "PKCS #1 v1.5 key transport is not approved since 2024 (SP 800-131A)", []parameter{paramSessionKeyLen}},
	{object.MechRSAPSS, Sign, privateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5, section 5.4; RFC 8017, section 8.1", []parameter{paramHash, paramSaltLength}},
	{object.MechRSAPSS, Verify, publicKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5, section 5.4; RFC 8017, section 8.1", []parameter{paramHash, paramSaltLength}},
	{object.MechRSAOAEP, Decrypt, privateKey, object.KeyRSA, rsaSizes, true, "SP 800-56B, section 7.2.2; RFC 8017, section 7.1", []parameter{paramHash, paramAAD}},
	{object.MechRSAAESKeyWrap, Wrap, publicKey, object.KeyRSA, rsaSizes, true, "SP 800-56B, section 9.2, with SP 800-38F, section 6.3", []parameter{paramHash}},
	{object.MechRSAAESKeyWrap, Unwrap, privateKey, object.KeyRSA, rsaSizes, true, "SP 800-56B, section 9.2, with SP 800-38F, section 6.3", []parameter{paramHash}},
	{object.MechECKeyPairGen, GenerateKeyPair, privateKey, object.KeyEC, ecSizes, true, "FIPS 186-5, appendix A.2", nil},
	{object.MechECDSA, Sign, privateKey, object.KeyEC, ecSizes, true, "FIPS 186-5, section 6", []parameter{paramHashOptional}},
	{object.MechECDSA, Verify, publicKey, object.KeyEC, ecSizes, true, "FIPS 186-5, section 6", []parameter{paramHashOptional}},
	{object.MechECDH1Derive, Derive, privateKey, object.KeyEC, ecSizes, true, "SP 800-56A, section 5.7.1.2", []parameter{paramPeer}},
	{object.MechECDH1Derive, Derive, privateKey, object.KeyMontgomery, curve25519, false, "X25519 is not in SP 800-56A; RFC 7748", []parameter{paramPeer}},
	{object.MechMontgomeryGen, GenerateKeyPair, privateKey, object.KeyMontgomery, curve25519, false, "X25519 is not in SP 800-56A; RFC 7748", nil},
	{object.MechEdwardsGen, GenerateKeyPair, privateKey, object.KeyEdwards, curve25519, true, "FIPS 186-5, section 7; RFC 8032", nil},
	{object.MechEdDSA, Sign, privateKey, object.KeyEdwards, curve25519, true, "FIPS 186-5, section 7; RFC 8032, section 5.1", nil},
	{object.MechEdDSA, Verify, publicKey, object.KeyEdwards, curve25519, true, "FIPS 186-5, section 7; RFC 8032, section 5.1", nil},
	{object.MechAESKeyGen, GenerateKey, secretKey, object.KeyAES, aesSizes, true, "SP 800-133", nil},
	{object.MechAESGCM, Encrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38D, section 8.2.2", []parameter{paramAAD}},
	{object.MechAESGCM, Decrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38D, section 8.2.2", []parameter{paramAAD}},
	{object.MechAESCBC, Encrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.2", []parameter{paramIV}},
	{object.MechAESCBC, Decrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.2", []parameter{paramIV}},
	{object.MechAESCBCPad, Encrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.2; RFC 5652, section 6.3", []parameter{paramIV}},
	{object.MechAESCBCPad, Decrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.2; RFC 5652, section 6.3", []parameter{paramIV}},
	{object.MechAESCTR, Encrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.5", []parameter{paramIV}},
	{object.MechAESCTR, Decrypt, secretKey, object.KeyAES, aesSizes, true, "SP 800-38A, section 6.5", []parameter{paramIV}},
	{object.MechAESCMAC, Sign, secretKey, object.KeyAES, aesSizes, true, "SP 800-38B; RFC 4493", nil},
	{object.MechAESCMAC, Verify, secretKey, object.KeyAES, aesSizes, true, "SP 800-38B; RFC 4493", nil},
	{object.MechAESKW, Wrap, secretKey, object.KeyAES, aesSizes, true, "SP 800-38F, section 6.2; RFC 3394", nil},
	{object.MechAESKW, Unwrap, secretKey, object.KeyAES, aesSizes, true, "SP 800-38F, section 6.2; RFC 3394", nil},
	{object.MechAESKWP, Wrap, secretKey, object.KeyAES, aesSizes, true, "SP 800-38F, section 6.3; RFC 5649", nil},
	{object.MechAESKWP, Unwrap, secretKey, object.KeyAES, aesSizes, true, "SP 800-38F, section 6.3; RFC 5649", nil},
	{object.MechGenericSecretGen, GenerateKey, secretKey, object.KeyGeneric, genericSizes, true, "SP 800-133", nil},
	{object.MechSHA256HMAC, Sign, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechSHA256HMAC, Verify, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechSHA384HMAC, Sign, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechSHA384HMAC, Verify, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechSHA512HMAC, Sign, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechSHA512HMAC, Verify, secretKey, object.KeyGeneric, genericSizes, true, "FIPS 198-1; RFC 2104", nil},
	{object.MechHKDFDerive, Derive, secretKey, object.KeyGeneric, genericSizes, true, "SP 800-56C, section 5; RFC 5869", []parameter{paramHash, paramSalt, paramInfo}},
}
