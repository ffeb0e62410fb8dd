package mgmt

import (
	"context"
	"errors"
	"strings"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
	"moongate/internal/keyfile"
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
	Organization, OrganizationalUnit, Locality, State, Country string
	// Email and Names are the subject alternative names: host names, IP
	// addresses, e-mail addresses; without a host, the common name is one.
	Email     string
	Names     []string
	Algorithm string // RSA or ECDSA; "" is RSA
	Bits      int    // 2048, 3072, 4096 or 256, 384; 0 is 2048 or 256
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
	Format     string // pem, der, pkcs12; "" is pem
	IncludeKey bool   // needs a superuser and a passphrase; never a key on the HSM
	Passphrase []byte
}

// CertificateState is how a certificate of the candidate stands.
type CertificateState struct {
	Name      string
	Subject   string // /C=DE/CN=name
	Issuer    string // "" of a request
	Serial    string // hexadecimal
	SHA256    string // fingerprint, hexadecimal
	Names     []string
	Algorithm string // RSA or EC
	CA        bool
	NotBefore time.Time
	NotAfter  time.Time
	Days      int // that are left; negative when they are over
	Revoked   bool
	// Pending says that it is a request, whose certificate is not there yet.
	Pending bool
	// Key is how the private key stands, which the HSM was asked for: locked,
	// software, unreadable, missing, unavailable, no-key.
	Key    string
	UsedBy []string // paths that name it
}

// names divides subject alternative names into hosts and e-mail addresses.
func (r GenerateRequest) names() (hosts, emails []string) {
	if r.Email != "" {
		emails = append(emails, r.Email)
	}
	for _, name := range r.Names {
		if strings.Contains(name, "@") {
			emails = append(emails, name)
		} else {
			hosts = append(hosts, name)
		}
	}
	return hosts, emails
}

// privateKeyElement is the element that a sealed private key is in.
const privateKeyElement = "private-key"

// keyWork bounds what is done with keys for one call: an RSA key of 4,096 bits
// takes seconds to make.
const keyWork = time.Minute

func (m *Manager) sealPEM(path, text string) (string, error) {
	sealed, err := certstore.SealPEM(m.parts.Vault, text)
	if errors.Is(err, keys.ErrUnavailable) {
		return "", refuse(CodeNotPossible, "%s: %v", path, err)
	}
	if err != nil {
		return "", refuse(CodeInvalidObject, "%s: %v", path, err)
	}
	return sealed, nil
}

// certificateEdits allows a change of certificates, has make say which edits it
// takes, and makes them in the candidate. Keys are made, looked for and tried
// without any lock.
func (m *Manager) certificateEdits(ctx context.Context, c Caller, command, name string, make func(context.Context, *config.Node) ([]config.Edit, error)) error {
	path := certstore.ListPath + "/" + config.EntryStep(name)
	err := m.allow(c, admin.OpCertificates, name)
	if err == nil {
		work, cancel := context.WithTimeout(ctx, keyWork)
		defer cancel()
		root, _ := m.parts.Revisions.Candidate()
		var edits []config.Edit
		if edits, err = make(work, root); err == nil {
			err = m.change(ctx, c, command, root, edits)
		}
	}
	if err != nil {
		err = certificateError(err)
		m.record(c, command, path, "", "", failed(err))
	}
	return err
}

// certificateError gives an error of certstore its code: what is not about
// names, references or the HSM is about what was given.
func certificateError(err error) error {
	if errors.Is(err, keys.ErrUnavailable) || errors.Is(err, keys.ErrNotFound) {
		return refuse(CodeNotPossible, "%v", err)
	}
	var e *Error
	if errors.As(coded(err), &e) && e.Code != CodeNotPossible {
		return e
	}
	if CodeOf(err) != 0 || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return refuse(CodeInvalidObject, "%v", err)
}

// ImportCertificate brings a certificate, a private key or both into the
// candidate. A private key is sealed.
func (m *Manager) ImportCertificate(ctx context.Context, c Caller, req ImportRequest) error {
	return m.certificateEdits(ctx, c, "import "+string(req.Kind), req.Name, func(ctx context.Context, root *config.Node) ([]config.Edit, error) {
		return m.editor.Import(ctx, root, certstore.ImportRequest{
			Name: req.Name, Part: certstore.Part(req.Kind), Format: keyfile.Format(req.Format), Data: req.Data,
			Passphrase: req.Passphrase, KeyOnHSM: req.KeyOnHSM,
		})
	})
}

// GenerateCertificate makes a certificate with its key in the candidate.
func (m *Manager) GenerateCertificate(ctx context.Context, c Caller, req GenerateRequest) error {
	return m.certificateEdits(ctx, c, "generate certificate", req.Name, func(ctx context.Context, root *config.Node) ([]config.Edit, error) {
		subject := certstore.Subject{
			CommonName: req.CommonName, Country: req.Country, State: req.State, Locality: req.Locality, Organization: req.Organization,
		}
		if req.OrganizationalUnit != "" {
			subject.Units = []string{req.OrganizationalUnit}
		}
		hosts, emails := req.names()
		return m.editor.Generate(ctx, root, certstore.GenerateRequest{
			Name: req.Name, Subject: subject, Algorithm: req.Algorithm, Bits: req.Bits, Digest: req.Digest, CA: req.CA,
			Days: req.Days, Hosts: hosts, Emails: emails, SignedBy: req.SignedBy, OnHSM: req.OnHSM,
		})
	})
}

// RenewCertificate signs a certificate of the candidate anew, for days from now.
func (m *Manager) RenewCertificate(ctx context.Context, c Caller, name string, days int) error {
	return m.certificateEdits(ctx, c, "renew certificate", name, func(ctx context.Context, root *config.Node) ([]config.Edit, error) {
		return m.editor.Renew(ctx, root, name, days)
	})
}

// RevokeCertificate marks a certificate of the candidate as revoked. Nothing
// may name it any more.
func (m *Manager) RevokeCertificate(ctx context.Context, c Caller, name string) error {
	return m.certificateEdits(ctx, c, "revoke certificate", name, func(_ context.Context, root *config.Node) ([]config.Edit, error) {
		return m.editor.Revoke(root, name)
	})
}

// CSR returns the signing request, in PEM, of a certificate.
func (m *Manager) CSR(ctx context.Context, c Caller, name string) ([]byte, error) {
	if err := m.allow(c, admin.OpExportCertificate, name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyWork)
	defer cancel()
	root, _ := m.parts.Revisions.Candidate()
	text, err := m.editor.CSR(ctx, root, name)
	if err != nil {
		return nil, certificateError(err)
	}
	return text, nil
}

// ExportCertificate returns a certificate of the candidate as a file, and what
// to call it. That a private key left the gateway is in the system log.
func (m *Manager) ExportCertificate(ctx context.Context, c Caller, req ExportRequest) ([]byte, string, error) {
	op := admin.OpExportCertificate
	if req.IncludeKey {
		op = admin.OpExportKey
	}
	if err := m.allow(c, op, req.Name); err != nil {
		return nil, "", err
	}
	root, _ := m.parts.Revisions.Candidate()
	data, name, err := m.editor.Export(root, certstore.ExportRequest{
		Name: req.Name, Format: keyfile.Format(req.Format), IncludeKey: req.IncludeKey, Passphrase: req.Passphrase,
	})
	if err != nil {
		return nil, "", certificateError(err)
	}
	if req.IncludeKey {
		m.event(logstore.High, "crypto", "private-key-export", req.Name, "the private key of certificate "+req.Name+" was exported under a passphrase by "+who(c))
	}
	return data, name, nil
}

// CertificateStates lists the certificates of the candidate and how they stand.
// The HSM is asked for keys, within ctx.
func (m *Manager) CertificateStates(ctx context.Context, c Caller) ([]CertificateState, error) {
	if err := m.allow(c, admin.OpReadConfig, "certificates"); err != nil {
		return nil, err
	}
	root, _ := m.parts.Revisions.Candidate()
	list, err := certstore.List(root, m.now())
	if err != nil {
		return nil, certificateError(err)
	}
	ctx, cancel := context.WithTimeout(ctx, stateWork)
	defer cancel()
	states := make([]CertificateState, len(list))
	for i, info := range list {
		states[i] = CertificateState{
			Name: info.Name, Subject: info.Subject, Issuer: info.Issuer, Serial: info.Serial, SHA256: info.SHA256, Names: info.Names,
			Algorithm: info.Algorithm, CA: info.CA, NotBefore: info.NotBefore, NotAfter: info.NotAfter, Days: info.Expiry.Days,
			Revoked: info.Revoked, Pending: info.Request, UsedBy: info.Users, Key: string(certstore.NoKey),
		}
		if info.Key == certstore.Nowhere {
			continue
		}
		state, err := m.editor.KeyState(ctx, root, info.Name)
		if err != nil {
			state = certstore.Unavailable
		}
		states[i].Key = string(state)
	}
	return states, nil
}

// stateWork bounds how long a list of certificates waits for the HSM.
const stateWork = 5 * time.Second

// TestKey has the private key of a certificate of the candidate sign, and
// verifies the signature.
func (m *Manager) TestKey(ctx context.Context, c Caller, name string) error {
	if err := m.allow(c, admin.OpTestKey, name); err != nil {
		return err
	}
	s := m.Snapshot()
	if s == nil {
		return m.notInUse()
	}
	store, err := certstore.New(s.Certificates, m.parts.Keys)
	if err != nil {
		return certificateError(err)
	}
	entry, err := store.Certificate(name)
	if err != nil {
		return refuse(CodeNotFound, "%v in the running configuration", err)
	}
	key, err := entry.Key(ctx)
	if err == nil {
		err = certstore.Prove(ctx, key)
	}
	if err != nil {
		return certificateError(err)
	}
	return nil
}

// checkKeys opens every software key of a snapshot, so that one that does not
// open is found now and not in a handshake. While the vault is locked that is
// left for when it opens.
func (m *Manager) checkKeys(s *config.Snapshot, r *jobs.Report) error {
	if err := m.parts.Vault.Locked(); err != nil {
		m.mu.Lock()
		m.told.untried = true
		m.mu.Unlock()
		if len(s.Certificates) > 0 {
			r.Warning("software private keys cannot be tried now: " + oneLine(err.Error()))
		}
		return nil
	}
	store, err := certstore.New(s.Certificates, m.parts.Keys)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), keyWork)
	defer cancel()
	return store.CheckSoftware(ctx)
}

// CertificateNames lists the certificates of the candidate, without asking the
// HSM for anything.
func (m *Manager) CertificateNames(ctx context.Context, c Caller) ([]string, error) {
	if err := m.allow(c, admin.OpReadConfig, "certificates"); err != nil {
		return nil, err
	}
	root, _ := m.parts.Revisions.Candidate()
	list, err := certstore.List(root, m.now())
	if err != nil {
		return nil, certificateError(err)
	}
	var names []string
	for _, info := range list {
		if !info.Request {
			names = append(names, info.Name)
		}
	}
	return names, nil
}
