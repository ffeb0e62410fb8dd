package hsmlink

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"moongate/client"
)

// HostKey is the SSH host key of an HSM's administration, before anything was
// said to it.
type HostKey struct {
	Algorithm   string
	Fingerprint string // SHA256:…, as ssh-keygen and the HSM print it
	// Known: it is the one that was confirmed before. Changed: another one was.
	Known, Changed bool
}

// HostKey asks an HSM for its SSH host key, for an administrator to compare
// before any password is sent.
func (m *Manager) HostKey(ctx context.Context, server string) (HostKey, error) {
	l, mod, err := m.server(server)
	if err != nil {
		return HostKey{}, err
	}
	key, err := l.hostKey(ctx, mod)
	if err != nil {
		return HostKey{}, err
	}
	confirmed := m.store.get(server).HostKey
	key.Known, key.Changed = confirmed == key.Fingerprint, confirmed != "" && confirmed != key.Fingerprint
	return key, nil
}

// AuthenticateRequest is what automatic authentication needs. Passwords are
// used once, and neither stored nor logged; the caller clears them.
type AuthenticateRequest struct {
	// Fingerprint is that of the SSH host key, as HostKey returned it and the
	// administrator confirmed it. Empty is the one that was confirmed before.
	Fingerprint string
	User        string // of the HSM's administration; "" is admin
	Password    []byte // that user's

	// Register has the HSM register the gateway, too, and assign it a
	// partition where one is named.
	Register   bool
	ClientName string // by which it is registered; "" is the gateway's host name
	// Replace takes an earlier registration of that name away first, with the
	// partitions that were assigned to it.
	Replace   bool
	Partition string // the label of the partition to be assigned
	// Officer is the HSM Security Officer's password, which an HSM asks for when
	// `sysconf forceSOLogin` is on.
	Officer []byte
}

// Step is what became of one step of an automatic authentication.
type Step struct {
	Name   string // connect, host-key, login, fetch, deliver, register, assign, verify
	Detail string
	Err    error // nil where it went well
}

// Authenticate makes the gateway and an HSM known to each other over the HSM's
// SSH service: it fetches the HSM's certificate and pins it, delivers the
// gateway's, and with Register has it registered. It ends at the first step
// that fails; progress is told of each, and may be nil.
func (m *Manager) Authenticate(ctx context.Context, server string, r AuthenticateRequest, progress func(Step)) error {
	l, mod, err := m.server(server)
	if err != nil {
		return err
	}
	if r.User == "" {
		r.User = "admin"
	}
	if r.ClientName == "" {
		r.ClientName = m.name()
	}
	if r.Fingerprint == "" {
		r.Fingerprint = m.store.get(server).HostKey
	}
	if err := r.check(server); err != nil {
		return err
	}
	if progress == nil {
		progress = func(Step) {}
	}
	m.acting.Lock()
	defer m.acting.Unlock()
	a := authentication{m: m, link: l, module: mod, request: r, progress: progress}
	return a.run(ctx)
}

// word is what may stand in a command of the HSM's shell: never an option.
var word = regexp.MustCompile(`^[A-Za-z0-9._@][A-Za-z0-9._@-]{0,63}$`)

// check refuses what cannot work, before anything is said to the HSM.
func (r *AuthenticateRequest) check(server string) error {
	switch {
	case r.Fingerprint == "":
		return fmt.Errorf("HSM server %s: the fingerprint of its SSH host key is not confirmed: compare the one that is shown with the HSM's `sysconf fingerprint ssh`, and give it", server)
	case !strings.HasPrefix(r.Fingerprint, "SHA256:"):
		return fmt.Errorf("the SSH host key's fingerprint is %q, expected SHA256: and 43 characters, as ssh-keygen -l prints it", r.Fingerprint)
	case !word.MatchString(r.User):
		return fmt.Errorf("the HSM's user is %q, expected 1 to 64 letters, digits, dots, dashes or underscores, the first no dash", r.User)
	case len(r.Password) == 0:
		return errors.New("the HSM administrator's password is empty")
	case r.Register && !word.MatchString(r.ClientName):
		return fmt.Errorf("the client's name is %q, expected 1 to 64 letters, digits, dots, dashes or underscores, the first no dash", r.ClientName)
	case r.Register && r.Partition != "" && !partitionWord.MatchString(r.Partition):
		return fmt.Errorf("the partition's label is %q, expected 1 to 64 printable characters without quotes and backslashes", r.Partition)
	case !r.Register && r.Partition != "":
		return errors.New("a partition is assigned only to a client that is registered: ask for both, or for neither")
	}
	return nil
}

var partitionWord = regexp.MustCompile(`^[A-Za-z0-9._@+=:,/ -]{1,64}$`)

// authentication is one run.
type authentication struct {
	m        *Manager
	link     *Link
	module   *module
	request  AuthenticateRequest
	progress func(Step)
}

// step runs one step, and tells what became of it.
func (a *authentication) step(name string, do func() (string, error)) error {
	detail, err := do()
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		a.m.o.Logger.Warn("authenticating with an HSM", "server", a.module.name, "step", name, "err", err)
	}
	a.progress(Step{Name: name, Detail: detail, Err: err})
	return err
}

func (a *authentication) run(ctx context.Context) error {
	s, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	var cert *x509.Certificate
	if err := a.step("fetch", func() (string, error) {
		text, err := s.fetch("server.pem")
		if err != nil {
			return "", err
		}
		if cert, err = parseServerCertificate(text); err != nil {
			return "", err
		}
		done, err := a.m.store.importPin(a.module.name, cert)
		return "SHA-256 " + done.Pin.Fingerprint, err
	}); err != nil {
		return err
	}
	a.link.rebuild()
	own, err := a.m.export(ctx, a.link, a.module)
	if err != nil {
		return err
	}
	if addr := s.localAddress(); addr != "" && a.link.hsm.Source.IsZero() {
		own.Address, own.Name = addr, addr+".pem" // that is how the HSM sees the gateway now
	}
	if err := a.step("deliver", func() (string, error) { return own.Name, s.deliver(own.Name, own.PEM) }); err != nil {
		return err
	}
	if a.request.Register {
		if err := a.register(s, own); err != nil {
			return err
		}
	}
	return a.step("verify", func() (string, error) { return a.verify(ctx, own) })
}

// register has the HSM register the gateway and assign the partition.
func (a *authentication) register(s *appliance, own Exported) error {
	command := "client register -client " + a.request.ClientName + " -ip " + own.Address
	if a.request.Replace {
		command += " -replace"
	}
	if err := a.step("register", func() (string, error) {
		return a.request.ClientName + " at " + own.Address, s.command(command, a.request.Officer)
	}); err != nil {
		return err
	}
	if a.request.Partition == "" {
		return nil
	}
	command = "client assignPartition -client " + a.request.ClientName + ` -partition "` + a.request.Partition + `"`
	return a.step("assign", func() (string, error) { return a.request.Partition, s.command(command, a.request.Officer) })
}

// verify walks the way to the HSM's client service as far as it should work by
// now.
func (a *authentication) verify(ctx context.Context, own Exported) (string, error) {
	ids, err := a.m.store.identities()
	p := a.link.planFor(a.module, ids, err, client.RoleCryptoOfficer)
	if !p.connect {
		return "", p.problem
	}
	if ids.next != nil && own.Next {
		p.config.Certificate = *ids.next
	}
	if a.request.Partition != "" {
		p.config.Partition = a.request.Partition
	}
	p.config.Role, p.config.Password, p.config.Logger = client.RoleNone, nil, nil
	results, err := client.Verify(ctx, p.config)
	if err != nil {
		return "", err
	}
	expected, detail := StageTLS, ""
	if a.request.Register {
		expected = StageRegistered
		if a.request.Partition != "" {
			expected = StageAssigned
		}
	}
	for _, r := range results {
		if r.OK {
			detail = string(stageOf(r.Stage))
			continue
		}
		if r.Err != nil && at(stageOf(r.Stage)) <= at(expected) {
			return "", explain(a.module.name, a.module.address, &client.Error{Stage: r.Stage, Err: r.Err, Fix: r.Fix})
		}
		if r.Err != nil {
			detail += "; next: " + explain(a.module.name, a.module.address, &client.Error{Stage: r.Stage, Err: r.Err, Fix: r.Fix}).Problem.String()
		}
		break
	}
	if a.request.Partition != "" {
		if err := a.m.store.change(a.module.name, func(s *serverState) { s.Partition = a.request.Partition }); err != nil {
			return "", err
		}
		a.link.rebuild()
	}
	return "as far as " + detail, nil
}

// result finds the end of a command of the HSM's shell.
var result = regexp.MustCompile(`Command Result : ([0-9]+) \((.+?)\)`)

// outcome is what a command's output says: nil for success, or else the lines
// above the result.
func outcome(output []byte) error {
	found := result.FindSubmatchIndex(output)
	if found == nil {
		return fmt.Errorf("the HSM's shell said no result: %s", lastLines(output))
	}
	if string(output[found[2]:found[3]]) == "0" {
		return nil
	}
	return errors.New(lastLines(output[:found[0]]))
}

// lastLines is the end of what a shell printed, in one line, without what is not
// printable.
func lastLines(output []byte) string {
	const most = 500
	text := oneLine(string(output))
	if len(text) > most {
		text = "…" + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return text
}
