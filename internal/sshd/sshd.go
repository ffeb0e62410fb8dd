// Package sshd is an SSH server for appliances: password and public-key login,
// interactive and one-shot commands, and an exchange of named files by SFTP and
// the older SCP protocol. It has no shell of the machine's, no forwarding of
// ports, agents or windows, no environment, and no subsystem but sftp.
//
// It follows RFC 4251 to 4254 by golang.org/x/crypto/ssh, with modern
// algorithms alone, and bounds everything that a peer can make it hold. It
// knows no appliance: an [Authenticator] says who may come in, and the
// [Account] that it returns serves what they ask for.
package sshd

import (
	"context"
	"crypto/fips140"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"
)

// Attempt is who tries to come in. User is what they said, at most 64 bytes of
// anything.
type Attempt struct {
	User string
	From netip.AddrPort
}

// Authenticator decides who comes in. Its methods may be called at the same
// time. Errors are not shown to the peer, unless they are a *Notice; refusals
// must take the same work and time whatever their reason. ctx ends with the
// connection or its login grace time.
type Authenticator interface {
	// Password checks a password. Few calls are made at a time
	// (Limits.PasswordChecks).
	Password(ctx context.Context, a Attempt, password []byte) (Account, error)
	// Offered reports whether a key would do. Nothing is proved yet.
	Offered(a Attempt, key ssh.PublicKey) bool
	// Key lets in the holder of a key that Offered said would do, once they
	// have proved to hold it.
	Key(ctx context.Context, a Attempt, key ssh.PublicKey) (Account, error)
	// Strange is told of a connection that offered keys, all of which were
	// refused, and got in by nothing.
	Strange(a Attempt, keys int)
}

// Account is who has come in.
type Account interface {
	// Serve runs a session and returns its exit status. It ends soon after ctx
	// does, which is when the client is gone or the server stops.
	Serve(ctx context.Context, s *Session) int
	// Files are those that the account may exchange, nil for none.
	Files() Files
}

// Notice is a refusal whose text the peer is shown before it is told that it
// was refused.
type Notice struct {
	Err  error
	Text string // one line
}

func (n *Notice) Error() string { return n.Err.Error() }

// Unwrap returns the refusal itself.
func (n *Notice) Unwrap() error { return n.Err }

// Limits bound what peers can take. Zero fields have the defaults that are said
// here.
type Limits struct {
	// Connections at a time, those that have logged in: 64; of one account: 16.
	Connections        int
	ConnectionsPerUser int
	// Pending connections, which have not logged in: 32; of one address, an
	// IPv4 address or an IPv6 network of 64 bits: 6. When all are taken, the
	// oldest one of the address that has most of them makes room.
	Pending           int
	PendingPerAddress int
	// LoginGrace is how long a login may take: 60 s. AuthTries is how many
	// attempts a connection has: 6.
	LoginGrace time.Duration
	AuthTries  int
	// PasswordChecks is how many passwords are checked at a time: 2.
	PasswordChecks int
	// Idle is how long a connection stays on which nothing is typed, printed or
	// transferred: 15 min.
	Idle time.Duration
	// Channels of one connection: 8.
	Channels int
	// FileSize in bytes: 64 KiB. A transfer is held in memory until it is
	// whole.
	FileSize int64
	// Stop is how long sessions have to end by themselves when the server
	// stops: 3 s.
	Stop time.Duration
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, to int) {
		if *n <= 0 {
			*n = to
		}
	}
	wait := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&l.Connections, 64)
	set(&l.ConnectionsPerUser, 16)
	set(&l.Pending, 32)
	set(&l.PendingPerAddress, 6)
	set(&l.AuthTries, 6)
	set(&l.PasswordChecks, 2)
	set(&l.Channels, 8)
	wait(&l.LoginGrace, time.Minute)
	wait(&l.Idle, 15*time.Minute)
	wait(&l.Stop, 3*time.Second)
	if l.FileSize <= 0 {
		l.FileSize = 64 << 10
	}
	return l
}

// Options say what a Server is made of.
type Options struct {
	HostKeys      []ssh.Signer // at least one; see HostKeys
	Authenticator Authenticator
	Logger        *slog.Logger
	Limits        Limits
	// Software is what the server calls itself, without spaces: Moongate_1.2.
	Software string
	// Banner is shown before the login; "" for none.
	Banner string
	// Idle, unless nil, is asked for Limits.Idle each time that a connection is
	// used: where that is a setting that changes.
	Idle func() time.Duration
}

// Server is an SSH server. Make one with New.
type Server struct {
	opts      Options
	config    *ssh.ServerConfig // without the callbacks, which are a connection's
	passwords chan struct{}     // holds one for each password that is being checked
	door      *door
}

// New makes a server of its parts.
func New(opts Options) (*Server, error) {
	if len(opts.HostKeys) == 0 || opts.Authenticator == nil || opts.Logger == nil {
		return nil, errors.New("sshd: a host key, an authenticator and a logger are needed")
	}
	opts.Limits = opts.Limits.withDefaults()
	if opts.Idle == nil {
		opts.Idle = func() time.Duration { return opts.Limits.Idle }
	}
	config := &ssh.ServerConfig{
		MaxAuthTries:            opts.Limits.AuthTries,
		PublicKeyAuthAlgorithms: keyAlgorithms(),
		ServerVersion:           "SSH-2.0-" + opts.Software,
	}
	config.KeyExchanges, config.Ciphers, config.MACs = algorithms(fips140.Enabled())
	if opts.Software == "" {
		config.ServerVersion += "sshd"
	}
	for _, key := range opts.HostKeys {
		config.AddHostKey(key)
	}
	if opts.Banner != "" {
		config.BannerCallback = func(ssh.ConnMetadata) string { return opts.Banner }
	}
	return &Server{
		opts: opts, config: config, passwords: make(chan struct{}, opts.Limits.PasswordChecks), door: newDoor(opts.Limits),
	}, nil
}

// algorithms are what connections may be protected by, in the order of
// preference: no SHA-1, no CBC, no finite fields. The post-quantum hybrid comes
// first; CTR with encrypt-then-MAC is for automation that has no AEAD. Strict
// key exchange, which answers CVE-2023-48795, is the library's. In FIPS mode
// only what is approved is left.
func algorithms(fips bool) (exchanges, ciphers, macs []string) {
	nist := []string{ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521}
	aes := []string{ssh.CipherAES256GCM, ssh.CipherAES128GCM, ssh.CipherAES256CTR, ssh.CipherAES128CTR}
	macs = []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM}
	if fips {
		return nist, aes, macs
	}
	return append([]string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519}, nist...),
		append([]string{ssh.CipherChaCha20Poly1305}, aes...), macs
}

// keyAlgorithms are the signatures that may prove a key: RSA with SHA-2 alone.
func keyAlgorithms() []string {
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512,
	}
}
