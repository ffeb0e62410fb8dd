package world

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// OpenSSH runs the OpenSSH clients of this machine as an account of an HSM's
// appliance. The password reaches them as a person's would, by a prompt.
type OpenSSH struct {
	hsm      *HSM
	user     string
	password string // file with it
	dir      string
}

// OpenSSH returns the clients for an account. Files go below dir, which must
// exist and be nobody else's.
func (h *HSM) OpenSSH(dir, user, password string) (*OpenSSH, error) {
	o := &OpenSSH{hsm: h, user: user, dir: dir, password: filepath.Join(dir, user+".password")}
	if err := os.WriteFile(o.password, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	askpass := "#!/bin/sh\nexec cat \"$WORLD_PASSWORD\"\n"
	return o, os.WriteFile(o.askpass(), []byte(askpass), 0o700)
}

func (o *OpenSSH) askpass() string { return filepath.Join(o.dir, "askpass") }

// Target is how ssh and scp name the account.
func (o *OpenSSH) Target() string {
	host, _, _ := net.SplitHostPort(o.hsm.SSH)
	return o.user + "@" + host
}

// options keep a person's configuration out, and pin the host key at first use.
func (o *OpenSSH) options() []string {
	_, port, _ := net.SplitHostPort(o.hsm.SSH)
	list := []string{"-F", "/dev/null", "-o", "Port=" + port}
	for _, option := range []string{
		"UserKnownHostsFile=" + filepath.Join(o.dir, "known_hosts"), "GlobalKnownHostsFile=/dev/null",
		"StrictHostKeyChecking=accept-new", "LogLevel=ERROR", "IdentityAgent=none", "IdentitiesOnly=yes",
		"PreferredAuthentications=password,keyboard-interactive", "NumberOfPasswordPrompts=1", "ConnectTimeout=20",
	} {
		list = append(list, "-o", option)
	}
	return list
}

// Result is what a command printed, and its exit status.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// SSH runs `ssh OPTIONS account words...` with the given standard input. No
// words is a session; without a terminal it reads commands from input.
func (o *OpenSSH) SSH(ctx context.Context, input string, words ...string) (Result, error) {
	return o.run(ctx, input, "ssh", append(append(o.options(), o.Target()), words...)...)
}

// SCP runs `scp OPTIONS words...`; HSM: in a word stands for the account.
func (o *OpenSSH) SCP(ctx context.Context, words ...string) (Result, error) {
	args := o.options()
	for _, w := range words {
		if file, remote := strings.CutPrefix(w, "HSM:"); remote {
			w = o.Target() + ":" + file
		}
		args = append(args, w)
	}
	return o.run(ctx, "", "scp", args...)
}

func (o *OpenSSH) run(ctx context.Context, input, program string, args ...string) (Result, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "SSH_ASKPASS="+o.askpass(), "SSH_ASKPASS_REQUIRE=force", "WORLD_PASSWORD="+o.password)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	err := cmd.Run()
	r := Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if err != nil && r.Status <= 0 {
		return r, fmt.Errorf("%s: %w\n%s", program, err, r.Stderr)
	}
	return r, nil
}
