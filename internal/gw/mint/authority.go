package mint

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/flow"
)

// Authorities are the CA certificates of one degree of trust, by kind of key;
// one may be nil.
type Authorities struct {
	RSA   *certstore.Entry
	ECDSA *certstore.Entry
}

// authority is a CA certificate that signs leaves.
type authority struct {
	entry *certstore.Entry
	cert  *x509.Certificate
	// root holds the certificate alone: leaves must verify to it.
	root *x509.CertPool
	// scheme is what a client must be able to verify (RFC 8446, section
	// 4.2.3) to accept its signatures.
	scheme tls.SignatureScheme
	// above is what follows a leaf on the wire: the certificate and its
	// issuers, without a self-signed root.
	above [][]byte
}

// authorities are those of one degree of trust, RSA first.
type authorities []*authority

func newAuthorities(role string, set Authorities) (authorities, error) {
	var list authorities
	for _, entry := range []*certstore.Entry{set.RSA, set.ECDSA} {
		if entry == nil {
			continue
		}
		a, err := newAuthority(entry)
		if err != nil {
			return nil, fmt.Errorf("%s certificate %q: %w", role, entry.Name, err)
		}
		if a.isRSA() != (entry == set.RSA) {
			return nil, fmt.Errorf("%s certificate %q has a %s key, which is not what its place is for", role, entry.Name, flow.DescribeKey(a.cert.PublicKey))
		}
		list = append(list, a)
	}
	return list, nil
}

func newAuthority(entry *certstore.Entry) (*authority, error) {
	cert := entry.Leaf()
	a := &authority{entry: entry, cert: cert, root: x509.NewCertPool()}
	a.root.AddCert(cert)
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			return nil, fmt.Errorf("its RSA key has %d bits, at least 2048 are needed", bits)
		}
		a.scheme = tls.PKCS1WithSHA256
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			a.scheme = tls.ECDSAWithP256AndSHA256
		case elliptic.P384():
			a.scheme = tls.ECDSAWithP384AndSHA384
		case elliptic.P521():
			a.scheme = tls.ECDSAWithP521AndSHA512
		default:
			return nil, fmt.Errorf("its curve, %s, is not one that TLS clients verify", key.Params().Name)
		}
	default:
		return nil, fmt.Errorf("its key is %s, expected RSA or ECDSA", flow.DescribeKey(cert.PublicKey))
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return nil, errors.New("it is not the certificate of an authority (basicConstraints CA)")
	}
	if cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("its key usage does not allow it to sign certificates")
	}
	if !certstore.IsRoot(cert) {
		a.above = append(a.above, cert.Raw)
	}
	for _, issuer := range entry.Issuers() {
		a.above = append(a.above, issuer.Raw)
	}
	return a, nil
}

func (a *authority) isRSA() bool {
	_, is := a.cert.PublicKey.(*rsa.PublicKey)
	return is
}

// disjoint refuses a key that is in both sets.
func (list authorities) disjoint(others authorities) error {
	for _, a := range list {
		for _, b := range others {
			if bytes.Equal(a.cert.RawSubjectPublicKeyInfo, b.cert.RawSubjectPublicKeyInfo) {
				return fmt.Errorf("certificates %q and %q have the same key, so that one could pass for the other: forward-untrust needs a key of its own",
					a.entry.Name, b.entry.Name)
			}
		}
	}
	return nil
}

// choose returns the authority for a request. Trust decides between the two
// sets, here and nowhere else. Within a set it is the one with the server's
// kind of key, unless the client cannot verify it and can the other.
func (m *Mint) choose(req *flow.CertifyRequest) (*authority, error) {
	set := m.untrust
	if req.Trust {
		set = m.trust
	}
	if len(set) == 0 {
		return nil, &flow.Failure{Stage: flow.StageCertify, Alert: flow.AlertCertificateUnknown,
			Err: errors.New("the server is not trusted, and no forward-untrust certificate is configured to present it with")}
	}
	_, serverRSA := req.Upstream[0].PublicKey.(*rsa.PublicKey)
	var best *authority
	bestScore := -1
	for _, a := range set {
		score := 0
		if len(req.Hello.Signatures) == 0 || slices.Contains(req.Hello.Signatures, a.scheme) {
			score += 2
		}
		if a.isRSA() == serverRSA {
			score++
		}
		if score > bestScore {
			best, bestScore = a, score
		}
	}
	return best, nil
}

// signer is a bound key that remembers why it did not sign: x509 does not say
// whether an error is the key's or its own.
type signer struct {
	crypto.Signer
	err error
}

func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(rand, digest, opts)
	if err != nil {
		s.err = err
	}
	return signature, err
}
