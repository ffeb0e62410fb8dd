package keyfile

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Bounds of a PKCS #12 file's parts.
const (
	maxSafes = 16
	maxBags  = 2 * MaxCertificates
)

const (
	oidData          = "1.2.840.113549.1.7.1"
	oidEncryptedData = "1.2.840.113549.1.7.6"
	oidPBMAC1        = "1.2.840.113549.1.5.14"
	oidKeyBag        = "1.2.840.113549.1.12.10.1.1"
	oidShroudedBag   = "1.2.840.113549.1.12.10.1.2"
	oidCertBag       = "1.2.840.113549.1.12.10.1.3"
	oidX509Cert      = "1.2.840.113549.1.9.22.1"
)

// bagType is how the identifiers of bags begin, in DER.
var bagType = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01}

// contentInfo is one part of a file (RFC 2315, section 7).
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// pfx is a whole file (RFC 7292, section 4).
type pfx struct {
	Version int
	Safe    contentInfo
	MAC     macData `asn1:"optional"`
}

type macData struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Sum       []byte
	}
	Salt   []byte
	Rounds int `asn1:"optional,default:1"`
}

type encryptedData struct {
	Version int
	Content struct {
		Type       asn1.ObjectIdentifier
		Algorithm  pkix.AlgorithmIdentifier
		Ciphertext asn1.RawValue `asn1:"tag:0,optional"`
	}
}

type bag struct {
	Type       asn1.ObjectIdentifier
	Value      asn1.RawValue   `asn1:"tag:0,explicit"`
	Attributes []asn1.RawValue `asn1:"set,optional"`
}

// isPKCS12 reports how a file begins: a sequence of the version, 3, and a
// sequence.
func isPKCS12(data []byte) bool { return bytes.HasPrefix(inSequence(data), []byte{2, 1, 3, 0x30}) }

// readPKCS12 reads a file under a passphrase, or one without. Its integrity is
// checked first, where the file has a check.
func readPKCS12(data, passphrase []byte) (Contents, error) {
	var c Contents
	var file pfx
	der, err := toDER(data)
	if err != nil {
		return c, err
	}
	if err := unmarshal(der, &file); err != nil || file.Version != 3 {
		return c, errors.New("it is damaged: not a PKCS #12 file of version 3")
	}
	var content []byte
	if file.Safe.Type.String() != oidData {
		return c, errors.New("it is signed with a public key instead of a passphrase, which is not supported: export it again under a passphrase")
	}
	if err := unmarshal(file.Safe.Content.Bytes, &content); err != nil {
		return c, errors.New("it is damaged: no content")
	}
	r := reader{contents: &c, work: newWork()}
	if r.safes, err = readSafes(content); err != nil {
		return c, err
	}
	if r.secret, err = r.unlock(file.MAC, content, passphrase); err != nil {
		return c, err
	}
	for _, s := range r.safes {
		if err := r.safe(s); err != nil {
			return c, err
		}
	}
	return c, nil
}

// reader reads one file.
type reader struct {
	contents *Contents
	work     *work
	secret   secret
	safes    []contentInfo
	bags     int
}

func readSafes(content []byte) ([]contentInfo, error) {
	der, err := toDER(content)
	if err != nil {
		return nil, err
	}
	var safes []contentInfo
	if err := unmarshal(der, &safes); err != nil {
		return nil, errors.New("it is damaged: no authenticated safe")
	}
	if len(safes) > maxSafes {
		return nil, fmt.Errorf("%d parts, expected at most %d", len(safes), maxSafes)
	}
	return safes, nil
}

// unlock finds out whether the passphrase is the file's. An empty one is two
// zero bytes to some programs, and nothing at all to others.
func (r *reader) unlock(mac macData, content, passphrase []byte) (secret, error) {
	candidates := []secret{newSecret(passphrase)}
	if len(passphrase) == 0 {
		candidates = append(candidates, secret{})
	}
	if len(mac.Digest.Algorithm.Algorithm) == 0 {
		return candidates[0], nil
	}
	for _, s := range candidates {
		right, err := checkMAC(mac, content, s, r.work)
		if err != nil {
			return secret{}, err
		}
		if right {
			return s, nil
		}
	}
	if len(passphrase) == 0 {
		return secret{}, ErrPassphraseMissing
	}
	// What is encrypted tells damage from a wrong passphrase.
	for _, s := range r.safes {
		if e, is := asEncrypted(s); is {
			plain, err := open(e.Content.Algorithm, octets(e.Content.Ciphertext), candidates[0], r.work, beginsBags)
			clear(plain)
			if err == nil || errors.Is(err, errDamagedInside) {
				return secret{}, errDamagedInside
			}
		}
	}
	return secret{}, ErrPassphraseWrong
}

var macDigests = map[string]func() hash.Hash{
	"1.3.14.3.2.26":          sha1.New,
	"2.16.840.1.101.3.4.2.4": sha256.New224,
	"2.16.840.1.101.3.4.2.1": sha256.New,
	"2.16.840.1.101.3.4.2.2": sha512.New384,
	"2.16.840.1.101.3.4.2.3": sha512.New,
}

// minMACKey keeps a file from asking for a key that anybody can guess (RFC
// 9579, section 5); maxMACKey is a digest's size.
const minMACKey, maxMACKey = 20, 64

// checkMAC is RFC 7292, section 5.1, or RFC 9579.
func checkMAC(mac macData, content []byte, s secret, w *work) (bool, error) {
	id := mac.Digest.Algorithm.Algorithm.String()
	var key []byte
	digest, known := macDigests[id]
	switch {
	case id == oidPBMAC1:
		var p struct{ Derivation, MAC pkix.AlgorithmIdentifier }
		var derivation pbkdf2Parameters
		if err := unmarshal(mac.Digest.Algorithm.Parameters.FullBytes, &p); err != nil || p.Derivation.Algorithm.String() != oidPBKDF2 {
			return false, errors.New("its integrity check is of a kind that is not supported: expected PBMAC1 with PBKDF2")
		}
		if err := unmarshal(p.Derivation.Parameters.FullBytes, &derivation); err != nil || derivation.KeySize < minMACKey || derivation.KeySize > maxMACKey {
			return false, errors.New("its integrity check is damaged: no parameters of PBKDF2 with a key's length")
		}
		if digest, known = hmacs[p.MAC.Algorithm.String()]; !known {
			return false, fmt.Errorf("its integrity check is of a kind that is not supported (%s)", p.MAC.Algorithm)
		}
		var err error
		if key, err = derive(p.Derivation, s, derivation.KeySize, w); err != nil {
			return false, err
		}
	case known:
		if len(mac.Salt) > maxSalt {
			return false, errors.New("its integrity check is damaged: the salt is too long")
		}
		if err := w.spend(mac.Rounds, 1); err != nil {
			return false, err
		}
		key = derivePKCS12(digest, s.bmp, mac.Salt, mac.Rounds, forMAC, digest().Size())
	default:
		return false, fmt.Errorf("its integrity check is of a kind that is not supported (%s): export it again with SHA-256", id)
	}
	defer clear(key)
	sum := hmac.New(digest, key)
	sum.Write(content)
	return hmac.Equal(sum.Sum(nil), mac.Digest.Sum), nil
}

func asEncrypted(s contentInfo) (encryptedData, bool) {
	var e encryptedData
	if s.Type.String() != oidEncryptedData {
		return e, false
	}
	return e, unmarshal(s.Content.Bytes, &e) == nil
}

// octets is an implicitly tagged OCTET STRING, in one piece or in several.
func octets(v asn1.RawValue) []byte {
	if !v.IsCompound {
		return v.Bytes
	}
	var out []byte
	for rest := v.Bytes; len(rest) > 0; {
		var piece []byte
		var err error
		if rest, err = asn1.Unmarshal(rest, &piece); err != nil {
			return nil
		}
		out = append(out, piece...)
	}
	return out
}

// beginsBags reports how SafeContents begin: a sequence of a sequence of a
// bag's type.
func beginsBags(plain []byte) bool {
	return bytes.HasPrefix(inSequence(inSequence(plain)), bagType)
}

func (r *reader) safe(s contentInfo) error {
	var content []byte
	switch s.Type.String() {
	case oidData:
		if err := unmarshal(s.Content.Bytes, &content); err != nil {
			return errors.New("it is damaged: no content in a part")
		}
	case oidEncryptedData:
		e, is := asEncrypted(s)
		if !is {
			return errors.New("it is damaged: no encrypted content in a part")
		}
		plain, err := r.open(e.Content.Algorithm, octets(e.Content.Ciphertext), beginsBags)
		if err != nil {
			return err
		}
		defer clear(plain)
		content = plain
	default:
		return errors.New("a part is encrypted to a public key instead of under a passphrase, which is not supported: export it again under a passphrase")
	}
	der, err := toDER(content)
	if err != nil {
		return err
	}
	defer clear(der)
	var bags []bag
	if err := unmarshal(der, &bags); err != nil {
		return errors.New("it is damaged: no bags in a part")
	}
	if r.bags += len(bags); r.bags > maxBags {
		return fmt.Errorf("more than %d certificates and keys", maxBags)
	}
	for _, b := range bags {
		if err := r.bag(b); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) open(algorithm pkix.AlgorithmIdentifier, ciphertext []byte, begins func([]byte) bool) ([]byte, error) {
	plain, err := open(algorithm, ciphertext, r.secret, r.work, begins)
	if errors.Is(err, ErrPassphraseWrong) && len(r.secret.utf8) == 0 {
		return nil, ErrPassphraseMissing
	}
	return plain, err
}

// bag takes what is in one; a revocation list and what other programs keep in
// a file is passed over.
func (r *reader) bag(b bag) error {
	switch b.Type.String() {
	case oidCertBag:
		var c struct {
			Type asn1.ObjectIdentifier
			DER  []byte `asn1:"tag:0,explicit"`
		}
		if err := unmarshal(b.Value.Bytes, &c); err != nil || c.Type.String() != oidX509Cert {
			return errors.New("a certificate is damaged, or none of X.509")
		}
		return r.contents.add(c.DER)
	case oidKeyBag:
		return r.key(b.Value.Bytes)
	case oidShroudedBag:
		if len(b.Value.Bytes) > maxKey {
			return fmt.Errorf("a private key of %d bytes, expected at most %d", len(b.Value.Bytes), maxKey)
		}
		var e encryptedKey
		if err := unmarshal(b.Value.Bytes, &e); err != nil {
			return errors.New("the encrypted private key is damaged")
		}
		plain, err := r.open(e.Algorithm, e.Ciphertext, beginsKey)
		if err != nil {
			return err
		}
		defer clear(plain)
		return r.key(plain)
	}
	return nil
}

func (r *reader) key(der []byte) error {
	key, err := ParseKey(der)
	if err != nil {
		return err
	}
	return r.contents.setKey(key)
}

// EncodePKCS12 returns a private key, its certificate and what issued that as
// PKCS #12: AES-256-CBC and SHA-256, as OpenSSL 1.1, Java 12 and Windows Server
// 2019 and later read it.
func EncodePKCS12(key crypto.Signer, chain []*x509.Certificate, passphrase []byte) ([]byte, error) {
	return encodePKCS12(key, chain, passphrase, ExportRounds)
}

func encodePKCS12(key crypto.Signer, chain []*x509.Certificate, passphrase []byte, rounds int) ([]byte, error) {
	if len(passphrase) == 0 || len(chain) == 0 {
		return nil, errors.New("writing PKCS #12: no passphrase or no certificate")
	}
	data, err := pkcs12.Modern2023.WithIterations(rounds).Encode(key, chain[0], chain[1:], string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("writing PKCS #12: %w", err)
	}
	return data, nil
}
