package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"moongate/client"
	"moongate/internal/durable"
	"moongate/internal/gw/admin"
)

// hsmTool runs moongate-hsm's own administration on the HSM's directory. All
// passwords go through its standard input.
type hsmTool struct{ path, dir string }

func (t hsmTool) run(ctx context.Context, input string, words ...string) (string, error) {
	// As in program.start: it does not outlive its caller.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, t.path, append([]string{"-data", t.dir}, words...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stdout.String() + "\n" + stderr.String())
		return "", fmt.Errorf("moongate-hsm %s: %w\n%s", strings.Join(words, " "), err, said)
	}
	return stdout.String(), nil
}

// readJSON runs a listing command and decodes what it prints before the
// closing lines.
func (t hsmTool) readJSON(ctx context.Context, v any, words ...string) error {
	out, err := t.run(ctx, "", append(words, "-json")...)
	if err != nil {
		return err
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(v); err != nil {
		return fmt.Errorf("reading what moongate-hsm %s printed: %w", strings.Join(words, " "), err)
	}
	return nil
}

// exitNoHSM is moongate-hsm's exit status where there is no HSM yet, or one that
// an interrupted start did not make whole.
const exitNoHSM = 3

// ensureInitialized makes the HSM where there is none. One that does not open
// is left to the administrator.
func (t hsmTool) ensureInitialized(ctx context.Context, cred Credentials, label string) error {
	_, err := t.run(ctx, "", "hsm", "show")
	if exit, ended := errors.AsType[*exec.ExitError](err); err == nil || !ended || exit.ExitCode() != exitNoHSM {
		return err
	}
	_, err = t.run(ctx, answers(cred["hsm-so"], cred["hsm-so"]), "init", "-label", label, "-host", "localhost", "-host", "127.0.0.1")
	return err
}

func answers(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// ensurePartition makes the gateway's partition, its roles, and the gateway's
// registration: each step where it is missing.
func (t hsmTool) ensurePartition(ctx context.Context, cred Credentials, clientCertificate string) error {
	var partitions []struct {
		Label string
		Roles []struct {
			Role        string
			Initialized bool
		}
		Clients []string
	}
	if err := t.readJSON(ctx, &partitions, "partition", "list"); err != nil {
		return err
	}
	var clients []struct{ Name, Fingerprint string }
	if err := t.readJSON(ctx, &clients, "client", "list"); err != nil {
		return err
	}
	initialized, assigned, there := map[string]bool{}, false, false
	for _, p := range partitions {
		if p.Label != partitionName {
			continue
		}
		there, assigned = true, slices.Contains(p.Clients, clientName)
		for _, r := range p.Roles {
			initialized[r.Role] = r.Initialized
		}
	}
	var script []string
	if !there {
		script = append(script, "partition create -partition "+partitionName)
	}
	if !initialized["co"] {
		script = append(script, "role init -partition "+partitionName+" -role co", cred["partition-co"], cred["partition-co"])
	}
	if !initialized["cu"] {
		script = append(script, "role init -partition "+partitionName+" -role cu", cred["partition-co"], cred["partition-cu"], cred["partition-cu"])
	}
	fingerprint, err := fingerprintOf(clientCertificate)
	if err != nil {
		return err
	}
	if !slices.Contains(clients, struct{ Name, Fingerprint string }{clientName, fingerprint}) {
		// In place of one whose certificate is gone, with its partition.
		script = append(script, "client register -c "+clientName+" -ip 127.0.0.1 -replace -certificate "+strconv.Quote(clientCertificate))
		assigned = false
	}
	if !assigned {
		script = append(script, "client assignPartition -c "+clientName+" -p "+partitionName)
	}
	if len(script) == 0 {
		return nil
	}
	_, err = t.run(ctx, answers(append([]string{"hsm login", cred["hsm-so"]}, script...)...), "shell")
	return err
}

// adminName is the account of the HSM's appliance that people log in with.
const adminName = "admin"

// ensureAccount makes the account where there is none. One that is there may
// have another password by now.
func (t hsmTool) ensureAccount(ctx context.Context, cred Credentials) error {
	var accounts []struct{ Name string }
	if err := t.readJSON(ctx, &accounts, "user", "list"); err != nil {
		return err
	}
	if slices.Contains(accounts, struct{ Name string }{adminName}) {
		return nil
	}
	_, err := t.run(ctx, answers(cred["hsm-admin"], cred["hsm-admin"]), "user", "add", "-username", adminName, "-role", "admin")
	return err
}

// fingerprintOf is that of a certificate in a PEM file, as the HSM lists it.
func fingerprintOf(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the gateway's certificate: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return "", fmt.Errorf("reading the gateway's certificate: %s holds no PEM; remove it for a new one", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// ensureLink makes what is missing of the gateway's side of the link: its
// certificate, the HSMs' pinned ones, partition and password. What is there is
// the administrator's, who may have changed the password.
func (u *up) ensureLink() error {
	files := u.l.gateway()
	for _, dir := range []string{files.Dir(), files.HSM(), files.Log()} {
		if err := durable.Mkdir(dir); err != nil {
			return err
		}
	}
	if !exists(files.ClientCertificate()) {
		cert, key, err := client.NewCertificate(clientName, "127.0.0.1")
		if err != nil {
			return err
		}
		if err := durable.WriteFile(files.ClientKey(), key, 0o600); err != nil {
			return err
		}
		if err := durable.WriteFile(files.ClientCertificate(), cert, 0o644); err != nil {
			return err
		}
	}
	for _, h := range u.hsms {
		server, err := os.ReadFile(u.l.hsmCertificate(h.number))
		if err != nil {
			return fmt.Errorf("reading the HSM's certificate: %w", err)
		}
		if err := writeMissing(files.ServerCertificate(h.server), server, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(
		writeMissing(files.Partition(), []byte(partitionName+"\n"), 0o600),
		writeMissing(files.Password(), []byte(u.cred["partition-co"]+"\n"), 0o600),
	)
}

// ensureFirstAdministrator leaves the hash of the first administrator's password
// to the gateway's first start, which makes the account.
func ensureFirstAdministrator(l layout, cred Credentials) error {
	files := l.gateway()
	if exists(files.Revisions()) || exists(files.FirstHash()) {
		return nil
	}
	hash, err := admin.Hash([]byte(cred["gateway-admin"]))
	if err != nil {
		return err
	}
	return durable.WriteFile(files.FirstHash(), []byte(hash+"\n"), 0o600)
}

func writeMissing(path string, content []byte, mode fs.FileMode) error {
	if exists(path) {
		return nil
	}
	return durable.WriteFile(path, content, mode)
}

// dialHSM logs in to the gateway's partition as its Crypto Officer.
func dialHSM(ctx context.Context, l layout, h *hsm, cred Credentials) (*client.Client, error) {
	files := l.gateway()
	pair, err := tls.LoadX509KeyPair(files.ClientCertificate(), files.ClientKey())
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's certificate: %w", err)
	}
	servers, err := client.LoadCertificates(files.ServerCertificate(h.server))
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Config{
		Address: h.address, ServerCertificates: servers, Certificate: pair,
		Partition: partitionName, Role: client.RoleCryptoOfficer, Software: "moongate up",
		Password: func() ([]byte, error) { return []byte(cred["partition-co"]), nil },
	})
}
