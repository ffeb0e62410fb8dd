package adminshell

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"moongate/internal/audit"
	"moongate/internal/hsm/users"
	"moongate/internal/sshd"
)

const userPassword = "user-password"

// sshWorld is an appliance that is served over SSH, with an account of each
// role, called by it.
type sshWorld struct {
	t         *testing.T
	appliance *Appliance
	keys      []ssh.Signer
	key       ssh.Signer // of admin
	addr      string
	stop      func() error
}

func newSSH(t *testing.T) *sshWorld {
	t.Helper()
	a := newAppliance(t)
	dir := t.TempDir()
	var err error
	a.Users, err = users.Create(filepath.Join(dir, "users.json"), users.Options{NewKDF: quickKDF})
	must(t, err)
	w := &sshWorld{t: t, appliance: a}
	for _, role := range users.Roles() {
		must(t, a.Users.Add(string(role), role))
		must(t, a.Users.SetPassword(string(role), []byte(userPassword)))
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	w.key, err = ssh.NewSignerFromKey(key)
	must(t, err)
	_, err = a.Users.AddKey("admin", string(ssh.MarshalAuthorizedKey(w.key.PublicKey())))
	must(t, err)
	a.Inbox = filepath.Join(dir, "inbox")
	must(t, os.Mkdir(a.Inbox, 0o700))
	a.Certificate = filepath.Join(dir, "server.pem")
	must(t, os.WriteFile(a.Certificate, newCertificate(t), 0o644))
	w.keys, err = sshd.HostKeys(dir)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ServeSSH(ctx, l, a, SSHOptions{HostKeys: w.keys}) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { must(t, w.stop()) })
	return w
}

func (w *sshWorld) config(user string, methods ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: ssh.FixedHostKey(w.keys[0].PublicKey()), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}}
}

func (w *sshWorld) dial(user string) *ssh.Client {
	w.t.Helper()
	c, err := ssh.Dial("tcp", w.addr, w.config(user, ssh.Password(userPassword)))
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// run runs a command, or a script where command is "", and returns what it
// printed and its exit status.
func (w *sshWorld) run(c *ssh.Client, command, input string) (string, int) {
	w.t.Helper()
	s, err := c.NewSession()
	must(w.t, err)
	defer s.Close()
	var out bytes.Buffer
	s.Stdout, s.Stdin = &out, strings.NewReader(input)
	if command == "" {
		must(w.t, s.Shell())
	} else {
		must(w.t, s.Start(command))
	}
	err = s.Wait()
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return out.String(), exit.ExitStatus()
	}
	must(w.t, err)
	return out.String(), 0
}

// logins returns the records of logins by SSH, as lines.
func (w *sshWorld) logins() (list []string) {
	w.t.Helper()
	must(w.t, w.appliance.Journal.SignCheckpoint(w.t.Context())) // which flushes
	for record, err := range audit.Records(w.appliance.AuditDir, 0) {
		must(w.t, err)
		if record.Action == actionLogin {
			list = append(list, fmt.Sprintf("%s %s %s %s %s", record.Kind, record.Client, record.Role, record.Outcome, record.Detail))
			if !strings.HasPrefix(record.Remote, "127.0.0.1:") {
				w.t.Errorf("a login from %q", record.Remote)
			}
		}
	}
	return list
}

func TestSSHCommands(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	c := w.dial("admin")
	for _, test := range []struct {
		command, input, out string
		status              int
	}{
		{"client list", "", "\nCommand Result : 0 (Success)\n", 0},
		{"partition create", "", "Command Result : 65535 (Syntax error)\n", 1},
		{"nonsense \"", "", "Command Result : 65535 (Syntax error)\n", 1},
		{"exit", "", "", 0},
		{"hsm login", soPassword + "\n", "Please enter the HSM Administrators' password:\n> \n'hsm login' successful.\n", 0},
		// A script: the login lasts from line to line, an answer is a line, and
		// what fails does not end it.
		{"", "hsm login\n" + soPassword + "\npar cr -p p1\nnonsense\npar list\n", "'partition create' successful.\n", 0},
		{"", "par list\nnonsense\n", "Command Result : 65535 (Syntax error)\n", 1},
		{"", "exit\npar list\n", "", 0},
	} {
		out, status := w.run(c, test.command, test.input)
		if status != test.status || !strings.Contains(out, test.out) || strings.Contains(out, "moonsh") || strings.Contains(out, soPassword) {
			t.Errorf("%q: status %d, printed\n%s", test.command+test.input, status, out)
		}
	}
	if out, _ := w.run(c, "partition list", ""); !strings.Contains(out, "p1") {
		t.Errorf("partition list printed\n%s", out)
	}
	// A role sees its commands alone.
	if out, status := w.run(w.dial("audit"), "client list", ""); status != 1 || !strings.Contains(out, "is not a command") {
		t.Errorf("client list of role audit: %d\n%s", status, out)
	}
}

// TestSSHPrompt drives a terminal: greeting, prompt, completion, help, a hidden
// password, Ctrl-C, the end.
func TestSSHPrompt(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	w.dial("admin").Close() // for a login before
	s, err := w.dial("admin").NewSession()
	must(t, err)
	in, err := s.StdinPipe()
	must(t, err)
	screen := &output{}
	s.Stdout = screen
	must(t, s.RequestPty("xterm", 24, 80, nil))
	must(t, s.Shell())
	for _, step := range []struct{ types, sees string }{
		{"", "Moongate network HSM test, serial number " + w.appliance.HSM.Serial() + "\r\nLast login "},
		{"", "[lab] moonsh:> "},
		{"clie\tli\t\r", "client list "},
		{"", "\r\nCommand Result : 0 (Success)\r\n"},
		{"hsm log?", "  login "},
		{"in\r", "> "},
		{soPassword + "\r", "********\r\n'hsm login' successful.\r\n"},
		{"abandoned\x03", "^C\r\n"},
		{"exit\r", ""},
	} {
		_, err := io.WriteString(in, step.types)
		must(t, err)
		screen.expect(t, step.sees)
	}
	must(t, s.Wait())
	if strings.Contains(screen.all(), soPassword) {
		t.Error("the password was echoed")
	}
	// A command at a terminal asks as a person is asked.
	s, err = w.dial("admin").NewSession()
	must(t, err)
	screen = &output{}
	s.Stdout, s.Stdin = screen, strings.NewReader(soPassword+"\r")
	must(t, s.RequestPty("xterm", 24, 80, nil))
	must(t, s.Run("hsm login"))
	screen.expect(t, "********\r\n'hsm login' successful.\r\n")
}

// output is a screen that can be waited for.
type output struct {
	mu   sync.Mutex
	text string // guarded by mu
	seen int    // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text += string(p)
	return len(p), nil
}

func (o *output) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text
}

// expect waits for text after what was expected before.
func (o *output) expect(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		at := strings.Index(o.text[o.seen:], text)
		if at >= 0 {
			o.seen += at + len(text)
		}
		shown := o.text
		o.mu.Unlock()
		if at >= 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q was not seen on\n%q", text, shown)
		}
	}
}

func TestSSHLoginsAreRecorded(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	tries := func(user string, methods ...ssh.AuthMethod) error {
		c, err := ssh.Dial("tcp", w.addr, w.config(user, methods...))
		if err == nil {
			c.Close()
		}
		return err
	}
	must(t, tries("admin", ssh.PublicKeys(w.key)))
	must(t, tries("monitor", ssh.Password(userPassword)))
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	strange, err := ssh.NewSignerFromKey(stranger)
	must(t, err)
	texts := map[string]bool{}
	for _, err := range []error{
		tries("admin", ssh.Password("wrong")), tries("nobody", ssh.Password(userPassword)),
	} {
		if err == nil {
			t.Fatal("a stranger came in")
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("refusals differ: %v", texts)
	}
	if err := tries("monitor", ssh.PublicKeys(strange)); err == nil {
		t.Error("a stranger's key came in")
	}
	want := []string{
		"login admin admin ok by key " + ssh.FingerprintSHA256(w.key.PublicKey()),
		"login monitor monitor ok by password",
		"denied admin  password incorrect by password: password incorrect: the name, the password or the key is wrong (wrong password)",
		"denied nobody  password incorrect by password: password incorrect: the name, the password or the key is wrong (there is no such account)",
		"denied monitor  password incorrect by 1 keys: password incorrect: none of them opens the account",
	}
	for deadline := time.Now().Add(10 * time.Second); !slices.Equal(w.logins(), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("recorded\n%s\nwant\n%s", strings.Join(w.logins(), "\n"), strings.Join(want, "\n"))
		}
	}
	// Who guesses is told to wait; the key comes in all the same.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 8 { // which count, though nobody waits for the answer
		_, _ = w.appliance.Users.AuthenticatePassword(gone, "admin", nil, netip.MustParseAddrPort(w.addr).Addr())
	}
	told := ""
	config := w.config("admin", ssh.Password(userPassword))
	config.BannerCallback = func(text string) error { told = text; return nil }
	if _, err := ssh.Dial("tcp", w.addr, config); err == nil {
		t.Error("who must wait came in")
	}
	if !strings.HasPrefix(told, "Too many wrong passwords from this address; wait ") {
		t.Errorf("a guesser is told %q", told)
	}
	must(t, tries("admin", ssh.PublicKeys(w.key)))
}

// TestALoginThatCannotBeRecordedIsRefused, whoever it is.
func TestALoginThatCannotBeRecordedIsRefused(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	broken := *w.appliance
	var err error
	broken.Journal, err = audit.Open(filepath.Join(t.TempDir(), "audit"), audit.Options{Origin: "test/2", Logger: broken.Logger})
	must(t, err)
	must(t, broken.Journal.Close())
	g := &gate{appliance: &broken}
	at := sshd.Attempt{User: "admin", From: netip.MustParseAddrPort("127.0.0.1:1")}
	var notice *sshd.Notice
	if account, err := g.Key(t.Context(), at, w.key.PublicKey()); account != nil || !errors.As(err, &notice) || !strings.Contains(notice.Text, "could not be recorded") {
		t.Errorf("a login without a record: %v, %v", account, err)
	}
	if account, err := g.Password(t.Context(), at, []byte(userPassword)); account != nil || !errors.As(err, &notice) {
		t.Errorf("a login by password without a record: %v, %v", account, err)
	}
}

// TestSSHSessionsEndWithTheirAccount: nothing more is done by who was disabled,
// deleted or given another role.
func TestSSHSessionsEndWithTheirAccount(t *testing.T) {
	t.Parallel()
	w := newSSH(t)
	for what, change := range map[string]func(string) error{
		"disabled":   w.appliance.Users.Disable,
		"deleted":    w.appliance.Users.Delete,
		"made audit": func(name string) error { return w.appliance.Users.SetRole(name, users.RoleAudit) },
	} {
		name := strings.Fields(what)[0]
		must(t, w.appliance.Users.Add(name, users.RoleAdmin))
		must(t, w.appliance.Users.SetPassword(name, []byte(userPassword)))
		c := w.dial(name)
		s, err := c.NewSession()
		must(t, err)
		in, err := s.StdinPipe()
		must(t, err)
		screen := &output{}
		s.Stdout = screen
		must(t, s.Shell())
		files, err := sftp.NewClient(c)
		must(t, err)
		_, err = io.WriteString(in, "my info\n")
		must(t, err)
		screen.expect(t, "Command Result : 0 (Success)\n")
		must(t, change(name))
		_, err = io.WriteString(in, "client list\nclient list\n")
		must(t, err)
		screen.expect(t, "your account was changed")
		var exit *ssh.ExitError
		if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 1 || strings.Count(screen.all(), "Command Result") != 2 {
			t.Errorf("a session whose account was %s ended with %v\n%s", what, err, screen.all())
		}
		if _, err := files.Create("192.0.2.1.pem"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("who was %s delivers: %v", what, err)
		}
	}
}
