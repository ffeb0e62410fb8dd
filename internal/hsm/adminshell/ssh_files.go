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

	"moongate/internal/durable"
	"moongate/internal/hsm/users"
	"moongate/internal/sshd"
)

// serverFile is the certificate that clients pin, as it is called everywhere.
const serverFile = "server.pem"

// maxInbox bounds how many certificates wait in the inbox.
const maxInbox = 1000

// exchange is what an account may fetch and deliver by scp and sftp: everybody
// the server's certificate; who registers clients, their certificates in the
// inbox, under the address or host name that they will be registered by.
type exchange struct {
	appliance *Appliance
	who       Administrator
}

// delivers reports whether the account has the inbox. The role is that of now.
func (e *exchange) delivers() bool {
	account, err := e.appliance.Users.Get(e.who.Name)
	return err == nil && account.Enabled && account.Role == e.who.Role &&
		(account.Role == users.RoleAdmin || account.Role == users.RoleOperator)
}

// List implements sshd.Files.
func (e *exchange) List(context.Context) ([]sshd.Info, error) {
	var list []sshd.Info
	if info, err := os.Stat(e.appliance.Certificate); err == nil {
		list = append(list, sshd.Info{Name: serverFile, Size: info.Size(), Modified: info.ModTime()})
	}
	if !e.delivers() {
		return list, nil
	}
	entries, err := os.ReadDir(e.appliance.Inbox)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, e.internal("listing the inbox", err)
	}
	for _, entry := range entries {
		if _, err := deliveredName(entry.Name()); err != nil || !entry.Type().IsRegular() {
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
	case name == serverFile:
		return fmt.Errorf("%w: %s is the HSM's own, and is only fetched", fs.ErrPermission, serverFile)
	case !e.delivers():
		return fmt.Errorf("%w: role %s delivers nothing; admin and operator do", fs.ErrPermission, e.who.Role)
	}
	_, err := deliveredName(name)
	return err
}

// Write implements sshd.Files.
func (e *exchange) Write(ctx context.Context, name string, content []byte) error {
	if err := e.Accepts(ctx, name); err != nil {
		return err
	}
	name, err := deliveredName(name)
	if err != nil {
		return err
	}
	certificate, err := checkCertificate(content)
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
	about := fmt.Sprintf("%s, %s", name, certificate.Subject)
	err = e.appliance.HSM.Act(ctx, e.who.Operator, "inbox.write", about, func() error { return durable.WriteFile(path, content, 0o600) })
	if err != nil {
		return e.internal("writing "+name, err)
	}
	return nil
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
	if name == "" || len(name) > 240 || strings.EqualFold(name+".pem", serverFile) {
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
