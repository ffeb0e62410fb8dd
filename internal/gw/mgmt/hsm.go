package mgmt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"moongate/client/ha"
	"moongate/internal/gw/admin"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
)

// What administrators do with the gateway's HSMs beside configuring them: make
// the two known to each other, log in to partitions, and groups. Each act is in
// the configuration log, with what it was about and without any password.

// link is the way to the HSMs.
func (m *Manager) link() (*hsmlink.Manager, error) {
	if m.parts.Link == nil {
		return nil, refuse(CodeNotPossible, "this gateway has no link to HSMs")
	}
	return m.parts.Link, nil
}

// HSMStatus tells how each HSM stands, from memory: it never waits.
func (m *Manager) HSMStatus(ctx context.Context, c Caller) (hsmlink.Status, error) {
	if err := m.allow(c, admin.OpReadSystem, "HSM"); err != nil {
		return hsmlink.Status{}, err
	}
	l, err := m.link()
	if err != nil {
		return hsmlink.Status{}, err
	}
	return l.Status(), nil
}

// act allows an act on the HSMs, does it, and writes down what became of it.
func (m *Manager) act(c Caller, command, object string, do func(*hsmlink.Manager) error) error {
	err := m.allow(c, admin.OpHSM, object)
	if err == nil {
		var l *hsmlink.Manager
		if l, err = m.link(); err == nil {
			err = hsmError(do(l))
		}
	}
	m.record(c, command, object, "", "", resultOf(err))
	return err
}

// hsmError gives an error of the link its code.
func hsmError(err error) error {
	if err == nil || CodeOf(err) != 0 || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{Code: CodeNotPossible, Lines: strings.Split(err.Error(), "\n")}
}

// HSMHostKey asks an HSM server for its SSH host key, to be compared before any
// password is sent.
func (m *Manager) HSMHostKey(ctx context.Context, c Caller, server string) (key hsmlink.HostKey, err error) {
	if err := m.allow(c, admin.OpHSM, server); err != nil {
		return key, err
	}
	l, err := m.link()
	if err != nil {
		return key, err
	}
	key, err = l.HostKey(ctx, server)
	return key, hsmError(err)
}

// HSMAuthenticate makes the gateway and an HSM server known to each other with
// the HSM administrator's password, which is not kept. progress is told of each
// step; it may be nil. The caller clears the passwords.
func (m *Manager) HSMAuthenticate(ctx context.Context, c Caller, server string, r hsmlink.AuthenticateRequest, progress func(hsmlink.Step)) error {
	return m.act(c, "hsm authenticate", server, func(l *hsmlink.Manager) error { return l.Authenticate(ctx, server, r, progress) })
}

// HSMImportServerCertificate pins the certificate of an HSM server: its
// server.pem.
func (m *Manager) HSMImportServerCertificate(ctx context.Context, c Caller, server string, text []byte) (done hsmlink.Imported, err error) {
	err = m.act(c, "hsm server-certificate import", server, func(l *hsmlink.Manager) error {
		done, err = l.ImportServerCertificate(server, text)
		return err
	})
	return done, err
}

// HSMForgetServerCertificate stops accepting one of several certificates of an
// HSM server before its time.
func (m *Manager) HSMForgetServerCertificate(ctx context.Context, c Caller, server, fingerprint string) error {
	return m.act(c, "hsm server-certificate forget", server+" "+fingerprint, func(l *hsmlink.Manager) error {
		return l.ForgetServerCertificate(server, fingerprint)
	})
}

// HSMClientCertificate returns the gateway's own certificate, in a file that is
// called after the address which the HSM server sees it come from.
func (m *Manager) HSMClientCertificate(ctx context.Context, c Caller, server string) (file hsmlink.Exported, err error) {
	if err := m.allow(c, admin.OpExportCertificate, "HSM client certificate"); err != nil {
		return file, err
	}
	l, err := m.link()
	if err != nil {
		return file, err
	}
	file, err = l.ExportClientCertificate(ctx, server)
	return file, hsmError(err)
}

// HSMRenewClientCertificate makes the gateway's next certificate, which is used
// with each HSM server from when that one accepts it.
func (m *Manager) HSMRenewClientCertificate(ctx context.Context, c Caller) (next hsmlink.ClientCertificate, err error) {
	err = m.act(c, "hsm client-certificate renew", "", func(l *hsmlink.Manager) error {
		next, err = l.RenewClientCertificate()
		return err
	})
	return next, err
}

// HSMLogin gives the gateway the password of a partition. What became of it on
// each server is in the list; the error is of a request that cannot work. The
// caller clears the password.
func (m *Manager) HSMLogin(ctx context.Context, c Caller, r hsmlink.LoginRequest) (list []hsmlink.LoggedIn, err error) {
	err = m.act(c, "hsm login", objectOf(r.Server), func(l *hsmlink.Manager) error {
		if list, err = l.Login(ctx, r); err != nil {
			return err
		}
		var failures []error
		for _, s := range list {
			if s.Err != nil {
				failures = append(failures, s.Err)
			}
		}
		if len(failures) == len(list) {
			return errors.Join(failures...)
		}
		return nil
	})
	return list, err
}

func objectOf(server string) string {
	if server == "" {
		return "all servers"
	}
	return server
}

// HSMLogout drops the password of a server's partition, or of all with an empty
// name: it is not on the disk any more.
func (m *Manager) HSMLogout(ctx context.Context, c Caller, server string) error {
	return m.act(c, "hsm logout", objectOf(server), func(l *hsmlink.Manager) error { return l.Logout(server) })
}

// HSMReset ends the gateway's sessions with its HSMs, makes new ones, and waits
// until keys can be used again.
func (m *Manager) HSMReset(ctx context.Context, c Caller) error {
	return m.act(c, "hsm reset", "", func(*hsmlink.Manager) error {
		m.event(logstore.High, "hsm", "hsm-sessions-reset", "", "the sessions with the HSM are being ended by "+who(c))
		return m.parts.HSM.Reset(ctx)
	})
}

// HSMCreateGroup makes the configured servers a group, in a job whose number is
// returned. An empty password is the one that the gateway keeps; the caller may
// clear it at once.
func (m *Manager) HSMCreateGroup(ctx context.Context, c Caller, password []byte) (int, error) {
	return m.groupJob(c, "hsm ha create-ha-group", password, func(ctx context.Context, l *hsmlink.Manager, password []byte, r *jobs.Report) error {
		record, err := l.CreateGroup(ctx, password, copying(r))
		if err != nil {
			return err
		}
		r.Detail(fmt.Sprintf("HA group %s with serial number %s: %s", record.Label, record.Serial, strings.Join(memberNames(record), ", ")))
		return nil
	})
}

// HSMSynchronize brings all members of the group to the same keys, as
// HSMCreateGroup runs.
func (m *Manager) HSMSynchronize(ctx context.Context, c Caller, password []byte) (int, error) {
	return m.groupJob(c, "hsm ha synchronize", password, func(ctx context.Context, l *hsmlink.Manager, password []byte, r *jobs.Report) error {
		report, err := l.Synchronize(ctx, password, copying(r))
		for line := range strings.Lines(report.String()) {
			r.Detail(strings.TrimRight(line, "\n"))
		}
		if err == nil && !report.Complete() {
			return errors.New("the members do not all hold the same: see the details")
		}
		return err
	})
}

// HSMReplaceServers makes the group the configured servers, as HSMCreateGroup
// runs.
func (m *Manager) HSMReplaceServers(ctx context.Context, c Caller, password []byte) (int, error) {
	return m.groupJob(c, "hsm ha replace-server", password, func(ctx context.Context, l *hsmlink.Manager, password []byte, r *jobs.Report) error {
		done, err := l.ReplaceServers(ctx, password, copying(r))
		if err != nil {
			return err
		}
		said := func(what string, names []string) {
			if len(names) > 0 {
				r.Detail(what + ": " + strings.Join(names, ", "))
			}
		}
		said("Added", done.Added)
		said("Removed", done.Removed)
		if len(done.Added)+len(done.Removed) == 0 {
			r.Detail("The group is the configured servers already")
		}
		said("Members", memberNames(done.Record))
		return nil
	})
}

func memberNames(r ha.Record) []string {
	var names []string
	for _, member := range r.Members {
		names = append(names, member.Name)
	}
	return names
}

// groupQueue is the queue of jobs that change a group.
const groupQueue = "hsm"

// groupJob runs an act on the group as a job, since it copies every key.
func (m *Manager) groupJob(c Caller, command string, password []byte, do func(context.Context, *hsmlink.Manager, []byte, *jobs.Report) error) (int, error) {
	err := m.allow(c, admin.OpHSM, command)
	var l *hsmlink.Manager
	if err == nil {
		l, err = m.link()
	}
	if err == nil && l.Status().Group == nil {
		err = refuse(CodeNotPossible, "no HA group is configured: set deviceconfig system hsm-settings provider safenet-network ha ha-group-name NAME with two servers or more, and commit")
	}
	if err != nil {
		m.record(c, command, "", "", "", failed(err))
		return 0, err
	}
	own := slices.Clone(password)
	id, err := m.parts.Jobs.Start(jobs.Spec{
		Type: "HSM", User: c.Name, Description: command, Queue: groupQueue,
		Run: func(ctx context.Context, r *jobs.Report) error {
			defer clear(own)
			err := hsmError(do(ctx, l, own, r))
			m.record(c, command, "", "", "", resultOf(err))
			return err
		},
	})
	if err != nil {
		clear(own)
		return 0, coded(err)
	}
	return id, nil
}

// copying tells a job how far a copy between members is.
func copying(r *jobs.Report) func(ha.Progress) {
	said := ""
	return func(p ha.Progress) {
		if now := p.From + " to " + p.To; now != said {
			said = now
			r.Detail("Copying from " + now)
		}
		if p.Total > 0 {
			r.Progress(min(99, 100*p.Done/p.Total))
		}
	}
}
