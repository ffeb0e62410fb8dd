package keyfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/scrypt"
)

// secret is a passphrase: as bytes, for PKCS #5, and as what PKCS #12's own
// derivation takes (RFC 7292, appendix B.1).
type secret struct{ utf8, bmp []byte }

// maxPassphrase bounds what is hashed in every round, in bytes.
const maxPassphrase = 1 << 10

// newSecret prepares a passphrase. As BMPString it has two zero bytes behind
// it; what is no UTF-8 is taken as Latin-1, as OpenSSL does.
func newSecret(passphrase []byte) secret {
	var units []uint16
	if utf8.Valid(passphrase) {
		units = utf16.Encode([]rune(string(passphrase)))
	} else {
		for _, b := range passphrase {
			units = append(units, uint16(b))
		}
	}
	s := secret{utf8: passphrase}
	for _, u := range append(units, 0) {
		s.bmp = append(s.bmp, byte(u>>8), byte(u))
	}
	return s
}

// decrypt undoes a passphrase-based encryption. It leaves the padding on, since
// only the caller can tell wrong padding from a wrong passphrase.
func decrypt(algorithm pkix.AlgorithmIdentifier, ciphertext []byte, s secret, w *work) ([]byte, error) {
	block, iv, err := blockCipher(algorithm, s, w)
	if err != nil {
		return nil, err
	}
	if len(iv) != block.BlockSize() {
		return nil, errors.New("its encryption is damaged: the initialization vector's length is not the block's")
	}
	if len(ciphertext) == 0 || len(ciphertext)%block.BlockSize() != 0 {
		return nil, errors.New("its encryption is damaged: not a whole number of blocks")
	}
	plain := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, ciphertext)
	return plain, nil
}

// open decrypts and takes the padding off. Where the plaintext begins as it must
// the passphrase was right, and what is wrong behind that is damage: of wrong
// keys about one in 2^32 or less leaves such a beginning. The caller clears
// what it gets.
func open(algorithm pkix.AlgorithmIdentifier, ciphertext []byte, s secret, w *work, begins func([]byte) bool) ([]byte, error) {
	plain, err := decrypt(algorithm, ciphertext, s, w)
	if err != nil {
		return nil, err
	}
	if !begins(plain) {
		clear(plain)
		return nil, ErrPassphraseWrong
	}
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize || padding > len(plain) ||
		!bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		clear(plain)
		return nil, errDamagedInside
	}
	return plain[:len(plain)-padding], nil
}

// errDamagedInside: what was encrypted is damaged.
var errDamagedInside = errors.New("the passphrase is right, and what is encrypted is damaged")

// inSequence returns what follows the header of a sequence, nil when b begins
// with none. The length may be an indefinite one, of BER.
func inSequence(b []byte) []byte {
	if len(b) < 2 || b[0] != 0x30 {
		return nil
	}
	octets := 0
	if b[1] >= 0x80 {
		octets = int(b[1] & 0x7f)
	}
	if octets > 3 || len(b) < 2+octets {
		return nil
	}
	return b[2+octets:]
}

// blockCipher derives a cipher and an initialization vector from a passphrase:
// PBES2 (RFC 8018, section 6.2), the schemes of PKCS #12 (RFC 7292, appendix C)
// and the two of PKCS #5's first version that OpenSSL wrote.
func blockCipher(algorithm pkix.AlgorithmIdentifier, s secret, w *work) (cipher.Block, []byte, error) {
	id := algorithm.Algorithm.String()
	if id == "1.2.840.113549.1.5.13" {
		return pbes2(algorithm, s, w)
	}
	var parameters struct {
		Salt   []byte
		Rounds int
	}
	scheme, pkcs12 := pkcs12Schemes[id]
	digest, pkcs5 := pkcs5Schemes[id]
	if !pkcs12 && !pkcs5 {
		return nil, nil, fmt.Errorf("its encryption is of a kind that is not supported (%s): export it again with AES-256", id)
	}
	if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil || len(parameters.Salt) > maxSalt {
		return nil, nil, errors.New("its encryption is damaged: the parameters are none")
	}
	if pkcs5 {
		if err := w.spend(parameters.Rounds, 1); err != nil {
			return nil, nil, err
		}
		key := pbkdf1(digest, s.utf8, parameters.Salt, parameters.Rounds)
		block, err := des.NewCipher(key[:8])
		return block, key[8:16], err
	}
	if err := w.spend(parameters.Rounds, 3); err != nil { // at most two for the key, one for the vector
		return nil, nil, err
	}
	key := derivePKCS12(sha1.New, s.bmp, parameters.Salt, parameters.Rounds, forKey, scheme.keySize)
	block, err := scheme.block(key)
	return block, derivePKCS12(sha1.New, s.bmp, parameters.Salt, parameters.Rounds, forVector, 8), err
}

type scheme struct {
	keySize int
	block   func(key []byte) (cipher.Block, error)
}

var pkcs12Schemes = map[string]scheme{
	"1.2.840.113549.1.12.1.3": {24, des.NewTripleDESCipher},
	"1.2.840.113549.1.12.1.4": {16, twoKeyTripleDES},
	"1.2.840.113549.1.12.1.5": {16, newRC2},
	"1.2.840.113549.1.12.1.6": {5, newRC2},
}

var pkcs5Schemes = map[string]func() hash.Hash{
	"1.2.840.113549.1.5.3":  md5.New,
	"1.2.840.113549.1.5.10": sha1.New,
}

func twoKeyTripleDES(key []byte) (cipher.Block, error) {
	return des.NewTripleDESCipher(append(key[:16:16], key[:8]...))
}

// pbkdf1 is the first derivation of PKCS #5 (RFC 8018, section 5.1).
func pbkdf1(digest func() hash.Hash, passphrase, salt []byte, rounds int) []byte {
	h := digest()
	h.Write(passphrase)
	h.Write(salt)
	sum := h.Sum(nil)
	for range rounds - 1 {
		h.Reset()
		h.Write(sum)
		sum = h.Sum(sum[:0])
	}
	return sum
}

// pbes2 reads PBES2-params: a key derivation and a cipher.
func pbes2(algorithm pkix.AlgorithmIdentifier, s secret, w *work) (cipher.Block, []byte, error) {
	var parameters struct{ Derivation, Cipher pkix.AlgorithmIdentifier }
	if err := unmarshal(algorithm.Parameters.FullBytes, &parameters); err != nil {
		return nil, nil, errors.New("its encryption is damaged: no parameters of PBES2")
	}
	c, known := pbes2Ciphers[parameters.Cipher.Algorithm.String()]
	if !known {
		return nil, nil, fmt.Errorf("its cipher is not supported (%s): export it again with AES-256-CBC", parameters.Cipher.Algorithm)
	}
	var iv []byte
	if err := unmarshal(parameters.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, nil, errors.New("its encryption is damaged: no initialization vector")
	}
	key, err := derive(parameters.Derivation, s, c.keySize, w)
	if err != nil {
		return nil, nil, err
	}
	defer clear(key)
	block, err := c.block(key)
	return block, iv, err
}

var pbes2Ciphers = map[string]scheme{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

const (
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11"
)

// hmacs are the pseudorandom functions of PBKDF2 (RFC 8018, appendix B.1) and
// of PBMAC1.
var hmacs = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

type pbkdf2Parameters struct {
	Salt    []byte // of its two alternatives the one that is used
	Rounds  int
	KeySize int                      `asn1:"optional"`
	PRF     pkix.AlgorithmIdentifier `asn1:"optional"`
}

// derive makes a key of so many bytes.
func derive(algorithm pkix.AlgorithmIdentifier, s secret, size int, w *work) ([]byte, error) {
	damaged := errors.New("its encryption is damaged: the parameters of its key derivation are none")
	switch id := algorithm.Algorithm.String(); id {
	case oidPBKDF2:
		var p pbkdf2Parameters
		if err := unmarshal(algorithm.Parameters.FullBytes, &p); err != nil || len(p.Salt) > maxSalt || p.KeySize != 0 && p.KeySize != size {
			return nil, damaged
		}
		prf := sha1.New // the default
		if len(p.PRF.Algorithm) > 0 {
			var known bool
			if prf, known = hmacs[p.PRF.Algorithm.String()]; !known {
				return nil, fmt.Errorf("its key derivation is of a kind that is not supported (%s): export it again with HMAC-SHA-256", p.PRF.Algorithm)
			}
		}
		if err := w.spend(p.Rounds, (size+prf().Size()-1)/prf().Size()); err != nil {
			return nil, err
		}
		return pbkdf2.Key(prf, string(s.utf8), p.Salt, p.Rounds, size)
	case oidScrypt: // RFC 7914, section 7
		var p struct {
			Salt    []byte
			N, R, P int
			KeySize int `asn1:"optional"`
		}
		if err := unmarshal(algorithm.Parameters.FullBytes, &p); err != nil || len(p.Salt) > maxSalt || p.KeySize != 0 && p.KeySize != size {
			return nil, damaged
		}
		if p.N < 2 || p.R < 1 || p.P < 1 {
			return nil, damaged
		}
		if p.N > MaxScrypt/128 || p.R > MaxScrypt/128/p.N || p.P > maxScryptTimes {
			return nil, fmt.Errorf("its encryption asks for an scrypt of N=%d, r=%d, p=%d, expected at most %d MiB (128 N r) and p=%d", p.N, p.R, p.P, MaxScrypt>>20, maxScryptTimes)
		}
		// A kibibyte of scrypt takes about as long as a round.
		if err := w.spend(max(p.N*p.R*p.P/8, 1), 1); err != nil {
			return nil, err
		}
		key, err := scrypt.Key(s.utf8, p.Salt, p.N, p.R, p.P, size)
		if err != nil {
			return nil, damaged
		}
		return key, nil
	default:
		return nil, fmt.Errorf("its key derivation is of a kind that is not supported (%s): export it again with PBKDF2", id)
	}
}

// unmarshal reads one whole value.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = errors.New("bytes after its end")
	}
	return err
}
