package mgmt

import (
	"context"
	"time"

	"moongate/internal/gw/admin"
)

// ImportKind is what a file brings.
type ImportKind string

const (
	ImportCertificate ImportKind = "certificate" // a certificate, perhaps with its chain
	ImportKey         ImportKind = "private-key" // of a certificate that is there
	ImportPair        ImportKind = "keypair"     // both
)

// ImportRequest is a file with a certificate, a private key or both. The caller
// clears Data and Passphrase.
type ImportRequest struct {
	Name       string
	Format     string // pem, der, pkcs12; "" finds out
	Data       []byte
	Passphrase []byte // of what is encrypted in it; nil for none
	// KeyOnHSM says that the certificate's private key is on the HSM: it is
	// looked for, and tried.
	KeyOnHSM bool
	Kind     ImportKind
}

// GenerateRequest is a certificate that is to be made.
type GenerateRequest struct {
	Name       string
	CommonName string
	// Subject's other parts; "" for none.
	Organization, OrganizationalUnit, Locality, State, Country, Email string
	// Names are the subject alternative names: host names, IP addresses,
	// e-mail addresses.
	Names []string
	// Algorithm is RSA or ECDSA; Bits 2048, 3072, 4096 or 256, 384.
	Algorithm string
	Bits      int
	Digest    string // sha256, sha384, sha512; "" for what goes with the key
	CA        bool
	OnHSM     bool // the private key is made there, and stays
	// SignedBy names the certificate that signs; "" for itself, "external" for
	// a request that another CA signs.
	SignedBy string
	Days     int // 0 for 365
}

// ExportRequest asks for a certificate in a file. The caller clears Passphrase.
type ExportRequest struct {
	Name       string
	Format     string // pem, der, pkcs12
	IncludeKey bool   // needs a superuser and a passphrase; never a key on the HSM
	Passphrase []byte
}

// CertificateState is how a certificate of the candidate stands.
type CertificateState struct {
	Name      string
	Subject   string
	Issuer    string
	Algorithm string // of the key: RSA-2048, P-256
	CA        bool
	NotBefore time.Time
	NotAfter  time.Time
	Revoked   bool
	// Key is where the private key is, and whether it can be used: locked,
	// software, missing, unavailable, no-key.
	Key string
	// Pending says that a signing request waits for its certificate.
	Pending bool
	UsedBy  []string // paths that name it
}

// privateKeyElement is the element that a sealed private key is in.
const privateKeyElement = "private-key"

// certificatesPath is the list of certificates.
const certificatesPath = "/config/shared/certificate"

var errLater = refuse(CodeNotPossible, "certificates cannot be changed yet")

func (m *Manager) sealPEM(path, text string) (string, error) { return "", errLater }

// ImportCertificate brings a certificate, a private key or both into the
// candidate. A private key is sealed.
func (m *Manager) ImportCertificate(ctx context.Context, c Caller, req ImportRequest) error {
	if err := m.allow(c, admin.OpCertificates, req.Name); err != nil {
		return err
	}
	return errLater
}

// GenerateCertificate makes a certificate with its key in the candidate.
func (m *Manager) GenerateCertificate(ctx context.Context, c Caller, req GenerateRequest) error {
	if err := m.allow(c, admin.OpCertificates, req.Name); err != nil {
		return err
	}
	return errLater
}

// CSR returns the signing request, in PEM, of a certificate.
func (m *Manager) CSR(ctx context.Context, c Caller, name string) ([]byte, error) {
	if err := m.allow(c, admin.OpExportCertificate, name); err != nil {
		return nil, err
	}
	return nil, errLater
}

// RenewCertificate signs a certificate of the candidate anew, for days from now.
func (m *Manager) RenewCertificate(ctx context.Context, c Caller, name string, days int) error {
	if err := m.allow(c, admin.OpCertificates, name); err != nil {
		return err
	}
	return errLater
}

// RevokeCertificate marks a certificate of the candidate as revoked.
func (m *Manager) RevokeCertificate(ctx context.Context, c Caller, name string) error {
	if err := m.allow(c, admin.OpCertificates, name); err != nil {
		return err
	}
	return errLater
}

// ExportCertificate returns a certificate of the candidate as a file, and what
// to call it.
func (m *Manager) ExportCertificate(ctx context.Context, c Caller, req ExportRequest) ([]byte, string, error) {
	op := admin.OpExportCertificate
	if req.IncludeKey {
		op = admin.OpExportKey
	}
	if err := m.allow(c, op, req.Name); err != nil {
		return nil, "", err
	}
	return nil, "", errLater
}

// CertificateStates lists the certificates of the candidate and how they stand.
func (m *Manager) CertificateStates(ctx context.Context, c Caller) ([]CertificateState, error) {
	if err := m.allow(c, admin.OpReadConfig, "certificates"); err != nil {
		return nil, err
	}
	return nil, errLater
}
