package wycheprooftest

import (
	"path"
	"strings"
)

// fate is what becomes of a file: it is run, or it is of an algorithm that we
// do not have, or there is a reason why its vectors are left out.
type fate string

const (
	run            fate = "run"
	otherAlgorithm fate = "other algorithm"

	otherHash    fate = "hash other than SHA-256, SHA-384 and SHA-512"
	otherMGF     fate = "MGF1 with another hash than the digest's"
	otherParams  fate = "key's algorithm is id-RSASSA-PSS, which names its parameters; ours are rsaEncryption"
	otherSize    fate = "RSA-8192"
	otherCurve   fate = "curve other than P-256, P-384, P-521, Ed25519 and X25519"
	clientsDER   fate = "DER signatures are made and read by the client; the HSM's are r || s"
	clientsPeer  fate = "the peer's key is taken out of DER, PEM or JWK by the client"
	otherAESMode fate = "AES mode that we do not have"
)

// fates are tried in their order; the first that fits decides.
var fates = []struct {
	pattern string
	fate    fate
}{
	{"rsa_*_params_test.json", otherParams},
	{"rsa_*8192*", otherSize},
	{"rsa_*mgf1sha1_*", otherMGF}, {"rsa_*sha512_mgf1sha256*", otherMGF},
	{"rsa_*sha1_*", otherHash}, {"rsa_*sha224_*", otherHash}, {"rsa_*sha3_*", otherHash}, {"rsa_*shake*", otherHash},
	{"rsa_*sha512_224_*", otherHash}, {"rsa_*sha512_256_*", otherHash},
	{"rsa_*", run},

	{"ecdsa_*_sha3_*", otherHash}, {"ecdsa_*_shake*", otherHash}, {"ecdsa_*_sha224*", otherHash},
	{"ecdsa_secp256r1_*_p1363_test.json", run}, {"ecdsa_secp384r1_*_p1363_test.json", run}, {"ecdsa_secp521r1_*_p1363_test.json", run},
	{"ecdsa_secp256r1_*", clientsDER}, {"ecdsa_secp384r1_*", clientsDER}, {"ecdsa_secp521r1_*", clientsDER},
	{"ecdsa_*", otherCurve},
	{"ed25519_test.json", run}, {"ed448_test.json", otherCurve},

	{"ecdh_secp256r1_ecpoint_test.json", run}, {"ecdh_secp384r1_ecpoint_test.json", run}, {"ecdh_secp521r1_ecpoint_test.json", run},
	{"ecdh_secp256r1_*", clientsPeer}, {"ecdh_secp384r1_*", clientsPeer}, {"ecdh_secp521r1_*", clientsPeer},
	{"ecdh_*", otherCurve}, {"x448_*", otherCurve},
	{"x25519_test.json", run}, {"x25519_*", clientsPeer},

	{"aes_gcm_test.json", run}, {"aes_cbc_pkcs5_test.json", run}, {"aes_cmac_test.json", run},
	{"aes_wrap_test.json", run}, {"aes_kwp_test.json", run},
	{"aes_*", otherAESMode},
	{"hmac_sha256_test.json", run}, {"hmac_sha384_test.json", run}, {"hmac_sha512_test.json", run}, {"hmac_*", otherHash},
	{"hkdf_sha256_test.json", run}, {"hkdf_sha384_test.json", run}, {"hkdf_sha512_test.json", run}, {"hkdf_*", otherHash},
}

// others are the first words of files of algorithms that we do not have.
var others = strings.Fields(`a128cbc a192cbc a256cbc aead aegis128 aegis128L aegis256 aria ascon ascon128 ascon128a
	ascon80pq bls c2sp camellia chacha20 dsa ec json kmac128 kmac256 mldsa mlkem morus1280 morus640 pbes2 pbkdf2
	primality seed siphash siphashx sm4 vmac xchacha20`)

func fateOf(name string) (fate, bool) {
	for _, entry := range fates {
		if fits, err := path.Match(entry.pattern, name); err == nil && fits {
			return entry.fate, true
		}
	}
	first, _, _ := strings.Cut(name, "_")
	for _, word := range others {
		if word == first {
			return otherAlgorithm, true
		}
	}
	return "", false
}
