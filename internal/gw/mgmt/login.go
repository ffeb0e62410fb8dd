package mgmt

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/logstore"
	"moongate/internal/login"
)

// PasswordLogin lets in who knows an account's password. A refusal has
// CodeForbidden and does not tell whether there is such an account; the system
// log has the reason.
func (m *Manager) PasswordLogin(ctx context.Context, via Via, from netip.Addr, name string, password []byte) (Caller, error) {
	id, err := m.parts.Guard.Password(ctx, from, name, password)
	return m.entered(Caller{Identity: id, From: from, Via: via}, name, "password", err)
}

// KeyOffered reports whether an SSH key would let the account in. Nothing is
// proved yet.
func (m *Manager) KeyOffered(name string, key ssh.PublicKey) bool {
	return m.parts.Guard.Offered(name, key)
}

// KeyLogin lets in the holder of an account's SSH key, who has proved to be it.
func (m *Manager) KeyLogin(ctx context.Context, from netip.Addr, name string, key ssh.PublicKey) (Caller, error) {
	id, ok := m.parts.Guard.SSHKey(from, name, key)
	var err error
	if !ok {
		err = errors.New("the key is not the account's")
	}
	return m.entered(Caller{Identity: id, From: from, Via: CLI}, name, "SSH key", err)
}

// Current is a caller as the running configuration has it now, for a way in
// whose sessions last: false where the session is over, since the account is
// gone or its password or keys were changed.
func (m *Manager) Current(c Caller) (Caller, bool) {
	role, known := m.roleOf(c)
	if !known || c.stamp != "" && c.stamp != m.parts.Guard.Stamp(c.Name) {
		return Caller{}, false
	}
	c.Role = role
	return c, true
}

// KeyAuth lets in the holder of an API key. Only refusals are logged: a key
// comes with each request.
func (m *Manager) KeyAuth(ctx context.Context, from netip.Addr, key string) (Caller, error) {
	id, err := m.parts.Guard.APIKey(ctx, from, key)
	if err != nil {
		m.loginRefused(Caller{From: from, Via: API}, "", "API key", err)
		return Caller{}, refuse(CodeForbidden, "Invalid Credential")
	}
	return Caller{Identity: id, From: from, Via: API}, nil
}

// entered logs the end of a login.
func (m *Manager) entered(c Caller, name, by string, err error) (Caller, error) {
	if err != nil {
		m.loginRefused(c, name, by, err)
		if delayed, is := errors.AsType[*login.DelayedError](err); is {
			return Caller{}, refuse(CodeForbidden, "Invalid Credential: %v", delayed)
		}
		return Caller{}, refuse(CodeForbidden, "Invalid Credential")
	}
	c.stamp = m.parts.Guard.Stamp(c.Name)
	m.event(logstore.Informational, "auth", "login", c.Name, who(c)+" logged in by "+by)
	return c, nil
}

func (m *Manager) loginRefused(c Caller, name, by string, err error) {
	c.Name = printable(name)
	m.event(logstore.Medium, "auth", "login-failed", c.Name, "login of "+who(c)+" by "+by+" refused: "+err.Error())
	if refused, is := errors.AsType[*admin.Refused](err); is && refused.Locks {
		m.event(logstore.High, "auth", "account-locked", c.Name, "the account "+c.Name+" is locked after too many wrong passwords, the last from "+c.From.String())
	}
}

// maxName bounds a name that a stranger gave, in a log.
const maxName = 64

// printable is what a stranger called himself, fit for a log.
func printable(name string) string {
	clean := make([]rune, 0, maxName)
	for _, r := range name {
		if len(clean) == maxName {
			return string(clean) + "..."
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		clean = append(clean, r)
	}
	return string(clean)
}

// KeyGen makes an API key for the caller. It is shown once; the gateway keeps a
// hash.
func (m *Manager) KeyGen(ctx context.Context, c Caller) (string, error) {
	if err := m.allow(c, admin.OpOwnAPIKeys, ""); err != nil {
		return "", err
	}
	if c.Via == Console {
		return "", refuse(CodeNotPossible, "the console has no account to make a key for")
	}
	key, expires, err := m.parts.Guard.NewAPIKey(c.Name)
	if err != nil {
		return "", coded(err)
	}
	until := "until it is revoked"
	if !expires.IsZero() {
		until = "until " + expires.UTC().Format(time.RFC3339)
	}
	m.event(logstore.Informational, "auth", "api-key-made", c.Name, "an API key for "+who(c)+" was made, valid "+until)
	return key, nil
}
