package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"time"

	"moongate/internal/gw/flow"
)

// leafKind is the kind of a leaf's own key.
type leafKind uint8

const (
	leafECDSA leafKind = iota // P-256
	leafRSA                   // RSA-2048, for clients that know nothing else
)

// leafKeys are the keys of minted leaves, one of each kind: in memory, made at
// first need, shared by all leaves that are made within an hour, and then
// replaced. Leaves keep the key that they were made with.
type leafKeys struct {
	clock func() time.Time
	slots [2]struct { // by leafKind
		mu   sync.Mutex
		born time.Time // guarded by mu; zero before the first key
		key  leafKey   // guarded by mu
	}
}

// leafKey is a private key and the identifier of its public half: the leftmost
// 160 bits of the SHA-256 of the public key (RFC 7093, section 2, method 1).
type leafKey struct {
	private crypto.Signer
	id      []byte
}

func (k *leafKeys) get(kind leafKind) (leafKey, error) {
	slot := &k.slots[kind]
	slot.mu.Lock()
	defer slot.mu.Unlock()
	now := k.clock()
	if age := now.Sub(slot.born); !slot.born.IsZero() && age >= 0 && age < freshFor {
		return slot.key, nil
	}
	key, err := newLeafKey(kind)
	if err != nil {
		return leafKey{}, fmt.Errorf("making a leaf's key: %w", err)
	}
	slot.key, slot.born = key, now
	return key, nil
}

func newLeafKey(kind leafKind) (leafKey, error) {
	var private crypto.Signer
	var err error
	if kind == leafRSA {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return leafKey{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return leafKey{}, err
	}
	var info struct {
		Algorithm asn1.RawValue
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return leafKey{}, err
	}
	sum := sha256.Sum256(info.PublicKey.Bytes)
	return leafKey{private, sum[:20]}, nil
}

// leafKindFor returns the kind of key that a client can use: P-256, unless its
// hello shows that it only knows RSA. A hello of which nothing is known gets
// P-256.
func (m *Mint) leafKindFor(hello *flow.Hello) leafKind {
	if len(hello.Signatures) > 0 && !slices.Contains(hello.Signatures, tls.ECDSAWithP256AndSHA256) {
		return leafRSA
	}
	newest := m.maxVersion == 0 || m.maxVersion >= tls.VersionTLS13
	if newest && slices.Contains(hello.Versions, tls.VersionTLS13) {
		return leafECDSA
	}
	// Up to TLS 1.2 cipher suites say what signs, and the curve of the
	// certificate must be among the groups (RFC 8422, section 5.1).
	if len(hello.CipherSuites) > 0 && !slices.ContainsFunc(hello.CipherSuites, isECDSASuite) {
		return leafRSA
	}
	if len(hello.Groups) > 0 && !slices.Contains(hello.Groups, tls.CurveP256) {
		return leafRSA
	}
	return leafECDSA
}

// isECDSASuite reports whether a suite is one of TLS 1.2's with ECDHE_ECDSA
// that crypto/tls uses by default.
func isECDSASuite(id uint16) bool {
	switch id {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:
		return true
	}
	return false
}
