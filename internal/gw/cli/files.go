package cli

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/mgmt"
	"moongate/internal/sshd"
)

// exchange is what an administrator may fetch and bring by scp and sftp: the
// configurations and the certificates are fetched; what is brought is his own,
// for commands to take.
type exchange struct{ *account }

// Files implements sshd.Account.
func (a *account) Files() sshd.Files { return exchange{a} }

const (
	runningFile   = "running-config.xml"
	candidateFile = "candidate-config.xml"
	// A certificate is fetched by its name in the configuration, in PEM.
	certificatePrefix, certificateSuffix = "cert_", ".pem"
)

// List implements sshd.Files.
func (e exchange) List(ctx context.Context) ([]sshd.Info, error) {
	var list []sshd.Info
	add := func(name string, content []byte, err error) {
		if err == nil {
			list = append(list, sshd.Info{Name: name, Size: int64(len(content)), Modified: time.Now()})
		}
	}
	for _, name := range []string{runningFile, candidateFile} {
		content, err := e.made(ctx, name)
		add(name, content, err)
	}
	names, err := e.opts.Manager.CertificateNames(ctx, e.caller)
	if err != nil {
		return nil, refusal(err)
	}
	for _, name := range names {
		file := certificatePrefix + name + certificateSuffix
		content, err := e.made(ctx, file)
		add(file, content, err)
	}
	for _, file := range e.clientCertificates(ctx) {
		add(file.Name, file.PEM, nil)
	}
	if e.opts.Manager.BringsFiles(e.caller) {
		brought, err := e.opts.Manager.Files(ctx, e.caller)
		if err != nil {
			return nil, refusal(err)
		}
		for _, f := range brought {
			list = slices.DeleteFunc(list, func(i sshd.Info) bool { return i.Name == f.Name })
			list = append(list, sshd.Info{Name: f.Name, Size: int64(f.Size), Modified: f.At, Writable: true})
		}
	}
	slices.SortFunc(list, func(a, b sshd.Info) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// made is a file that the gateway makes when it is asked for.
func (e exchange) made(ctx context.Context, name string) ([]byte, error) {
	switch name {
	case runningFile:
		return e.opts.Manager.ExportConfig(ctx, e.caller, mgmt.Running)
	case candidateFile:
		return e.opts.Manager.ExportConfig(ctx, e.caller, mgmt.Candidate)
	}
	if certificate, is := certificateOf(name); is {
		content, _, err := e.opts.Manager.ExportCertificate(ctx, e.caller, mgmt.ExportRequest{Name: certificate, Format: "pem"})
		return content, err
	}
	for _, file := range e.clientCertificates(ctx) {
		if file.Name == name {
			return file.PEM, nil
		}
	}
	return nil, fs.ErrNotExist
}

// clientCertificates are the gateway's own for its HSM servers: one file for
// each address that those see it come from.
func (e exchange) clientCertificates(ctx context.Context) []hsmlink.Exported {
	status, err := e.opts.Manager.HSMStatus(ctx, e.caller)
	if err != nil {
		return nil
	}
	var list []hsmlink.Exported
	for i := range status.Servers {
		file, err := e.opts.Manager.HSMClientCertificate(ctx, e.caller, status.Servers[i].Name)
		if err == nil && !slices.ContainsFunc(list, func(f hsmlink.Exported) bool { return f.Name == file.Name }) {
			list = append(list, file)
		}
	}
	return list
}

func certificateOf(file string) (string, bool) {
	rest, prefixed := strings.CutPrefix(file, certificatePrefix)
	name, suffixed := strings.CutSuffix(rest, certificateSuffix)
	return name, prefixed && suffixed && name != ""
}

// Read implements sshd.Files. What the administrator brought comes first.
func (e exchange) Read(ctx context.Context, name string) ([]byte, error) {
	if e.opts.Manager.BringsFiles(e.caller) {
		if content, err := e.opts.Manager.File(ctx, e.caller, name); err == nil {
			return content, nil
		}
	}
	content, err := e.made(ctx, name)
	if err != nil {
		return nil, refusal(err)
	}
	return content, nil
}

// Accepts implements sshd.Files.
func (e exchange) Accepts(_ context.Context, name string) error {
	if name == runningFile || name == candidateFile {
		return fmt.Errorf("%w: %s is the gateway's own; bring it under another name, and `load config from` that", fs.ErrPermission, name)
	}
	return refusal(e.opts.Manager.MayPutFile(e.caller, name))
}

// Write implements sshd.Files.
func (e exchange) Write(ctx context.Context, name string, content []byte) error {
	if err := e.Accepts(ctx, name); err != nil {
		return err
	}
	return refusal(e.opts.Manager.PutFile(ctx, e.caller, name, content))
}

// refusal gives an error of mgmt its meaning for a file.
func refusal(err error) error {
	switch mgmt.CodeOf(err) {
	case 0:
		return err
	case mgmt.CodeNotPresent, mgmt.CodeNotFound:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case mgmt.CodeUnauthorized, mgmt.CodeForbidden, mgmt.CodeDenied:
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}
