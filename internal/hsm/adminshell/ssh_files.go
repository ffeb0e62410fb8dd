package adminshell

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"moongate/internal/durable"
	"moongate/internal/hsm/users"
	"moongate/internal/sshd"
)

// Certificates of the HSM itself, as they are called everywhere: the one that
// clients pin, and the one that other HSMs' Security Officers pin.
const (
	serverFile   = "server.pem"
	identityFile = "identity.pem"
)

// maxInbox bounds how many certificates wait in the inbox.
const maxInbox = 1000

// exchange is what an account may fetch and deliver by scp and sftp: everybody
// the HSM's own certificates; who registers clients, their certificates in the
// inbox, under the address or host name that they will be registered by; an
// administrator also what HSMs hand each other to become one domain.
type exchange struct {
	appliance *Appliance
	who       Administrator
}

// isStill reports whether the account has one of roles: now, not when it came.
func (e *exchange) isStill(roles ...users.Role) bool {
	account, err := e.appliance.Users.Get(e.who.Name)
	return err == nil && account.Enabled && account.Role == e.who.Role && slices.Contains(roles, account.Role)
}

// delivers reports whether the account has the inbox.
func (e *exchange) delivers() bool { return e.isStill(operators...) }

// sees reports whether the account has a file of the inbox.
func (e *exchange) sees(name string) bool {
	if slices.Contains(domainFiles, name) {
		return e.isStill(admins...)
	}
	_, err := deliveredName(name)
	return err == nil && e.delivers()
}

// identity is identity.pem, with when it was made; nil where the HSM has none.
func (e *exchange) identity() ([]byte, time.Time) {
	der, _, err := e.appliance.HSM.HSMIdentity()
	if err != nil {
		return nil, time.Time{} // `hsm identity show` says why
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, time.Time{}
	}
	return pemOf(der), certificate.NotBefore
}

// List implements sshd.Files.
func (e *exchange) List(context.Context) ([]sshd.Info, error) {
	var list []sshd.Info
	if info, err := os.Stat(e.appliance.Certificate); err == nil {
		list = append(list, sshd.Info{Name: serverFile, Size: info.Size(), Modified: info.ModTime()})
	}
	if content, made := e.identity(); content != nil {
		list = append(list, sshd.Info{Name: identityFile, Size: int64(len(content)), Modified: made})
	}
	if !e.delivers() {
		return list, nil
	}
	entries, err := os.ReadDir(e.appliance.Inbox)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, e.internal("listing the inbox", err)
	}
	for _, entry := range entries {
		if !e.sees(entry.Name()) || !entry.Type().IsRegular() {
			continue
		}
		if info, err := entry.Info(); err == nil {
			list = append(list, sshd.Info{Name: entry.Name(), Size: info.Size(), Modified: info.ModTime(), Writable: true})
		}
	}
	slices.SortFunc(list, func(a, b sshd.Info) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Read implements sshd.Files.
func (e *exchange) Read(ctx context.Context, name string) ([]byte, error) {
	path := e.appliance.Certificate
	if content, _ := e.identity(); name == identityFile && content != nil {
		return content, nil
	}
	if name != serverFile {
		list, err := e.List(ctx)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(i sshd.Info) bool { return i.Name == name }) {
			return nil, fs.ErrNotExist
		}
		path = filepath.Join(e.appliance.Inbox, name)
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	} else if err != nil {
		return nil, e.internal("reading "+name, err)
	}
	return content, nil
}

// Accepts implements sshd.Files.
func (e *exchange) Accepts(_ context.Context, name string) error {
	switch {
	case name == serverFile || name == identityFile:
		return fmt.Errorf("%w: %s is the HSM's own, and is only fetched", fs.ErrPermission, name)
	case slices.Contains(domainFiles, name) && !e.sees(name):
		return fmt.Errorf("%w: role %s delivers no %s; admin does", fs.ErrPermission, e.who.Role, name)
	case !e.delivers():
		return fmt.Errorf("%w: role %s delivers nothing; admin and operator do", fs.ErrPermission, e.who.Role)
	}
	_, err := e.keptName(name)
	return err
}

// keptName is the name that a delivered file is kept by.
func (e *exchange) keptName(name string) (string, error) {
	if slices.Contains(domainFiles, name) {
		return name, nil
	}
	return deliveredName(name)
}

// Write implements sshd.Files.
func (e *exchange) Write(ctx context.Context, name string, content []byte) error {
	if err := e.Accepts(ctx, name); err != nil {
		return err
	}
	name, err := e.keptName(name)
	if err != nil {
		return err
	}
	about, err := checkDelivered(name, content)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	path := filepath.Join(e.appliance.Inbox, name)
	entries, err := os.ReadDir(e.appliance.Inbox)
	if err != nil {
		return e.internal("listing the inbox", err)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) && len(entries) >= maxInbox {
		return fmt.Errorf("the inbox holds %d files; remove some on the HSM's own machine", len(entries))
	}
	err = e.appliance.HSM.Act(ctx, e.who.Operator, "inbox.write", about, func() error { return durable.WriteFile(path, content, 0o600) })
	if err != nil {
		return e.internal("writing "+name, err)
	}
	return nil
}

// checkDelivered looks at a delivered file, and says what it is for the audit
// log. What HSMs hand each other is looked at by the command that takes it.
func checkDelivered(name string, content []byte) (about string, err error) {
	if slices.Contains(domainFiles, name) {
		if len(content) == 0 || len(content) > maxDelivered {
			return "", fmt.Errorf("it has %d bytes, expected 1 to %d", len(content), maxDelivered)
		}
		return name, nil
	}
	certificate, err := checkCertificate(content)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", name, certificate.Subject), nil
}

// internal is what the peer is told of an error that may hold paths.
func (e *exchange) internal(doing string, err error) error {
	e.appliance.Logger.Error("exchanging files", "doing", doing, "user", e.who.Name, "err", err)
	return fmt.Errorf("%s failed; the HSM's log says why", doing)
}

// deliveredName is the name that a certificate is kept by: that of the address
// or host that its client is registered for, written in the one way.
func deliveredName(name string) (string, error) {
	base, isPEM := strings.CutSuffix(name, ".pem")
	if addr, ok := hostAddress(base); isPEM && ok {
		return addr.String() + ".pem", nil
	}
	if !isPEM || !isHostname(base) {
		return "", fmt.Errorf("%q: expected ADDRESS.pem or HOST.pem, with the address or host name that the client will be registered by", name)
	}
	return strings.ToLower(base) + ".pem", nil
}

// isHostname accepts names of hosts: letters, digits, dashes and, in parts
// between dots, underlines.
func isHostname(name string) bool {
	if name == "" || len(name) > 240 || strings.EqualFold(name+".pem", serverFile) || strings.EqualFold(name+".pem", identityFile) {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || len(part) > 63 || strings.HasPrefix(part, "-") || strings.HasSuffix(part, "-") ||
			strings.ContainsFunc(part, func(r rune) bool {
				return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
			}) {
			return false
		}
	}
	return true
}

// checkCertificate accepts one certificate in PEM, and nothing else.
func checkCertificate(content []byte) (*x509.Certificate, error) {
	if bytes.Contains(content, []byte("PRIVATE KEY")) {
		return nil, errors.New("it holds a private key, which never leaves its machine; send the certificate alone, and take a new key")
	}
	block, rest := pem.Decode(content)
	if block == nil || block.Type != "CERTIFICATE" || !bytes.HasPrefix(bytes.TrimSpace(content), []byte("-----BEGIN")) {
		return nil, errors.New("it is no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("more follows the certificate; send one certificate alone")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block holds no X.509 certificate")
	}
	return certificate, nil
}
