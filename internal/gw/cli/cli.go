// Package cli is a gateway's command line over SSH: operational commands from
// ops, configuration commands from the schema.
//
//	admin@gw> show system info        the operational mode
//	admin@gw> configure
//	Entering configuration mode
//	[edit]
//	admin@gw# set deviceconfig system hostname edge-1
//
// It serves a person at a terminal, one command (ssh gw 'show system info')
// and a script's lines. Everything that it does goes through mgmt; it keeps
// nothing but where a session is.
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"moongate/internal/gw/mgmt"
	"moongate/internal/shell"
	"moongate/internal/sshd"
)

// Options say what a command line is made of.
type Options struct {
	Manager *mgmt.Manager
	Logger  *slog.Logger
	Version string
	// Hostname is the gateway's name, for the prompt.
	Hostname func() string
}

// New returns what lets administrators in by SSH and serves them.
func New(opts Options) (sshd.Authenticator, error) {
	if opts.Manager == nil || opts.Logger == nil || opts.Hostname == nil {
		return nil, errors.New("cli: a manager, a logger and a host name are needed")
	}
	return &gate{opts}, nil
}

// gate lets administrators in. mgmt records who came and who was refused.
type gate struct{ opts Options }

// Password implements sshd.Authenticator.
func (g *gate) Password(ctx context.Context, at sshd.Attempt, password []byte) (sshd.Account, error) {
	caller, err := g.opts.Manager.PasswordLogin(ctx, mgmt.CLI, at.From.Addr(), at.User, password)
	return g.admit(caller, err)
}

// Offered implements sshd.Authenticator.
func (g *gate) Offered(at sshd.Attempt, key ssh.PublicKey) bool {
	return g.opts.Manager.KeyOffered(at.User, key)
}

// Key implements sshd.Authenticator.
func (g *gate) Key(ctx context.Context, at sshd.Attempt, key ssh.PublicKey) (sshd.Account, error) {
	caller, err := g.opts.Manager.KeyLogin(ctx, at.From.Addr(), at.User, key)
	return g.admit(caller, err)
}

// Strange implements sshd.Authenticator.
func (g *gate) Strange(at sshd.Attempt, keys int) {
	g.opts.Logger.Warn("SSH login refused", "user", at.User, "from", at.From, "keys", keys)
}

func (g *gate) admit(caller mgmt.Caller, err error) (sshd.Account, error) {
	if err != nil {
		return nil, err
	}
	return &account{g.opts, caller}, nil
}

// account is who has come in.
type account struct {
	opts   Options
	caller mgmt.Caller
}

// Serve implements sshd.Account: a prompt, one command, or a script.
func (a *account) Serve(ctx context.Context, s *sshd.Session) int {
	in := newSession(a.opts, a.caller, s.PTY && !s.HasCommand)
	opts := shell.Options{MaxLine: maxLine, Remember: remember}
	var status int
	var err error
	switch {
	case s.HasCommand && s.PTY:
		status, err = shell.InteractiveOnce(ctx, s, in, s.Command, opts)
	case s.HasCommand:
		status, err = shell.Once(ctx, s.Command, s, s, in, opts)
	case s.PTY:
		fmt.Fprintf(s, "Moongate gateway %s\r\n\r\n", a.opts.Version) // an error is the session's next one
		status, err = shell.Interactive(ctx, s, in, opts)
	default:
		status, err = shell.Piped(ctx, s, s, in, opts)
	}
	if err != nil && ctx.Err() == nil {
		a.opts.Logger.Warn("SSH session ended", "user", a.caller.Name, "from", a.caller.From, "err", err)
		return 1
	}
	return status
}

// maxLine has room for a certificate chain within quotation marks.
const maxLine = 64 << 10
