package wycheprooftest

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // for hashes
	_ "crypto/sha512" // for hashes
	"slices"

	"moongate/internal/hsm/object"
)

type hash struct {
	ours   object.Hash
	theirs crypto.Hash
}

var hashes = map[string]hash{
	"SHA-256": {object.HashSHA256, crypto.SHA256},
	"SHA-384": {object.HashSHA384, crypto.SHA384},
	"SHA-512": {object.HashSHA512, crypto.SHA512},
}

func (h hash) sum(message []byte) []byte {
	w := h.theirs.New()
	w.Write(message)
	return w.Sum(nil)
}

var operations = map[string]operation{
	"RsassaPkcs1Verify": {judge: judgeRSA, try: func(b *bench, _ *file, g *group, v *vector) (string, error) {
		h := hashes[g.Sha]
		return "", b.verify(g, v, object.KeyRSA, object.Mechanism{Type: object.MechRSAPKCS, Hash: h.ours}, h.sum(v.Msg))
	}},
	"RsassaPssVerify": {judge: judgePSS, try: func(b *bench, _ *file, g *group, v *vector) (string, error) {
		h := hashes[g.Sha]
		m := object.Mechanism{Type: object.MechRSAPSS, Hash: h.ours, SaltLength: uint32(g.SLen)}
		return "", b.verify(g, v, object.KeyRSA, m, h.sum(v.Msg))
	}},
	"RsassaPkcs1Generate": {judge: judgeRSA, try: func(b *bench, _ *file, g *group, v *vector) (string, error) {
		h := hashes[g.Sha]
		key, err := b.importOnce(template(object.ClassPrivateKey, object.KeyRSA, object.AttrSign), g.PrivateKeyPkcs8)
		if err != nil {
			return "", err
		}
		got, err := b.device.Sign(key, object.Mechanism{Type: object.MechRSAPKCS, Hash: h.ours}, h.sum(v.Msg))
		return differs("signature", got, v.Sig), err
	}},
	"RsaesOaepDecrypt":  {judge: judgeRSA, try: tryOAEP},
	"RsaesPkcs1Decrypt": {judge: judgePKCS1, try: tryPKCS1},
	"EcdsaP1363Verify": {judge: judgeHash, try: func(b *bench, _ *file, g *group, v *vector) (string, error) {
		h := hashes[g.Sha]
		return "", b.verify(g, v, object.KeyEC, object.Mechanism{Type: object.MechECDSA, Hash: h.ours}, h.sum(v.Msg))
	}},
	"EddsaVerify": {try: func(b *bench, _ *file, g *group, v *vector) (string, error) {
		return "", b.verify(g, v, object.KeyEdwards, object.Mechanism{Type: object.MechEdDSA}, v.Msg)
	}},
	"EcdhEcpointTest": {judge: judgePeer, try: tryECDH},
	"XdhComp":         {judge: judgePeer, try: tryECDH},
	"AeadTest":        {judge: judgeGCM, try: tryGCM},
	"IndCpaTest":      {try: tryCBC},
	"MacTest":         {judge: judgeMAC, try: tryMAC},
	"KeywrapTest":     {judge: judgeWrap, try: tryWrap},
	"HkdfTest":        {judge: judgeHKDF, try: tryHKDF},
}

func (b *bench) verify(g *group, v *vector, keyType object.KeyType, m object.Mechanism, data []byte) error {
	key, err := b.importOnce(template(object.ClassPublicKey, keyType, object.AttrVerify), g.PublicKeyDer)
	if err != nil {
		return err
	}
	return b.device.Verify(key, m, data, v.Sig)
}

func judgeHash(_ *file, g *group, _ *vector) judgement {
	if _, known := hashes[g.Sha]; !known {
		return judgement{leftOut: string(otherHash)}
	}
	return judgement{}
}

func judgeRSA(f *file, g *group, v *vector) judgement {
	says := judgeHash(f, g, v)
	exponent := g.PublicKey.PublicExponent + g.PrivateKey.PublicExponent
	switch {
	case says.leftOut != "":
	case g.MgfSha != "" && g.MgfSha != g.Sha:
		says.leftOut = string(otherMGF)
	default:
		says = judgeKey(g, exponent)
	}
	if slices.Contains(v.Flags, "ThreePrimes") || isThreePrimes(g) {
		says.refused = "RSA keys have two primes"
	}
	return says
}

func judgeKey(g *group, exponent string) judgement {
	switch {
	case g.KeySize != 2048 && g.KeySize != 3072 && g.KeySize != 4096:
		return judgement{refused: "RSA keys have 2048, 3072 or 4096 bits"}
	case exponent != "010001":
		return judgement{refused: "RSA keys have the exponent 65537"}
	}
	return judgement{}
}

// isThreePrimes goes by RSAPrivateKey's version, which is 1 for more than two
// primes (RFC 8017, appendix A.1.2): the first number in the PKCS#8's OCTET
// STRING, after the AlgorithmIdentifier.
func isThreePrimes(g *group) bool {
	_, inner, found := bytes.Cut(g.PrivateKeyPkcs8, []byte{0x05, 0x00, 0x04, 0x82})
	return found && len(inner) > 8 && bytes.Equal(inner[6:9], []byte{0x02, 0x01, 0x01})
}

func judgePSS(f *file, g *group, v *vector) judgement {
	says := judgeRSA(f, g, v)
	if says == (judgement{}) && (g.SLen == 0 || g.SLen > hashes[g.Sha].theirs.Size()) {
		says.refused = "a PSS salt is as long as the digest at most, and not empty"
	}
	return says
}

func tryOAEP(b *bench, _ *file, g *group, v *vector) (string, error) {
	key, err := b.importOnce(template(object.ClassPrivateKey, object.KeyRSA, object.AttrDecrypt), g.PrivateKeyPkcs8)
	if err != nil {
		return "", err
	}
	got, err := b.device.Decrypt(key, object.Mechanism{Type: object.MechRSAOAEP, Hash: hashes[g.Sha].ours, AAD: v.Label}, v.CT)
	return differs("plaintext", got, v.Msg), err
}

// minSessionKey is the shortest plaintext that PKCS #1 v1.5 decryption is
// asked for.
const minSessionKey = 16

func judgePKCS1(_ *file, g *group, v *vector) judgement {
	says := judgeKey(g, g.PrivateKey.PublicExponent)
	if says == (judgement{}) && v.Result == "valid" && len(v.Msg) < minSessionKey {
		says.refused = "PKCS #1 v1.5 plaintexts under 16 bytes could be guessed"
	}
	if says == (judgement{}) && v.Result == "valid" && len(v.Msg) > 256 {
		says.refused = "PKCS #1 v1.5 plaintexts are session keys, of 256 bytes at most"
	}
	return says
}

// tryPKCS1: wrong padding is no refusal, but bytes that are the same each
// time, and that tell nothing. They count as one here.
func tryPKCS1(b *bench, _ *file, g *group, v *vector) (string, error) {
	key, err := b.importOnce(template(object.ClassPrivateKey, object.KeyRSA, object.AttrDecrypt), g.PrivateKeyPkcs8)
	if err != nil {
		return "", err
	}
	m := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: uint32(len(v.Msg))}
	if v.Result == "invalid" {
		m.SessionKeyLen = 48
	}
	got, err := b.device.Decrypt(key, m, v.CT)
	if err != nil || v.Result != "invalid" {
		return differs("plaintext", got, v.Msg), err
	}
	again, err := b.device.Decrypt(key, m, v.CT)
	if err != nil {
		return "", err
	}
	if len(got) != 48 || !bytes.Equal(got, again) || bytes.Contains(got, v.Msg) {
		return "", nil // taken: the verdict says so
	}
	return "", object.Errorf(object.ErrEncryptedData, "rejected in silence")
}
