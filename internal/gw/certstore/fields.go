package certstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

// opensslTime is how the configuration writes a certificate's dates.
const opensslTime = "Jan _2 15:04:05 2006 GMT"

// Bounds of the notes in the configuration's schema, in characters.
const (
	maxCommonName = 255
	maxSubject    = 1023
)

// keyPlace is where an entry's private key is; the zero value is nowhere.
type keyPlace struct {
	sealed string // here, sealed by the vault
	onHSM  bool
}

func (p keyPlace) none() bool { return p == keyPlace{} }

// entryNode is an entry of the certificate list under construction.
type entryNode struct{ node *config.Node }

func newEntry(name string) entryNode { return entryNode{&config.Node{Name: "entry", Entry: name}} }

// add appends a leaf; an empty one is left out.
func (e entryNode) add(name, value string) {
	if value != "" {
		e.node.Children = append(e.node.Children, &config.Node{Name: name, Text: value})
	}
}

// certificateEntry is the entry of a certificate: what it says again for people
// and other programs, in the order in which PAN-OS has it; the chain; the key.
func certificateEntry(name string, chain []*x509.Certificate, key keyPlace) *config.Node {
	cert := chain[0]
	e := newEntry(name)
	e.add("algorithm", algorithmName(cert.PublicKey))
	e.add("ca", yesNo(cert.IsCA))
	e.names(cert.Subject.CommonName, cert.RawSubject)
	e.add("issuer", nameNote(cert.RawIssuer))
	e.add("issuer-hash", hashNote(cert.RawIssuer))
	e.add("not-valid-before", cert.NotBefore.UTC().Format(opensslTime))
	e.add("not-valid-after", cert.NotAfter.UTC().Format(opensslTime))
	if end := cert.NotAfter.Unix(); end >= 0 {
		e.add("expiry-epoch", strconv.FormatInt(end, 10))
	}
	e.add("status", statusValid)
	e.add("public-key", strings.TrimSpace(string(keyfile.EncodePEM(chain...))))
	e.key(key)
	return e.node
}

// requestEntry is the entry of a key whose certificate another CA is asked for.
func requestEntry(name string, csr *x509.CertificateRequest, key keyPlace) *config.Node {
	e := newEntry(name)
	e.add("algorithm", algorithmName(csr.PublicKey))
	e.names(csr.Subject.CommonName, csr.RawSubject)
	e.add("csr", strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))))
	e.key(key)
	return e.node
}

func (e entryNode) names(commonName string, subject []byte) {
	// A note that the configuration could not hold as it is, is left out.
	if utf8.RuneCountInString(commonName) <= maxCommonName && strings.TrimSpace(commonName) == commonName && printable(commonName) {
		e.add("common-name", commonName)
	}
	e.add("subject", nameNote(subject))
	e.add("subject-hash", hashNote(subject))
}

func (e entryNode) key(key keyPlace) {
	if key.onHSM {
		e.add("private-key-on-hsm", "yes")
	}
	e.add("private-key", key.sealed)
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func nameNote(der []byte) string {
	text, err := NameText(der)
	if err != nil || len(text) > maxSubject {
		return ""
	}
	return strings.TrimSpace(text)
}

func hashNote(der []byte) string {
	hash, err := NameHash(der)
	if err != nil {
		return ""
	}
	return hash
}

// The words of status.
const (
	statusValid   = "valid"
	statusRevoked = "revoked"
)

func algorithmName(public crypto.PublicKey) string {
	switch public.(type) {
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "EC"
	}
	return ""
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// epoch is a time as the configuration writes it.
func epoch(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
