package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moongate/client"
	"moongate/e2e/world"
)

// sshSetting is an HSM, and OpenSSH's clients that reach it.
type sshSetting struct {
	t   *testing.T
	hsm *world.HSM
	dir string
	ssh *world.OpenSSH // admin's, by password
	key string         // the file of admin's key
}

func startSSH(t *testing.T) *sshSetting {
	t.Helper()
	w := world.T(t)
	s := &sshSetting{t: t, hsm: w.HSM(), dir: w.Dir()}
	var err error
	s.ssh, err = s.hsm.OpenSSH(s.dir, "admin", s.hsm.Admin)
	must(t, err)
	s.key = filepath.Join(s.dir, "id")
	s.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "admin's key", "-f", s.key)
	line, err := os.ReadFile(s.key + ".pub")
	must(t, err)
	s.run(0, "", "user publicKey add admin -key "+fmt.Sprintf("%q", strings.TrimSpace(string(line))))
	return s
}

// run runs ssh by password, and checks its exit status.
func (s *sshSetting) run(status int, input string, words ...string) string {
	s.t.Helper()
	r, err := s.ssh.SSH(s.t.Context(), input, words...)
	if r.Status != status {
		s.t.Fatalf("ssh %q: status %d, want %d, %v\n%s\n%s", words, r.Status, status, err, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// tool runs a program with admin's key, and returns its output, errors and exit
// status. ssh, scp and sftp get their options.
func (s *sshSetting) tool(program string, args ...string) (string, int) {
	s.t.Helper()
	if program != "ssh-keygen" {
		args = append([]string{"-F", s.ssh.Config(), "-i", s.key, "-o", "PreferredAuthentications=publickey", "-o", "LogLevel=INFO", "-o", "BatchMode=yes"}, args...)
	}
	cmd := exec.CommandContext(s.t.Context(), program, args...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%s: %v", program, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// certificate writes a client's certificate.
func (s *sshSetting) certificate(name string) []byte {
	s.t.Helper()
	pem, _, err := client.NewCertificate("c")
	must(s.t, err)
	must(s.t, os.WriteFile(filepath.Join(s.dir, name), pem, 0o600))
	return pem
}

func (s *sshSetting) inbox() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.hsm.Dir, "inbox"))
	must(s.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOpenSSHCommands(t *testing.T) {
	t.Parallel()
	s := startSSH(t)
	if out := s.run(0, "", "client list"); out != "\nCommand Result : 0 (Success)\n" {
		t.Errorf("client list printed %q", out)
	}
	s.run(1, "", "client show -c nobody")
	if out := s.run(0, "nonsense\n\nhsm login\n"+s.hsm.Password+"\npartition create -partition p1\n"); strings.Count(out, "Command Result : 0 (Success)") != 2 || strings.Contains(out, s.hsm.Password) || strings.Contains(out, "moonsh") {
		t.Errorf("a script printed\n%s", out)
	}
	s.run(1, "partition list\nnonsense\n")
	if out, status := s.tool("ssh", s.ssh.Target(), "partition list"); status != 0 || !strings.Contains(out, "p1") {
		t.Errorf("by key: %d\n%s", status, out)
	}
	// Compare what is printed with what ssh-keygen makes of the key.
	prints, _ := s.tool("ssh-keygen", "-l", "-f", filepath.Join(s.dir, "known_hosts"))
	if out := s.run(0, "", "sysconf fingerprint ssh"); !strings.Contains(out, strings.Fields(prints)[1]) {
		t.Errorf("known_hosts holds\n%s\nthe HSM shows\n%s", prints, out)
	}
	for what, test := range map[string]struct {
		args []string
		says string
	}{
		"forwarding a port":  {[]string{"-W", "127.0.0.1:22", s.ssh.Target()}, "there is no forwarding on this server"},
		"listening":          {[]string{"-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", s.ssh.Target(), "client list"}, "forwarding failed"},
		"another subsystem":  {[]string{"-s", s.ssh.Target(), "netconf"}, "subsystem request failed"},
		"an old MAC":         {[]string{"-c", "aes128-ctr", "-m", "hmac-sha1", s.ssh.Target(), "client list"}, "no matching MAC found"},
		"an old cipher":      {[]string{"-c", "aes128-cbc", s.ssh.Target(), "client list"}, "no matching cipher found"},
		"an old exchange":    {[]string{"-o", "KexAlgorithms=diffie-hellman-group14-sha1", s.ssh.Target(), "client list"}, "no matching key exchange method found"},
		"a key of a machine": {[]string{"-o", "HostKeyAlgorithms=ssh-rsa", s.ssh.Target(), "client list"}, "no matching host key type found"},
	} {
		if out, status := s.tool("ssh", test.args...); status == 0 || !strings.Contains(out, test.says) {
			t.Errorf("%s: %d, %s", what, status, out)
		}
	}
	for _, options := range [][]string{
		{"-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256", "-o", "UserKnownHostsFile=/dev/null", "-o", "KexAlgorithms=ecdh-sha2-nistp256", "-c", "aes256-gcm@openssh.com"},
		{"-o", "KexAlgorithms=curve25519-sha256", "-c", "chacha20-poly1305@openssh.com", "-o", "SendEnv=HOME"},
		{"-c", "aes256-ctr", "-m", "hmac-sha2-256-etm@openssh.com", "-A", "-X"},
	} {
		if out, status := s.tool("ssh", append(options, s.ssh.Target(), "client list")...); status != 0 {
			t.Errorf("%q: %d\n%s", options, status, out)
		}
	}
}

func TestOpenSSHFiles(t *testing.T) {
	t.Parallel()
	s := startSSH(t)
	server, err := os.ReadFile(s.hsm.ServerCertificate())
	must(t, err)
	at := s.ssh.Target() + ":"
	s.certificate("10.0.0.5.pem")
	for _, protocol := range [][]string{{}, {"-O"}} {
		scp := func(args ...string) (string, int) {
			t.Helper()
			return s.tool("scp", append(protocol, args...)...)
		}
		for _, path := range []string{"server.pem", "./server.pem", "/server.pem"} {
			must(t, os.RemoveAll(filepath.Join(s.dir, "server.pem")))
			if out, status := scp("-p", at+path, "."); status != 0 {
				t.Errorf("%q %s: %d\n%s", protocol, path, status, out)
			}
			if got, err := os.ReadFile(filepath.Join(s.dir, "server.pem")); err != nil || !bytes.Equal(got, server) {
				t.Errorf("%q %s fetched %d bytes, %v", protocol, path, len(got), err)
			}
		}
		for name, args := range map[string][]string{
			"10.0.0.5.pem":     {"10.0.0.5.pem", at},
			"10.0.0.6.pem":     {"-p", "10.0.0.6.pem", at + "."},
			"gw.example.pem":   {"gw.example.pem", at + "/"},
			"2001:db8::1.pem":  {"./2001:db8::1.pem", at},
			"2001_db8__2.pem":  {"2001_db8__2.pem", at},
			"10.0.0.7.pem":     {"10.0.0.7.pem", at + "10.0.0.8.pem"}, // by another name
			"two.example.pem":  {"two.example.pem", "10.0.0.5.pem", at},
			"long.example.pem": {"-q", "long.example.pem", at},
		} {
			s.certificate(name)
			if out, status := scp(args...); status != 0 || out != "" {
				t.Errorf("%q %q: %d\n%s", protocol, args, status, out)
			}
		}
		want := "10.0.0.5.pem 10.0.0.6.pem 10.0.0.8.pem 2001:db8::1.pem 2001:db8::2.pem gw.example.pem long.example.pem two.example.pem"
		if got := strings.Join(s.inbox(), " "); got != want {
			t.Errorf("%q: the inbox holds %s, want %s", protocol, got, want)
		}
		must(t, os.WriteFile(filepath.Join(s.dir, "bad.pem"), []byte("hello"), 0o600))
		must(t, os.WriteFile(filepath.Join(s.dir, "big.pem"), make([]byte, 1<<20), 0o600))
		must(t, os.MkdirAll(filepath.Join(s.dir, "d"), 0o700))
		for says, args := range map[string][]string{
			"no certificate in PEM":            {"bad.pem", at},
			"65536":                            {"big.pem", at},
			"own, and is only fetched":         {"10.0.0.5.pem", at + "server.pem"},
			"expected ADDRESS.pem":             {"10.0.0.5.pem", at + "x.txt"},
			"":                                 {"-r", "d", at},
			"is no name of a file|o such file": {at + "/etc/passwd", "stolen"},
			"there is no x|o such file":        {at + "x.pem", "stolen"},
			"is no name of a file|o such ":     {"10.0.0.5.pem", at + "../x.pem"},
		} {
			out, status := scp(args...)
			said := false
			for _, part := range strings.Split(says, "|") {
				said = said || strings.Contains(out, part)
			}
			if status == 0 || !said {
				t.Errorf("%q %q: %d, does not say %q\n%s", protocol, args, status, says, out)
			}
		}
		if got := strings.Join(s.inbox(), " "); got != want {
			t.Errorf("%q: in the end the inbox holds %s", protocol, got)
		}
		for _, name := range []string{"10.0.0.5.pem", "2001:db8::2.pem"} {
			must(t, os.Remove(filepath.Join(s.hsm.Dir, "inbox", name)))
		}
	}

	batch := filepath.Join(s.dir, "batch")
	must(t, os.WriteFile(batch, []byte("pwd\nls -l\nput -p 10.0.0.5.pem\nget server.pem fetched.pem\nls /\n-rm server.pem\n-rename server.pem x.pem\n-mkdir d\n-ln -s /etc/passwd x\n-chmod 777 server.pem\n-get ../hsm.db\n-ls /etc\n"), 0o600))
	out, status := s.tool("sftp", "-b", batch, s.ssh.Target())
	if status != 0 || !strings.Contains(out, "Remote working directory: /\n") || strings.Count(out, "ermission denied") != 4 {
		t.Errorf("a batch: %d\n%s", status, out)
	}
	if got, err := os.ReadFile(filepath.Join(s.dir, "fetched.pem")); err != nil || !bytes.Equal(got, server) {
		t.Errorf("the batch fetched %d bytes, %v", len(got), err)
	}
	if out := s.run(0, "", "client register -c v6 -ip 2001:db8::1"); !strings.Contains(out, "'client register' successful.") {
		t.Errorf("client register printed\n%s", out)
	}
}

// TestOpenSSHPrompt types into a terminal.
func TestOpenSSHPrompt(t *testing.T) {
	t.Parallel()
	s := startSSH(t)
	p := newPTY(t, s.ssh.Env(), "ssh", "-F", s.ssh.Config(), s.ssh.Target())
	for _, step := range []struct{ types, sees string }{
		{"", "[world] moonsh:> "},
		{"par\tcr\t-p p1\x1b[D2\r", "partition create -p p21"},
		{"", "Please enter the HSM Administrators' password:\r\n"},
		{"", "> "},
		{s.hsm.Password + "\r", "********\r\n'partition create' successful.\r\n\r\nCommand Result : 0 (Success)\r\n"},
		{"", "[world] moonsh:> "},
		{"client ?", "  register "},
		{"\x15\x1b[A", "partition create -p p21"},
		{"\x03", "^C\r\n"},
		{"partition delete -p p21\r", "Type 'proceed' to delete the partition, or 'quit' to quit now.\r\n"},
		{"quit\r", "Command Result : 65535"},
		{"partition list\r", "p21"},
		{"\x04", ""},
	} {
		p.types(step.types)
		p.sees(step.sees)
	}
	if status := p.wait(); status != 0 {
		t.Errorf("the session ended with %d\n%s", status, p.text())
	}
	if strings.Contains(p.text(), s.hsm.Password) {
		t.Error("the password was shown")
	}
	// The window's size is known: a narrow one breaks the line.
	p = newPTY(t, s.ssh.Env(), "ssh", "-F", s.ssh.Config(), s.ssh.Target())
	p.sees("[world] moonsh:> ")
	must(t, unix.IoctlSetWinsize(int(p.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 30}))
	time.Sleep(200 * time.Millisecond) // for ssh to tell the HSM
	p.types("client show -c 0123456789")
	p.sees("client show -\r\nc 0123456789")
	p.types("\x03exit\r")
	p.wait()
	// A forced terminal for one command.
	p = newPTY(t, s.ssh.Env(), "ssh", "-F", s.ssh.Config(), "-t", s.ssh.Target(), "hsm login")
	p.sees("> ")
	p.types("\x03")
	if status := p.wait(); status != 1 || !strings.Contains(p.text(), "interrupted") {
		t.Errorf("an abandoned command ended with %d\n%s", status, p.text())
	}
}

// pty is a program at a terminal of ours.
type pty struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the terminal was read to its end

	mu   sync.Mutex
	out  bytes.Buffer // guarded by mu
	seen int          // guarded by mu
}

func newPTY(t *testing.T, env []string, program string, args ...string) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(t, err)
	must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	must(t, unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer slave.Close()
	ctx, cancel := context.WithCancel(context.Background())
	p := &pty{t: t, master: master, ended: make(chan struct{}), cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		io.Copy(p, master) // ends by EIO when the program has gone
	}()
	t.Cleanup(func() {
		cancel()
		p.cmd.Wait()
		<-p.ended
		master.Close()
	})
	return p
}

func (p *pty) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *pty) types(keys string) {
	p.t.Helper()
	_, err := io.WriteString(p.master, keys)
	must(p.t, err)
}

// sees waits for text after what was seen before.
func (p *pty) sees(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		at := bytes.Index(p.out.Bytes()[p.seen:], []byte(text))
		if at >= 0 {
			p.seen += at + len(text)
		}
		p.mu.Unlock()
		if at >= 0 {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%q was not seen on\n%q", text, p.text())
		}
	}
}

// wait returns the program's exit status.
func (p *pty) wait() int {
	p.t.Helper()
	err := p.cmd.Wait()
	<-p.ended
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Errorf("waiting: %v", err)
	}
	return p.cmd.ProcessState.ExitCode()
}
