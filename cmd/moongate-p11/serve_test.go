package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/p11/handover"
	"moongate/internal/p11/p11test"
)

// asProgram makes this test's program the program itself.
const asProgram = "MOONGATE_P11_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// patience bounds what a test waits for; it is not meant to pass.
const patience = 60 * time.Second

// command is the program with arguments, in the environment of a store.
func command(store *p11test.Store, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	if store != nil {
		cmd.Env = append(cmd.Env, store.Env())
	}
	return cmd
}

// TestStandAlone serves a token without a supervisor: with the files that it
// leaves beside its socket a client reaches it, today's and one of before it was
// started anew.
func TestStandAlone(t *testing.T) {
	t.Parallel()
	store := p11test.NewStore(t, `a "label"`)
	store.Generate(t, `a "label"`, "EC:prime256v1", "key", "01")
	dir := filepath.Join(t.TempDir(), "run")
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte(p11test.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c *client.Client
	for i, args := range [][]string{{"-pin-file", pin}, nil} {
		cmd := command(store, append([]string{"serve", "-module", p11test.Module, "-token", `a "label"`, "-socket", filepath.Join(dir, "s")}, args...)...)
		cmd.Stdin = strings.NewReader(p11test.PIN + "\n")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "listening on ") || !strings.Contains(line, "SoftHSM") {
			t.Fatalf("it says %q, %v", line, err)
		}
		if c == nil {
			config, err := client.LoadConfig(filepath.Join(dir, "client.toml"))
			if err != nil {
				t.Fatal(err)
			}
			config.Role, config.Password = client.RoleCryptoUser, client.PasswordFile(pin)
			if c, err = client.Open(config); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		key, err := c.FindKeyByLabel(t.Context(), "key")
		if err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		digest := sha256.Sum256(nil)
		if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			t.Errorf("start %d: %v", i, err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("start %d: it ends with %v", i, err)
		}
	}
	for name, mode := range map[string]os.FileMode{".": 0o700, "client-key.pem": 0o600, "server-key.pem": 0o600, "client.toml": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; expected mode %v", name, info, err, mode)
		}
	}
}

// with is args and more, in a slice of its own.
func with(args []string, more ...string) []string { return slices.Concat(args, more) }

// TestRefusals: what cannot work ends with its own status and its own words.
func TestRefusals(t *testing.T) {
	t.Parallel()
	store := p11test.NewStore(t, "token")
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	readable := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(readable, []byte(p11test.PIN), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := []string{"-socket", filepath.Join(t.TempDir(), "run", "s")}
	softhsm := append([]string{"serve", "-module", p11test.Module}, socket...)
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		status int
		says   string
	}{
		"nothing":           {nil, "", exitUsage, ""},
		"another command":   {[]string{"start"}, "", exitUsage, `"start" is no command`},
		"another argument":  {with(softhsm, "x"), "", exitUsage, `"x" is not expected`},
		"no module":         {[]string{"serve"}, "", exitUsage, "-module is missing"},
		"an unknown option": {[]string{"serve", "-pin", "1234"}, "", exitUsage, "-pin"},
		"a user type":       {with(softhsm, "-user-type", "cu"), "", exitUsage, "-user-type"},
		"many sessions":     {with(softhsm, "-sessions", "100000"), "", exitUsage, "-sessions"},
		"a missing module":  {append([]string{"serve", "-module", "/nowhere.so"}, socket...), "x\n", handover.NoModule.Status(), "there is no module /nowhere.so"},
		"another token":     {with(softhsm, "-token", "other"), "x\n", handover.NoToken.Status(), `no token "other", but "token"`},
		"a wrong PIN":       {softhsm, "wrong-pin\n", handover.PINWrong.Status(), "refused the PIN"},
		"no PIN":            {softhsm, "", handover.Failed.Status(), "standard input is empty"},
		"a long PIN":        {softhsm, strings.Repeat("1", maxPIN+1) + "\n", handover.Failed.Status(), "more than"},
		"a PIN for all":     {with(softhsm, "-pin-file", readable), "", handover.Failed.Status(), "chmod 600"},
		"a public place":    {[]string{"serve", "-module", p11test.Module, "-socket", filepath.Join(open, "s")}, p11test.PIN + "\n", handover.Failed.Status(), "chmod 700"},
		"no supervisor":     {with(softhsm, "-supervised"), "", handover.Failed.Status(), "the supervisor said nothing"},
		"another program":   {with(softhsm, "-supervised"), "hush-hush\n", handover.Failed.Status(), "the same version"},
		"tokens of nothing": {[]string{"tokens"}, "", exitUsage, "-module PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(store, test.args...)
			cmd.Stdin = strings.NewReader(test.stdin)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			exit, _ := errors.AsType[*exec.ExitError](err)
			if exit == nil || exit.ExitCode() != test.status {
				t.Errorf("it ends with %v, expected status %d\n%s", err, test.status, &out)
			}
			if !strings.Contains(out.String(), test.says) {
				t.Errorf("it says\n%s\nexpected %q in it", &out, test.says)
			}
			for _, secret := range []string{"wrong-pin", p11test.PIN, "hush-hush"} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("it tells the secret %q:\n%s", secret, &out)
				}
			}
		})
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	store := p11test.NewStore(t, "one", "two")
	out, err := command(store, "tokens", "-module", p11test.Module).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"module: SoftHSM", `token "one"`, `token "two"`, "PIN: set", "CKM_AES_GCM                  yes", "not initialized"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// TestEndOfSupervisor: the process ends with its supervisor's end of the pipe.
func TestEndOfSupervisor(t *testing.T) {
	t.Parallel()
	store := p11test.NewStore(t, "token")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	certificate, key, err := client.NewCertificate("helper")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(store, "serve", "-supervised", "-module", p11test.Module, "-token", "token", "-socket", filepath.Join(dir, "s"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := handover.WriteStart(in, handover.Start{PIN: []byte(p11test.PIN), Certificate: certificate, Key: key}); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	ready, err := handover.ReadEvent(lines)
	if err != nil || ready.Kind != handover.Ready || ready.Token != "token" {
		t.Fatalf("%+v, %v", ready, err)
	}
	for range 2 {
		if beat, err := handover.ReadEvent(lines); err != nil || beat.Kind != handover.Beat || beat.Away {
			t.Fatalf("%+v, %v", beat, err)
		}
	}
	// Neither core dumps nor new privileges.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1") {
		t.Errorf("it could gain privileges: %v", err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err == nil {
		for line := range strings.Lines(string(limits)) {
			if strings.HasPrefix(line, "Max core file size") && strings.Fields(line)[4] != "0" {
				t.Errorf("core dumps: %s", line)
			}
		}
	} else if !os.IsPermission(err) {
		t.Error(err)
	}
	in.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Error("it outlives its supervisor")
	}
}
