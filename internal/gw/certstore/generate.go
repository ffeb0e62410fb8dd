package certstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/selfsign"
)

// The kinds of keys that are made.
const (
	RSA   = "RSA"
	ECDSA = "ECDSA"
)

// External is the CA that is asked by a request, in the place of the name of
// one that is here.
const External = "external"

// GenerateRequest is what a new certificate shall say.
type GenerateRequest struct {
	Name string // of the entry
	Subject
	Algorithm string // RSA or ECDSA; "" is RSA
	Bits      int    // 2048, 3072, 4096; 256, 384; 0 is 2048 or 256
	Digest    string // sha256, sha384, sha512; "" is what goes with the signing key
	CA        bool
	Days      int // 0 is 365
	// Hosts are a server's names and addresses; without, the common name is
	// the only one.
	Hosts  []string
	Emails []string
	// SignedBy names the certificate of a CA; "" is itself, External another.
	SignedBy string
	OnHSM    bool // the key is made there and stays there
}

// Subject is a distinguished name; each part but the first may be absent.
type Subject struct {
	CommonName, Country, State, Locality, Organization string
	Units                                              []string
}

// Generate makes a key pair and a certificate for it, or a request, and the
// edits that take both in. A key that was made on the HSM stays there when what
// comes after it fails.
func (e *Editor) Generate(ctx context.Context, root *config.Node, r GenerateRequest) ([]config.Edit, error) {
	edits, err := e.generate(ctx, root, r)
	if err != nil {
		return nil, fmt.Errorf("generating certificate %q: %w", r.Name, err)
	}
	return edits, nil
}

func (e *Editor) generate(ctx context.Context, root *config.Node, r GenerateRequest) ([]config.Edit, error) {
	if err := nameFits(root, r.Name); err != nil {
		return nil, err
	}
	nodes, err := config.Select(root, entryPath(r.Name))
	if err != nil {
		return nil, err
	}
	if len(nodes) > 0 {
		return nil, fmt.Errorf("%w: there is one of the name; renew it, delete it first, or take another name", config.ErrNotUnique)
	}
	request, err := e.request(r)
	if err != nil {
		return nil, err
	}
	spec, err := keySpec(r)
	if err != nil {
		return nil, err
	}
	// Whoever signs is asked for before a key is made that nobody needs then.
	var ca *authority
	if r.SignedBy != "" && r.SignedBy != External {
		if ca, err = e.authority(ctx, root, r.SignedBy, r.CA); err != nil {
			return nil, err
		}
	}
	signing := crypto.PublicKey(&rsa.PublicKey{})
	if spec.Curve != nil {
		signing = &ecdsa.PublicKey{Curve: spec.Curve}
	}
	if ca != nil {
		signing = ca.issuer.Key.Public()
	}
	if request.Algorithm, err = signatureAlgorithm(r.Digest, signing); err != nil {
		return nil, err
	}
	key, place, err := e.make(ctx, spec, r.OnHSM)
	if err != nil {
		return nil, err
	}
	edits, err := finish(r, request, key, place, ca)
	if err != nil && r.OnHSM {
		return nil, fmt.Errorf("%w (its key stays on the HSM with the label %q: remove it with `cmu delete`)", err, spec.Label)
	}
	return edits, err
}

// finish makes the certificate or the request of a key that is there.
func finish(r GenerateRequest, request selfsign.Request, key crypto.Signer, place keyPlace, ca *authority) ([]config.Edit, error) {
	if r.SignedBy == External {
		der, err := selfsign.NewSigningRequest(key, request)
		if err != nil {
			return nil, err
		}
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return nil, fmt.Errorf("reading the request that was signed: %w", err)
		}
		return put(requestEntry(r.Name, csr, place)), nil
	}
	var der []byte
	var err error
	var issuers []*x509.Certificate
	if ca == nil {
		der, err = selfsign.Certificate(key, request)
	} else {
		issuers = ca.chain
		der, err = selfsign.Issue(key.Public(), request, ca.issuer)
	}
	if err != nil {
		return nil, err
	}
	return certified(r.Name, der, issuers, place)
}

// make makes a key pair, on the HSM or here.
func (e *Editor) make(ctx context.Context, spec keys.Spec, onHSM bool) (crypto.Signer, keyPlace, error) {
	if onHSM {
		if err := e.hsmReady(); err != nil {
			return nil, keyPlace{}, err
		}
		key, err := e.hsm.Make(ctx, spec)
		if err != nil {
			return nil, keyPlace{}, err
		}
		return key.Bind(ctx), keyPlace{onHSM: true}, nil
	}
	var key crypto.Signer
	var err error
	if spec.Curve != nil {
		key, err = ecdsa.GenerateKey(spec.Curve, rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, spec.RSABits)
	}
	if err != nil {
		return nil, keyPlace{}, fmt.Errorf("making a key: %w", err)
	}
	place, err := sealKey(e.vault, key)
	return key, place, err
}

func keySpec(r GenerateRequest) (keys.Spec, error) {
	// A server's RSA key decrypts as well, for the RSA key exchange.
	s := keys.Spec{Label: r.Name, Decrypt: !r.CA}
	switch strings.ToUpper(r.Algorithm) {
	case RSA, "":
		switch r.Bits {
		case 0:
			s.RSABits = 2048
		case 2048, 3072, 4096:
			s.RSABits = r.Bits
		default:
			return s, fmt.Errorf("an RSA key of %d bits, expected 2048, 3072 or 4096", r.Bits)
		}
	case ECDSA, "EC":
		s.Decrypt = false
		switch r.Bits {
		case 0, 256:
			s.Curve = elliptic.P256()
		case 384:
			s.Curve = elliptic.P384()
		default:
			return s, fmt.Errorf("an ECDSA key of %d bits, expected 256 or 384", r.Bits)
		}
	default:
		return s, fmt.Errorf("a key of the algorithm %q, expected %s or %s", r.Algorithm, RSA, ECDSA)
	}
	return s, nil
}

// signatureAlgorithm is how the signing key signs a digest; zero for what
// crypto/x509 chooses by the key.
func signatureAlgorithm(digest string, key crypto.PublicKey) (x509.SignatureAlgorithm, error) {
	_, isRSA := key.(*rsa.PublicKey)
	choose := func(withRSA, withECDSA x509.SignatureAlgorithm) (x509.SignatureAlgorithm, error) {
		if isRSA {
			return withRSA, nil
		}
		return withECDSA, nil
	}
	switch digest {
	case "":
		return x509.UnknownSignatureAlgorithm, nil
	case "sha256":
		return choose(x509.SHA256WithRSA, x509.ECDSAWithSHA256)
	case "sha384":
		return choose(x509.SHA384WithRSA, x509.ECDSAWithSHA384)
	case "sha512":
		return choose(x509.SHA512WithRSA, x509.ECDSAWithSHA512)
	}
	return 0, fmt.Errorf("the digest %q, expected sha256, sha384 or sha512", digest)
}

// request checks what a certificate shall say.
func (e *Editor) request(r GenerateRequest) (selfsign.Request, error) {
	var out selfsign.Request
	var err error
	if out.Subject, err = r.Subject.name(); err != nil {
		return out, err
	}
	if out.NotBefore, out.NotAfter, err = e.dates(r.Days); err != nil {
		return out, err
	}
	out.CA = r.CA
	if r.CA {
		if len(r.Hosts) > 0 {
			return out, errors.New("hosts of a CA, which names none: give them to the certificates that it signs")
		}
	} else if out.Names, out.Addresses, err = hosts(r.Hosts, r.CommonName); err != nil {
		return out, err
	}
	for _, email := range r.Emails {
		if !isASCIIText(email) || !strings.Contains(email, "@") || len(email) > 254 {
			return out, fmt.Errorf("the e-mail address %q is none", email)
		}
	}
	out.Emails = r.Emails
	return out, nil
}

// maxHosts bounds a certificate, so that a chain fits into the configuration.
const maxHosts = 200

func hosts(list []string, commonName string) (names []string, addresses []net.IP, err error) {
	if len(list) == 0 {
		if !isServerName(commonName) {
			return nil, nil, fmt.Errorf("a server's certificate without a host name or address: give one, or a common name that is one instead of %q", commonName)
		}
		list = []string{commonName}
	}
	if len(list) > maxHosts {
		return nil, nil, fmt.Errorf("%d host names and addresses, expected at most %d", len(list), maxHosts)
	}
	for _, host := range list {
		if !isServerName(host) {
			return nil, nil, fmt.Errorf("%q is neither a host name nor an address", host)
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			addresses = append(addresses, net.IP(ip.Unmap().AsSlice()))
		} else {
			names = append(names, strings.ToLower(host))
		}
	}
	return names, addresses, nil
}

// isServerName admits an address without a zone, a host name of RFC 1123, and
// one with a star as its first label (RFC 6125, section 6.4.3).
func isServerName(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == ""
	}
	rest := strings.TrimPrefix(s, "*.")
	if rest == "" || len(rest) > 253 || !strings.Contains(rest, ".") && rest != s {
		return false
	}
	for label := range strings.SplitSeq(rest, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	last := rest[strings.LastIndexByte(rest, '.')+1:]
	return strings.Trim(last, "0123456789") != "" // not a mistyped address
}

// name checks the parts of a subject against the upper bounds of RFC 5280,
// appendix A.1, in characters.
func (s Subject) name() (pkix.Name, error) {
	var n pkix.Name
	if s.CommonName == "" {
		return n, errors.New("no common name")
	}
	for _, part := range []struct {
		what, value string
		limit       int
		set         func(string)
	}{
		{"common name", s.CommonName, 64, func(v string) { n.CommonName = v }},
		{"state", s.State, 128, func(v string) { n.Province = []string{v} }},
		{"locality", s.Locality, 128, func(v string) { n.Locality = []string{v} }},
		{"organization", s.Organization, 64, func(v string) { n.Organization = []string{v} }},
	} {
		if part.value == "" {
			continue
		}
		if err := subjectPart(part.what, part.value, part.limit); err != nil {
			return n, err
		}
		part.set(part.value)
	}
	if len(s.Units) > 8 {
		return n, fmt.Errorf("%d organizational units, expected at most 8", len(s.Units))
	}
	for _, unit := range s.Units {
		if err := subjectPart("organizational unit", unit, 64); err != nil {
			return n, err
		}
	}
	n.OrganizationalUnit = s.Units
	if c := s.Country; c != "" {
		if len(c) != 2 || c[0] < 'A' || c[0] > 'Z' || c[1] < 'A' || c[1] > 'Z' {
			return n, fmt.Errorf("the country %q, expected its two capital letters", c)
		}
		n.Country = []string{c}
	}
	return n, nil
}

func subjectPart(what, value string, limit int) error {
	if strings.TrimSpace(value) != value || value == "" || !printable(value) {
		return fmt.Errorf("the %s %q, expected printable text without white space around it", what, value)
	}
	if n := len([]rune(value)); n > limit {
		return fmt.Errorf("a %s of %d characters, expected at most %d", what, n, limit)
	}
	return nil
}

func isASCIIText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
