package sshd

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, func(o *Options, _ *house) { o.Banner = "Keep out.\n" })
	var banners []string
	dial := func(user string, methods ...ssh.AuthMethod) error {
		config := w.config(methods...)
		config.User = user
		banners = nil
		config.BannerCallback = func(text string) error { banners = append(banners, text); return nil }
		c, err := ssh.Dial("tcp", w.addr, config)
		if err == nil {
			c.Close()
		}
		return err
	}
	must(t, dial("ann", ssh.PublicKeys(w.ann)))
	must(t, dial("ann", ssh.Password("right")))
	must(t, dial("ann", ssh.PublicKeys(newSigner(t), newSigner(t), w.ann)))
	must(t, dial("ann", ssh.PublicKeys(newSigner(t)), ssh.Password("right")))
	if !slices.Equal(banners, []string{"Keep out.\n"}) {
		t.Errorf("banners %q", banners)
	}
	var texts []string
	for _, test := range []struct {
		user, password string
	}{{"ann", "wrong"}, {"ann", ""}, {"bob", "right"}, {"", ""}, {strings.Repeat("x", 1000), "right"}} {
		err := dial(test.user, ssh.Password(test.password))
		if err == nil {
			t.Fatalf("%.10q came in by %q", test.user, test.password)
		}
		texts = append(texts, err.Error())
	}
	if len(slices.Compact(slices.Clone(texts))) != 1 {
		t.Errorf("refusals differ: %q", texts)
	}
	if err := dial("ann", ssh.Password("late")); err == nil || !slices.Contains(banners, "Wait 8s.\n") {
		t.Errorf("a notice: %v, %q", err, banners)
	}
	if err := dial("ann", ssh.PublicKeys(newSigner(t), newSigner(t))); err == nil {
		t.Error("a stranger's key came in")
	}
	eventually(t, "the strange keys are told of", func() bool {
		w.house.mu.Lock()
		defer w.house.mu.Unlock()
		return slices.Equal(w.house.strange, []string{"ann 2"})
	})
	// A key that would do, without the proof that it is held.
	if err := dial("ann", ssh.PublicKeys(liar{w.ann, newSigner(t)})); err == nil {
		t.Error("a key came in by another's signature")
	}
}

// liar signs with another key than it shows.
type liar struct{ shown, has ssh.Signer }

func (l liar) PublicKey() ssh.PublicKey { return l.shown.PublicKey() }
func (l liar) Sign(r io.Reader, data []byte) (*ssh.Signature, error) {
	return l.has.Sign(r, data)
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	insecure := ssh.InsecureAlgorithms()
	for name, change := range map[string]func(*ssh.ClientConfig){
		"a key exchange by SHA-1": func(c *ssh.ClientConfig) { c.KeyExchanges = insecure.KeyExchanges },
		"finite fields": func(c *ssh.ClientConfig) {
			c.KeyExchanges = []string{ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDHGEXSHA256}
		},
		"CBC": func(c *ssh.ClientConfig) { c.Ciphers = insecure.Ciphers },
		"a MAC by SHA-1": func(c *ssh.ClientConfig) {
			c.Ciphers, c.MACs = []string{ssh.CipherAES128CTR}, []string{ssh.HMACSHA1, ssh.InsecureHMACSHA196, ssh.HMACSHA256}
		},
	} {
		config := w.config(ssh.PublicKeys(w.ann))
		change(config)
		c, err := ssh.Dial("tcp", w.addr, config)
		if err == nil {
			c.Close()
		}
		var negotiation *ssh.AlgorithmNegotiationError
		if !errors.As(err, &negotiation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	conn, err := net.Dial("tcp", w.addr)
	must(t, err)
	defer conn.Close()
	sc, _, _, err := ssh.NewClientConn(conn, w.addr, w.config(ssh.PublicKeys(w.ann)))
	must(t, err)
	used := sc.(ssh.AlgorithmsConnMetadata).Algorithms()
	if used.KeyExchange != ssh.KeyExchangeMLKEM768X25519 {
		t.Errorf("agreed on %+v", used)
	}
	for _, fips := range []bool{false, true} {
		exchanges, ciphers, macs := algorithms(fips)
		for _, a := range slices.Concat(exchanges, ciphers, macs) {
			if strings.Contains(a, "sha1") || strings.Contains(a, "cbc") || fips && (strings.Contains(a, "25519") || strings.Contains(a, "chacha")) {
				t.Errorf("%s is allowed, in FIPS mode: %v", a, fips)
			}
		}
	}
}

// TestRSAKeysSignBySHA2 alone.
func TestRSAKeysSignBySHA2(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	w := newWorld(t, Limits{}, func(_ *Options, h *house) { h.key = signer.PublicKey() })
	for algorithm, want := range map[string]bool{ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true, ssh.KeyAlgoRSA: false} {
		limited, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{algorithm})
		must(t, err)
		c, err := ssh.Dial("tcp", w.addr, w.config(ssh.PublicKeys(limited)))
		if err == nil {
			c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	for _, test := range []struct {
		command, out, stderr string
		status               int
	}{
		{"client list", "client list at 127.0.0.1\n", "", 0},
		{"status 7", "", "", 7},
		{"stderr oh", "", "oh\n", 0},
		{"", " at 127.0.0.1\n", "", 0},
		{"scpx", "scpx at 127.0.0.1\n", "", 0},
	} {
		s := w.session()
		var out, stderr bytes.Buffer
		s.Stdout, s.Stderr = &out, &stderr
		if status := exitStatus(s.Run(test.command)); status != test.status || out.String() != test.out || stderr.String() != test.stderr {
			t.Errorf("%q: %d, %q, %q", test.command, status, &out, &stderr)
		}
	}
	// A shell without a terminal: the handler copies its input.
	s := w.session()
	var out bytes.Buffer
	s.Stdin, s.Stdout = strings.NewReader(strings.Repeat("a line\n", 100_000)), &out
	must(t, s.Shell())
	if err := s.Wait(); err != nil || out.String() != strings.Repeat("a line\n", 100_000) {
		t.Errorf("a shell: %v, %d bytes", err, out.Len())
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	s := w.session()
	out, err := s.StdoutPipe()
	must(t, err)
	must(t, s.RequestPty("xterm", 30, 100, ssh.TerminalModes{}))
	if err := s.RequestPty("xterm", 30, 100, nil); err == nil {
		t.Error("a second terminal was given")
	}
	must(t, s.Shell())
	lines := bufio.NewScanner(out)
	for _, want := range []string{"100 x 30", "10000 x 1"} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("printed %q, want %q", lines.Text(), want)
		}
		_ = s.WindowChange(1, 1<<30)
	}
	must(t, s.Wait())
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{Channels: 2}, nil)
	c := w.dial()
	for _, kind := range []string{"direct-tcpip", "forwarded-tcpip", "direct-streamlocal@openssh.com", "x11", "auth-agent@openssh.com"} {
		_, _, err := c.OpenChannel(kind, nil)
		var refused *ssh.OpenChannelError
		if !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, "forwarding") {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, kind := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", "keepalive@openssh.com", "no-more-sessions@openssh.com"} {
		if ok, _, err := c.SendRequest(kind, true, nil); ok || err != nil {
			t.Errorf("%s: %v, %v", kind, ok, err)
		}
	}
	s, err := c.NewSession()
	must(t, err)
	for _, request := range []struct {
		kind    string
		payload any
	}{
		{"env", struct{ Name, Value string }{"LD_PRELOAD", "x"}},
		{"auth-agent-req@openssh.com", nil},
		{"x11-req", struct{ One bool }{}},
		{"subsystem", struct{ Name string }{"netconf"}},
		{"exec", struct{ Command string }{strings.Repeat("x", maxCommand+1)}},
		{"exec", nil},
		{"shell", struct{ More string }{"x"}},
		{"pty-req", nil},
		{"window-change", struct{ A, B, C, D uint32 }{}},
		{"signal", struct{ Name string }{"INT"}},
	} {
		var payload []byte
		if request.payload != nil {
			payload = ssh.Marshal(request.payload)
		}
		if ok, err := s.SendRequest(request.kind, true, payload); ok || err != nil {
			t.Errorf("%s: %v, %v", request.kind, ok, err)
		}
	}
	must(t, s.Start("wait"))
	if ok, err := s.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"status 1"})); ok || err != nil {
		t.Errorf("a second command on one channel: %v, %v", ok, err)
	}
	if _, err = c.NewSession(); err != nil {
		t.Errorf("a second channel: %v", err)
	}
	if _, err := c.NewSession(); err == nil || !strings.Contains(err.Error(), "too many channels") {
		t.Errorf("a third channel: %v", err)
	}
}

// TestSessionsEndWithTheirPeer: a command's context ends when its client is
// gone, or closes its channel.
func TestSessionsEndWithTheirPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	for _, end := range []func(*ssh.Client, *ssh.Session){
		func(c *ssh.Client, _ *ssh.Session) { c.Close() },
		func(_ *ssh.Client, s *ssh.Session) { s.Close() },
	} {
		c := w.dial()
		s, err := c.NewSession()
		must(t, err)
		out, err := s.StdoutPipe()
		must(t, err)
		must(t, s.Start("wait"))
		_, err = io.ReadFull(out, make([]byte, len("waiting\n")))
		must(t, err)
		end(c, s)
	}
	eventually(t, "both sessions have ended", func() bool {
		w.house.mu.Lock()
		defer w.house.mu.Unlock()
		return w.house.ended == 2
	})
}

// TestStop: sessions are told, may say a last word, and are waited for; one that
// does not end loses its connection.
func TestStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{Stop: 300 * time.Millisecond}, nil)
	polite, stubborn := w.session(), w.session()
	said, err := polite.StdoutPipe()
	must(t, err)
	must(t, polite.Start("wait"))
	noise, err := stubborn.StdoutPipe()
	must(t, err)
	must(t, stubborn.Start("stubborn"))
	w.dial() // a connection without a session
	_, err = io.ReadFull(said, make([]byte, len("waiting\n")))
	must(t, err)
	_, err = io.ReadFull(noise, make([]byte, len("waiting\n")))
	must(t, err)
	go io.Copy(io.Discard, noise)
	must(t, w.stop())
	rest, _ := io.ReadAll(said)
	if status := exitStatus(polite.Wait()); status != 4 || string(rest) != "stopped\n" {
		t.Errorf("the polite one ended with %d, %q", status, rest)
	}
	if status := exitStatus(stubborn.Wait()); status != -1 {
		t.Errorf("the stubborn one ended with %d", status)
	}
	w.house.mu.Lock()
	defer w.house.mu.Unlock()
	if w.house.ended != 2 {
		t.Errorf("%d sessions had ended when Serve returned", w.house.ended)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, err := HostKeys(dir)
	must(t, err)
	again, err := HostKeys(dir)
	must(t, err)
	prints := Fingerprints(keys)
	if !slices.Equal(prints, Fingerprints(again)) || len(prints) != 2 || !strings.HasPrefix(prints[0], "ssh-ed25519 SHA256:") {
		t.Errorf("made %q, read %q", prints, Fingerprints(again))
	}
	path := filepath.Join(dir, "ssh_host_ed25519_key")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	must(t, os.Chmod(path, 0o644))
	if _, err := HostKeys(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others read: %v", err)
	}
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, []byte("x"), 0o600))
	if _, err := HostKeys(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged key: %v", err)
	}
	must(t, os.Remove(path))
	fresh, err := HostKeys(dir)
	must(t, err)
	if now := Fingerprints(fresh); now[0] == prints[0] || now[1] != prints[1] {
		t.Errorf("after one was lost: %q", now)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, opts := range []Options{{}, {HostKeys: []ssh.Signer{newSigner(t)}, Logger: slog.Default()}, {Authenticator: &house{}, Logger: slog.Default()}} {
		if _, err := New(opts); err == nil {
			t.Errorf("a server was made of %+v", opts)
		}
	}
}
