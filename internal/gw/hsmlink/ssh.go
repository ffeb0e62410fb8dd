package hsmlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

const (
	sshConnect = 10 * time.Second // to TCP and through the handshake
	sshWork    = 60 * time.Second // for everything together
	maxFetched = 64 << 10         // bytes of a file or of a command's output
)

// hostKeyAlgorithms is the order in which an HSM's host keys are asked for, so
// that the key that is confirmed is the key that is met again.
var hostKeyAlgorithms = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}

// errSeen ends a handshake that was for the host key alone.
var errSeen = errors.New("the host key was seen")

// dialSSH opens a TCP connection to an HSM's administration, from where its
// clients' connections leave.
func (l *Link) dialSSH(ctx context.Context, mod *module) (net.Conn, string, error) {
	address := net.JoinHostPort(mod.server.Address, strconv.Itoa(int(mod.server.SSHPort)))
	from, err := source(l.hsm.Source, mod.server.Address)
	if err != nil {
		return nil, address, err
	}
	d := net.Dialer{Timeout: sshConnect}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		problem := explainTCP(address, err)
		problem.Fix = "check that the HSM's SSH service runs, ssh-port, and the firewalls between"
		return nil, address, &Error{Server: mod.name, Stage: StageTCP, Problem: problem, Err: err}
	}
	return conn, address, nil
}

// hostKey asks for the host key and ends the handshake before any
// authentication.
func (l *Link) hostKey(ctx context.Context, mod *module) (HostKey, error) {
	conn, address, err := l.dialSSH(ctx, mod)
	if err != nil {
		return HostKey{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(sshConnect)) // its error is the next read's
	var seen HostKey
	_, _, _, err = ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "admin", HostKeyAlgorithms: hostKeyAlgorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = HostKey{Algorithm: key.Type(), Fingerprint: ssh.FingerprintSHA256(key)}
			return errSeen
		},
	})
	if seen.Fingerprint == "" {
		return HostKey{}, fmt.Errorf("asking HSM server %s at %s for its SSH host key: %s", mod.name, address, sshText(err))
	}
	return seen, nil
}

// appliance is an HSM's administration, logged in.
type appliance struct {
	client *ssh.Client
	stop   func() bool // takes the context's hold off the connection
}

// connect takes the steps as far as the login. The password is sent only to a
// host that proved to have the confirmed key.
func (a *authentication) connect(ctx context.Context) (*appliance, error) {
	var conn net.Conn
	var address string
	if err := a.step("connect", func() (string, error) {
		var err error
		conn, address, err = a.link.dialSSH(ctx, a.module)
		return address, err
	}); err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(sshWork)) // its error is the next read's
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	matched := false
	var wrong error
	config := &ssh.ClientConfig{
		User: a.request.User, HostKeyAlgorithms: hostKeyAlgorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if got := ssh.FingerprintSHA256(key); got != a.request.Fingerprint {
				wrong = fmt.Errorf("%s shows another SSH host key than the confirmed one: %s, confirmed is %s; no password was sent. Compare it with the HSM's own, or this is another host", address, got, a.request.Fingerprint)
				return wrong
			}
			matched = true
			a.progress(Step{Name: "host-key", Detail: a.request.Fingerprint})
			return nil
		},
		// One attempt: a second would be counted against the account.
		Auth: []ssh.AuthMethod{ssh.PasswordCallback(sync.OnceValues(func() (string, error) { return string(a.request.Password), nil }))},
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		stop()
		conn.Close()
		step := "login"
		switch {
		case wrong != nil:
			step, err = "host-key", wrong
		case !matched:
			step, err = "host-key", errors.New(sshText(err))
		case ctx.Err() != nil:
			err = ctx.Err()
		default:
			err = fmt.Errorf("the HSM refused the password of user %s, which was sent once: %s", a.request.User, sshText(err))
		}
		return nil, a.step(step, func() (string, error) { return "", err })
	}
	if err := a.m.store.change(a.module.name, func(s *serverState) { s.HostKey = a.request.Fingerprint }); err != nil {
		a.m.o.Logger.Error("keeping the HSM's SSH host key", "server", a.module.name, "err", err)
	}
	a.progress(Step{Name: "login", Detail: a.request.User + " at " + address})
	return &appliance{client: ssh.NewClient(c, channels, requests), stop: stop}, nil
}

// sshText is what the SSH library says, without its list of methods.
func sshText(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", attempted methods")
	return oneLine(text)
}

func (s *appliance) close() {
	s.stop()
	s.client.Close()
}

// localAddress is the address that this connection leaves from.
func (s *appliance) localAddress() string {
	if tcp, ok := s.client.LocalAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("").String()
	}
	return ""
}

// leave closes a client of the HSM's files. Nobody waits for the HSM to agree: the
// end of the connection ends it, too.
func leave(files *sftp.Client) { go files.Close() }

// fetch reads a file of the HSM's.
func (s *appliance) fetch(name string) ([]byte, error) {
	files, err := sftp.NewClient(s.client)
	if err != nil {
		return nil, fmt.Errorf("opening the HSM's files: %s", oneLine(err.Error()))
	}
	defer leave(files)
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening %s on the HSM: %s", name, oneLine(err.Error()))
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFetched+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s from the HSM: %s", name, oneLine(err.Error()))
	}
	if len(content) > maxFetched {
		return nil, fmt.Errorf("%s on the HSM has more than %d bytes", name, maxFetched)
	}
	return content, nil
}

// deliver writes a file on the HSM.
func (s *appliance) deliver(name string, content []byte) error {
	files, err := sftp.NewClient(s.client)
	if err != nil {
		return fmt.Errorf("opening the HSM's files: %s", oneLine(err.Error()))
	}
	defer leave(files)
	f, err := files.Create(name)
	if err != nil {
		return fmt.Errorf("writing %s on the HSM: %s", name, oneLine(err.Error()))
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s on the HSM: %s", name, oneLine(err.Error()))
	}
	return nil
}

// command runs a command of the HSM's shell. What it may ask for is the Security
// Officer's password.
func (s *appliance) command(line string, officer []byte) error {
	session, err := s.client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	var out bounded
	session.Stdout, session.Stderr = &out, &out
	if len(officer) > 0 {
		answer := append(bytes.Clone(officer), '\n')
		defer clear(answer)
		session.Stdin = bytes.NewReader(answer)
	}
	err = session.Run(line)
	if _, ended := errors.AsType[*ssh.ExitError](err); err != nil && !ended {
		return err
	}
	output := out.bytes()
	if len(officer) > 0 {
		output = bytes.ReplaceAll(output, officer, []byte("********")) // should a shell ever echo it
	}
	failed := outcome(output)
	if failed != nil && len(officer) == 0 && bytes.Contains(output, []byte("HSM Administrators' password")) {
		return errors.New("the HSM asks for its Security Officer's password (`sysconf forceSOLogin` is on): give it, too, or register the gateway on the HSM")
	}
	return failed
}

// bounded keeps the beginning of what is written to it. It is safe for
// concurrent use.
type bounded struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := maxFetched - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
