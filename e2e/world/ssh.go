package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// OpenSSH runs the OpenSSH clients of this machine as an account of an
// appliance. The password reaches them as a person's would, by a prompt.
type OpenSSH struct {
	from     *Host  // where they run
	address  string // host:port
	user     string
	password string // file with it
	dir      string
}

// OpenSSH returns the clients for an account. Files go below dir, which must
// exist and be nobody else's.
func (h *HSM) OpenSSH(dir, user, password string) (*OpenSSH, error) {
	return newOpenSSH(h.Host, h.SSH, dir, user, password)
}

// newOpenSSH returns the clients for an account of the server at an address.
func newOpenSSH(from *Host, address, dir, user, password string) (*OpenSSH, error) {
	o := &OpenSSH{from: from, address: address, user: user, dir: dir, password: filepath.Join(dir, user+".password")}
	// OpenSSH's prompt names the account: admin@10.0.0.1's password:
	askpass := "#!/bin/sh\nfor f in \"$WORLD_PASSWORD\"-*; do case \"$1\" in *@\"${f#\"$WORLD_PASSWORD\"-}\"\\'*) exec cat \"$f\";; esac; done\n" +
		"exec cat \"$WORLD_PASSWORD\"\n"
	return o, errors.Join(
		os.WriteFile(o.password, []byte(password+"\n"), 0o600),
		os.WriteFile(o.askpass(), []byte(askpass), 0o700),
		os.WriteFile(o.Config(), []byte(o.config()), 0o600),
	)
}

// Knows gives the clients the account's password on another host, where it is
// another one than the server's.
func (o *OpenSSH) Knows(host *Host, password string) error {
	return os.WriteFile(o.password+"-"+host.IP(), []byte(password+"\n"), 0o600)
}

// From makes the clients run on a host, instead of the server's own.
func (o *OpenSSH) From(host *Host) *OpenSSH {
	o.from = host
	return o
}

func (o *OpenSSH) askpass() string { return filepath.Join(o.dir, "askpass") }

// Target is how ssh and scp name the account.
func (o *OpenSSH) Target() string {
	host, _, _ := net.SplitHostPort(o.address)
	return o.user + "@" + host
}

// Config is the file that -F names: the port, and nothing of a person's own
// configuration. The host key is pinned at first use.
func (o *OpenSSH) Config() string { return filepath.Join(o.dir, o.user+".ssh_config") }

func (o *OpenSSH) config() string {
	_, port, _ := net.SplitHostPort(o.address)
	return strings.Join([]string{
		"Port " + port, "UserKnownHostsFile " + filepath.Join(o.dir, "known_hosts"), "GlobalKnownHostsFile /dev/null",
		"StrictHostKeyChecking accept-new", "LogLevel ERROR", "IdentityAgent none", "IdentitiesOnly yes",
		"PreferredAuthentications password", "NumberOfPasswordPrompts 1", "ConnectTimeout 20", "",
	}, "\n")
}

// Env makes a program that OpenSSH's clients are started by answer the prompt
// for the password.
func (o *OpenSSH) Env() []string {
	return []string{"SSH_ASKPASS=" + o.askpass(), "SSH_ASKPASS_REQUIRE=force", "WORLD_PASSWORD=" + o.password}
}

// Result is what a command printed, and its exit status.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// SSH runs `ssh OPTIONS account words...` with the given standard input. No
// words is a session; without a terminal it reads commands from input.
func (o *OpenSSH) SSH(ctx context.Context, input string, words ...string) (Result, error) {
	return o.run(ctx, input, "ssh", append([]string{"-F", o.Config(), o.Target()}, words...)...)
}

// SCP runs `scp OPTIONS words...`; HSM: in a word stands for the account.
func (o *OpenSSH) SCP(ctx context.Context, words ...string) (Result, error) {
	args := []string{"-F", o.Config()}
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
	cmd.Env = append(os.Environ(), o.Env()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	err := o.from.Do(cmd.Run)
	r := Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if err != nil && r.Status <= 0 {
		return r, fmt.Errorf("%s: %w\n%s", program, err, r.Stderr)
	}
	return r, nil
}
