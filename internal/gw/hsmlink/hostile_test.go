package hsmlink

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"moongate/internal/gw/config"
)

// impostor is an SSH server in the place of an HSM's.
type impostor struct {
	passwords atomic.Int32
}

// file is server.pem as an impostor has it.
type file func([]byte, int64) (int, error)

func (f file) ReadAt(b []byte, at int64) (int, error)        { return f(b, at) }
func (f file) Fileread(*sftp.Request) (io.ReaderAt, error)   { return f, nil }
func (f file) Filewrite(*sftp.Request) (io.WriterAt, error)  { return nil, sftp.ErrSSHFxFailure }
func (f file) Filecmd(*sftp.Request) error                   { return sftp.ErrSSHFxFailure }
func (f file) Filelist(*sftp.Request) (sftp.ListerAt, error) { return nil, sftp.ErrSSHFxFailure }
func handlers(f file) sftp.Handlers {
	return sftp.Handlers{FileGet: f, FilePut: f, FileCmd: f, FileList: f}
}

// newImpostor lets everybody in, each time under the next of its keys.
func newImpostor(t *testing.T, keys int, f file) (*impostor, string) {
	t.Helper()
	var signers []ssh.Signer
	for range keys {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(t, err)
		signer, err := ssh.NewSignerFromKey(key)
		must(t, err)
		signers = append(signers, signer)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	i := &impostor{}
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { i.passwords.Add(1); return nil, nil }}
			c.AddHostKey(signers[n%keys])
			go func() {
				defer conn.Close()
				_, channels, requests, err := ssh.NewServerConn(conn, c)
				if err != nil {
					return
				}
				go ssh.DiscardRequests(requests)
				for ch := range channels {
					channel, asked, err := ch.Accept()
					if err != nil {
						return
					}
					go func() {
						for r := range asked {
							_ = r.Reply(true, nil)
						}
					}()
					go sftp.NewRequestServer(channel, handlers(f)).Serve()
				}
			}()
		}
	}()
	return i, listener.Addr().String()
}

// TestImpostor: what stands in an HSM's place gets no password unless it has the
// key that was confirmed; and with it, it is believed nothing that is not a
// certificate, and not for long.
func TestImpostor(t *testing.T) {
	t.Parallel()
	full := func(b []byte, _ int64) (int, error) { return copy(b, strings.Repeat("A", len(b))), nil }
	junk := func(b []byte, at int64) (int, error) {
		return strings.NewReader("-----BEGIN CERTIFICATE-----\nAA\n").ReadAt(b, at)
	}
	for name, test := range map[string]struct {
		keys      int
		file      file
		passwords int32
		says      string
	}{
		"another key at the second connection": {2, junk, 0, "no password was sent"},
		"a file without an end":                {1, full, 1, "more than 65536 bytes"},
		"no certificate":                       {1, junk, 1, "neither PEM nor DER"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, address := newImpostor(t, test.keys, test.file)
			g := newGateway(t, nil)
			g.use(&config.HSM{Provider: config.NetworkHSM, Servers: []config.HSMServer{{Name: "a", Address: "127.0.0.1", Port: 9, SSHPort: portOf(t, address)}}})
			seen, err := g.m.HostKey(t.Context(), "a")
			must(t, err)
			if i.passwords.Load() != 0 {
				t.Fatal("a password was sent for the host key's sake")
			}
			err = g.m.Authenticate(t.Context(), "a", AuthenticateRequest{Fingerprint: seen.Fingerprint, Password: []byte("an administrator's")}, nil)
			if err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "an administrator's") {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if got := i.passwords.Load(); got != test.passwords {
				t.Errorf("%d passwords were sent, want %d", got, test.passwords)
			}
			if s := g.status("a"); len(s.Pins) != 0 {
				t.Errorf("pinned: %+v", s.Pins)
			}
		})
	}
}

// TestWords: what is put into a command of the HSM's shell is one word of it,
// and no option.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"-replace", "-f", "a b", "a;b", "a\nb", "a\"b", "$(a)", "`a`", "a'b", "", strings.Repeat("a", 65), "a\x00b", "é"} {
		r := AuthenticateRequest{Fingerprint: "SHA256:x", User: "admin", Password: []byte("p"), Register: true, ClientName: name}
		if r.check("a") == nil {
			t.Errorf("a client may be called %q", name)
		}
		r.ClientName, r.User = "gw", name
		if r.check("a") == nil {
			t.Errorf("a user may be called %q", name)
		}
	}
	for _, label := range []string{"a\"b", "a\\b", "a\nb", "$(a)", "`a`", "a;b"} {
		r := AuthenticateRequest{Fingerprint: "SHA256:x", User: "admin", Password: []byte("p"), Register: true, ClientName: "gw", Partition: label}
		if r.check("a") == nil {
			t.Errorf("a partition may be called %q", label)
		}
	}
}
