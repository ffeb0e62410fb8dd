package adminshell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"moongate/internal/audit"
	"moongate/internal/durable"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/users"
	"moongate/internal/shell"
	"moongate/internal/sshd"
)

// SSHOptions say how the shell is served over SSH.
type SSHOptions struct {
	// HostKeys are those of sshd.HostKeys.
	HostKeys []ssh.Signer
	// Limits bound what peers can take; sshd's defaults where they are zero.
	Limits sshd.Limits
}

// ServeSSH serves administrators over SSH until ctx is done, and waits for
// their sessions to end: the accounts of a.Users, the shell at a prompt, for
// one command or for a script, and files by scp and sftp. It closes the
// listener. The error is the listener's, nil after ctx.
//
// Every login is on the audit log before anything is served, and refused where
// it cannot be. Refusals are recorded too, at most 60 a minute: whoever reaches
// the port may be refused, and an HSM whose log has filled the disk is stopped.
func ServeSSH(ctx context.Context, l net.Listener, a *Appliance, opts SSHOptions) error {
	if a.Users == nil {
		l.Close()
		return errors.New("serving SSH: this appliance has no file of accounts")
	}
	// The inbox is this process's alone: what a crash left is nobody's.
	if err := durable.RemoveTemps(a.Inbox); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.Close()
		return err
	}
	srv, err := sshd.New(sshd.Options{
		HostKeys: opts.HostKeys, Authenticator: &gate{appliance: a}, Limits: opts.Limits, Logger: a.Logger, Software: "Moongate",
	})
	if err != nil {
		l.Close()
		return err
	}
	return srv.Serve(ctx, l)
}

// Words of the audit log for logins by SSH. They stand beside the acts of the
// session that follows: the account's name, and the address that it came from,
// where the console's acts have "local".
const actionLogin = "ssh.login"

// gate lets accounts in, and records it.
type gate struct {
	appliance *Appliance
	refusals  audit.Refusals
}

// Password implements sshd.Authenticator.
func (g *gate) Password(ctx context.Context, at sshd.Attempt, pw []byte) (sshd.Account, error) {
	account, err := g.appliance.Users.AuthenticatePassword(ctx, at.User, pw, at.From.Addr())
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err() // nobody was answered
	case object.CodeOf(err) == object.ErrDelayed:
		g.refused(at, "by password", err)
		return nil, &sshd.Notice{Err: err, Text: "Too many wrong passwords from this address; " + waitOf(err) + ", or use a key."}
	case err != nil:
		g.refused(at, "by password", err)
		return nil, err
	}
	return g.admit(ctx, at, account, "by password")
}

// waitOf is how long a delay says to wait.
func waitOf(err error) string {
	if _, wait, ok := strings.Cut(err.Error(), "; "); ok {
		return wait
	}
	return "wait"
}

// Offered implements sshd.Authenticator.
func (g *gate) Offered(at sshd.Attempt, key ssh.PublicKey) bool {
	return g.appliance.Users.HasKey(at.User, key)
}

// Key implements sshd.Authenticator.
func (g *gate) Key(ctx context.Context, at sshd.Attempt, key ssh.PublicKey) (sshd.Account, error) {
	how := "by key " + ssh.FingerprintSHA256(key)
	account, err := g.appliance.Users.AuthenticateKey(ctx, at.User, key, at.From.Addr())
	if err != nil {
		g.refused(at, how, err)
		return nil, err
	}
	return g.admit(ctx, at, account, how)
}

// Strange implements sshd.Authenticator.
func (g *gate) Strange(at sshd.Attempt, keys int) {
	g.refused(at, fmt.Sprintf("by %d keys", keys), object.Errorf(object.ErrPINIncorrect, "none of them opens the account"))
}

// admit records a login and makes its account.
func (g *gate) admit(ctx context.Context, at sshd.Attempt, account users.Account, how string) (sshd.Account, error) {
	who := Administrator{partition.Operator{Name: account.Name, From: at.From.String()}, account.Role}
	err := g.appliance.Journal.AppendDurable(context.WithoutCancel(ctx), audit.Event{
		Kind: audit.Login, Action: actionLogin, Client: who.Name, Remote: who.From, Role: string(who.Role), Outcome: audit.OK, Detail: how,
	})
	if err != nil {
		g.appliance.Logger.Error("SSH login refused: it could not be recorded", "user", who.Name, "from", who.From, "err", err)
		return nil, &sshd.Notice{Err: err, Text: "The login could not be recorded in the audit log, so it was refused; look at the HSM's console."}
	}
	return &sshAccount{appliance: g.appliance, who: who, last: account}, nil
}

// refused records that somebody was not let in. It is not fsynced: the answer
// is the same.
func (g *gate) refused(at sshd.Attempt, how string, refusal error) {
	note, recorded := g.refusals.Admit(time.Now())
	if !recorded {
		return
	}
	g.appliance.Logger.Warn("SSH login refused", "user", at.User, "from", at.From, "how", how, "err", refusal)
	err := g.appliance.Journal.Append(audit.Event{
		Kind: audit.Denied, Action: actionLogin, Client: at.User, Remote: at.From.String(),
		Outcome: object.CodeOf(refusal).String(), Detail: how + ": " + refusal.Error() + note,
	})
	if err != nil {
		g.appliance.Logger.Error("recording a refused SSH login", "err", err)
	}
}

// sshAccount is who has come in.
type sshAccount struct {
	appliance *Appliance
	who       Administrator
	last      users.Account // as it was before this login
}

// Files implements sshd.Account.
func (c *sshAccount) Files() sshd.Files {
	return &exchange{appliance: c.appliance, who: c.who}
}

// Serve implements sshd.Account: a prompt, one command, or a script.
func (c *sshAccount) Serve(ctx context.Context, s *sshd.Session) int {
	sh := New(c.appliance, c.who, nil) // each line brings its terminal
	defer sh.Close()
	in := sshInterpreter{sh.Interpreter(), sh}
	var status int
	var err error
	switch {
	case s.HasCommand && s.PTY:
		status, err = shell.InteractiveOnce(ctx, s, in, s.Command, shell.Options{})
	case s.HasCommand:
		status, err = shell.Once(ctx, s.Command, s, s, in, shell.Options{})
	case s.PTY:
		c.greet(s)
		status, err = shell.Interactive(ctx, s, in, shell.Options{})
	default:
		status, err = shell.Piped(ctx, s, s, in, shell.Options{})
	}
	switch {
	case errors.Is(err, errAccountChanged):
		fmt.Fprint(s, "The session has ended: your account was changed.\r\n")
		return 1
	case err != nil && ctx.Err() == nil:
		c.appliance.Logger.Warn("SSH session ended", "user", c.who.Name, "from", c.who.From, "err", err)
		return 1
	}
	return status
}

// greet says where one is, and what happened to the account since.
func (c *sshAccount) greet(s *sshd.Session) {
	lines := []string{fmt.Sprintf("Moongate network HSM %s, serial number %s", c.appliance.Version, c.appliance.HSM.Serial())}
	if !c.last.LastLogin.IsZero() {
		lines = append(lines, fmt.Sprintf("Last login %s from %s", c.last.LastLogin.Format(time.RFC3339), c.last.LastLoginFrom))
	}
	if c.last.Failures > 0 {
		lines = append(lines, fmt.Sprintf("Wrong passwords since then: %d, the last one %s", c.last.Failures, c.last.LastFailure.Format(time.RFC3339)))
	}
	fmt.Fprint(s, strings.Join(lines, "\r\n")+"\r\n\r\n") // an error is the session's next one
}

var errAccountChanged = errors.New("the account was changed")

// sshInterpreter ends the session of an account that is not what it was.
type sshInterpreter struct {
	shell.Interpreter
	shell *Shell
}

func (i sshInterpreter) Run(ctx context.Context, line string, term Terminal) (int, error) {
	status, err := i.Interpreter.Run(ctx, line, term)
	if err == nil && i.shell.still() != nil {
		err = errAccountChanged
	}
	return status, err
}

func (i sshInterpreter) Complete(line string) []shell.Candidate {
	if i.shell.still() != nil {
		return nil
	}
	return i.Interpreter.Complete(line)
}

// hostAddress is the address that a file's base name means: an IP address, an
// IPv6 one with its colons or, as some systems need it, with underlines.
func hostAddress(base string) (netip.Addr, bool) {
	for _, text := range []string{base, strings.ReplaceAll(base, "_", ":")} {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			return addr, true
		}
	}
	return netip.Addr{}, false
}
