package sshd

import (
	"context"
	"errors"

	"golang.org/x/crypto/ssh"
)

// maxUser bounds the name that a peer gives, in bytes.
const maxUser = 64

var errRefused = errors.New("refused")

// login is the authentication of one connection. The library calls it from one
// goroutine.
type login struct {
	server  *Server
	ctx     context.Context
	attempt Attempt
	strange int  // keys offered that would not do
	entered bool // counted at the door, as attempt.User's
}

// accountKey finds the account in a connection's permissions.
type accountKey struct{}

// config is the server's with the callbacks of this connection.
func (l *login) config() *ssh.ServerConfig {
	c := *l.server.config
	c.PasswordCallback = l.password
	c.PublicKeyCallback = l.offered
	c.VerifiedPublicKeyCallback = l.key
	return &c
}

// by fills in the name, which a peer may change from attempt to attempt.
func (l *login) by(meta ssh.ConnMetadata) Attempt {
	l.attempt.User = userOf(meta)
	return l.attempt
}

func userOf(meta ssh.ConnMetadata) string { return meta.User()[:min(len(meta.User()), maxUser)] }

func (l *login) password(meta ssh.ConnMetadata, pw []byte) (*ssh.Permissions, error) {
	select {
	case l.server.passwords <- struct{}{}:
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
	defer func() { <-l.server.passwords }()
	defer clear(pw)
	return l.result(l.server.opts.Authenticator.Password(l.ctx, l.by(meta), pw))
}

// offered answers whether a key would do (RFC 4252, 7), to a peer that names
// both the account and the key.
func (l *login) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if !l.server.opts.Authenticator.Offered(l.by(meta), key) {
		l.strange++
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil
}

// key is called once the peer has proved to hold a key.
func (l *login) key(meta ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	return l.result(l.server.opts.Authenticator.Key(l.ctx, l.by(meta), key))
}

func (l *login) result(account Account, err error) (*ssh.Permissions, error) {
	if err == nil {
		if l.entered = l.server.door.enter(l.attempt.User); !l.entered {
			err = &Notice{errors.New("too many connections"), "There are too many connections; end one and try again."}
		}
	}
	var notice *Notice
	if errors.As(err, &notice) {
		return nil, &ssh.BannerError{Err: err, Message: notice.Text + "\n"}
	}
	if err != nil {
		return nil, err
	}
	return &ssh.Permissions{ExtraData: map[any]any{accountKey{}: account}}, nil
}

// failed ends a login that led to nothing, and tells the authenticator of keys
// that did.
func (l *login) failed() {
	if l.entered { // the peer went as it was let in
		l.server.door.exit(l.attempt.User)
	}
	if l.strange > 0 {
		l.server.opts.Authenticator.Strange(l.attempt, l.strange)
	}
}
