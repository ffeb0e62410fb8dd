package world

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"moongate/client"
)

// loopback is where everything runs.
const loopback = "127.0.0.1"

// HSM is a network HSM that runs as a process. Its methods may be called from
// many goroutines at once.
type HSM struct {
	Host     *Host  // that it runs on
	Dir      string // its data directory
	Addr     string // of the client protocol, the same after each Restart
	Password string // the Security Officer's
	// Admin is the password of the appliance's account admin.
	Admin string
	// SSH and Metrics are where the newest process serves its shell and its
	// figures; SSH is the same after each Restart.
	SSH, Metrics string

	program string
	clients string // directory for the clients' certificates

	mu      sync.Mutex
	process *Process // the newest; guarded by mu
	earlier []string // logs of those before; guarded by mu
}

// StartHSM makes a network HSM below dir, which must exist, and serves it on a
// free port. Options are added to those of `moongate-hsm init`.
func StartHSM(ctx context.Context, dir string, options ...string) (*HSM, error) {
	return StartHSMOn(ctx, nil, dir, options...)
}

// StartHSMOn is StartHSM on a host, on its ports.
func StartHSMOn(ctx context.Context, host *Host, dir string, options ...string) (*HSM, error) {
	program, err := Program(ctx, "moongate-hsm")
	if err != nil {
		return nil, err
	}
	h := &HSM{Host: host, Dir: filepath.Join(dir, "hsm"), Password: rand.Text(), program: program, clients: filepath.Join(dir, "clients")}
	if err := os.Mkdir(h.clients, 0o700); err != nil {
		return nil, fmt.Errorf("making an HSM: %w", err)
	}
	twice := h.Password + "\n" + h.Password + "\n"
	if _, err := h.Command(ctx, twice, append([]string{"init", "-label", "world", "-host", host.IP()}, options...)...); err != nil {
		return nil, fmt.Errorf("making an HSM: %w", err)
	}
	h.Admin = rand.Text()
	if _, err := h.Command(ctx, h.Admin+"\n"+h.Admin+"\n", "user", "add", "-username", "admin", "-role", "admin"); err != nil {
		return nil, fmt.Errorf("making an HSM's account: %w", err)
	}
	listen := host.At(0)
	if host != nil {
		listen, h.SSH = host.At(host.ClientPort), host.At(host.SSHPort)
	}
	if h.Addr, err = h.serve(ctx, listen); err != nil {
		return nil, err
	}
	return h, nil
}

// Restart serves the HSM again, after Kill9 or Stop, on the port that it had.
func (h *HSM) Restart(ctx context.Context) error {
	_, err := h.serve(ctx, h.Addr)
	return err
}

// serve starts a process and returns the address that it listens on.
func (h *HSM) serve(ctx context.Context, listen string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process != nil {
		if h.process.Running() {
			return "", errors.New("starting the HSM: it is running")
		}
		h.earlier = append(h.earlier, h.process.Log())
	}
	var addr, ssh, metrics string
	process, err := startProcess(ctx, h.Host, nil, func(line string) bool {
		for prefix, at := range map[string]*string{"ssh ": &ssh, "metrics ": &metrics, "listening ": &addr} {
			if after, is := strings.CutPrefix(line, prefix); is {
				*at = after
			}
		}
		return addr != ""
	}, h.program, "-data", h.Dir, "serve", "-listen", listen, "-ssh-listen", cmp.Or(h.SSH, h.Host.At(0)), "-metrics-listen", h.Host.At(0))
	if err != nil {
		return "", err
	}
	h.SSH, h.Metrics = ssh, metrics
	h.process = process
	return addr, nil
}

// Process is the HSM's newest process.
func (h *HSM) Process() *Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.process
}

// PID is that of the newest process.
func (h *HSM) PID() int { return h.Process().PID }

// Kill9 ends the HSM as a crash would.
func (h *HSM) Kill9() { h.Process().Kill9() }

// Stop ends the HSM in order.
func (h *HSM) Stop() error { return h.Process().Stop() }

// Close stops the HSM, if it runs.
func (h *HSM) Close() error {
	if p := h.Process(); p != nil && p.Running() {
		return p.Stop()
	}
	return nil
}

// Log returns what the HSM printed, since it was made.
func (h *HSM) Log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := strings.Join(h.earlier, "")
	if h.process != nil {
		log += h.process.Log()
	}
	return log
}

// ServerCertificate is the file that clients pin.
func (h *HSM) ServerCertificate() string { return filepath.Join(h.Dir, "server.pem") }

// Command runs moongate-hsm on this HSM with the given standard input, and
// returns its standard output. It works while the HSM serves and while not.
func (h *HSM) Command(ctx context.Context, input string, args ...string) (string, error) {
	return run(ctx, input, h.program, append([]string{"-data", h.Dir}, args...)...)
}

// Shell runs administration commands as the Security Officer, one a line, and
// what they ask for on the lines after each. It stops at the first that fails.
func (h *HSM) Shell(ctx context.Context, lines ...string) (string, error) {
	input := "hsm login\n" + h.Password + "\n" + strings.Join(lines, "\n") + "\n"
	return h.Command(ctx, input, "shell")
}

// Partition is one of an HSM, with its roles' passwords.
type Partition struct {
	Label         string
	CryptoOfficer string
	CryptoUser    string
}

// NewPartition makes a partition and its two roles.
func (h *HSM) NewPartition(ctx context.Context, label string) (*Partition, error) {
	p := &Partition{Label: label, CryptoOfficer: rand.Text(), CryptoUser: rand.Text()}
	return p, h.AddPartition(ctx, p)
}

// AddPartition makes a partition with a label and passwords that are given.
func (h *HSM) AddPartition(ctx context.Context, p *Partition) error {
	_, err := h.Shell(ctx,
		"partition create -partition "+p.Label,
		"role init -partition "+p.Label+" -role co", p.CryptoOfficer, p.CryptoOfficer,
		"role init -partition "+p.Label+" -role cu", p.CryptoOfficer, p.CryptoUser, p.CryptoUser)
	if err != nil {
		return fmt.Errorf("making partition %s: %w", p.Label, err)
	}
	return nil
}

// Registered is a client that an HSM admits to one partition.
type Registered struct {
	Name        string
	Certificate string // PEM files
	Key         string
	Partition   *Partition

	hsm   *HSM
	group *Group // whose partition it is, where hsm is a member of one
}

// servers are the HSMs by what a gateway calls them.
func (r *Registered) servers() map[string]*HSM {
	if r.group == nil {
		return map[string]*HSM{moduleName: r.hsm}
	}
	list := map[string]*HSM{}
	for i, h := range r.group.HSMs {
		list[memberName(i)] = h
	}
	return list
}

// Register makes a certificate for a client on this machine, registers it for
// the loopback address and assigns a partition to it.
func (h *HSM) Register(ctx context.Context, name string, p *Partition) (*Registered, error) {
	return h.RegisterFrom(ctx, nil, name, p)
}

// RegisterFrom is Register of a client on a host.
func (h *HSM) RegisterFrom(ctx context.Context, host *Host, name string, p *Partition) (*Registered, error) {
	cert, key, err := client.NewCertificate(name, host.From())
	if err != nil {
		return nil, fmt.Errorf("registering client %s: %w", name, err)
	}
	r := &Registered{
		Name: name, Partition: p, hsm: h,
		Certificate: filepath.Join(h.clients, name+".pem"), Key: filepath.Join(h.clients, name+"-key.pem"),
	}
	if err := errors.Join(os.WriteFile(r.Certificate, cert, 0o644), os.WriteFile(r.Key, key, 0o600)); err != nil {
		return nil, fmt.Errorf("registering client %s: %w", name, err)
	}
	return r, h.admit(ctx, r, host)
}

// admit registers a client's certificate, and assigns its partition to it.
func (h *HSM) admit(ctx context.Context, r *Registered, host *Host) error {
	_, err := h.Shell(ctx,
		"client register -c "+r.Name+" -ip "+host.From()+" -certificate "+r.Certificate,
		"client assignPartition -c "+r.Name+" -p "+r.Partition.Label)
	if err != nil {
		return fmt.Errorf("registering client %s: %w", r.Name, err)
	}
	return nil
}

// Settings is a client configuration file's text (client.LoadConfig).
func (r *Registered) Settings() string {
	return fmt.Sprintf("partition = %q\n\n[server]\naddress = %q\ncertificate = %q\n\n[client]\nname = %q\ncertificate = %q\nkey = %q\n",
		r.Partition.Label, r.hsm.Addr, r.hsm.ServerCertificate(), r.Name, r.Certificate, r.Key)
}

// Config is what client.Dial needs to be this client, as a role of the
// partition.
func (r *Registered) Config(role client.Role) (client.Config, error) {
	file := filepath.Join(r.hsm.clients, r.Name+".toml")
	if err := os.WriteFile(file, []byte(r.Settings()), 0o600); err != nil {
		return client.Config{}, fmt.Errorf("configuring client %s: %w", r.Name, err)
	}
	config, err := client.LoadConfig(file)
	if err != nil {
		return client.Config{}, err
	}
	config.Role = role
	switch role {
	case client.RoleCryptoOfficer:
		config.Password = func() ([]byte, error) { return []byte(r.Partition.CryptoOfficer), nil }
	case client.RoleCryptoUser:
		config.Password = func() ([]byte, error) { return []byte(r.Partition.CryptoUser), nil }
	}
	return config, nil
}

// AuditRecord is one line of the HSM's audit log.
type AuditRecord struct {
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Action    string    `json:"action"`
	Op        string    `json:"op"` // operation id, hexadecimal
	Client    string    `json:"client"`
	Remote    string    `json:"remote"`
	Partition string    `json:"partition"`
	Role      string    `json:"role"`
	Object    string    `json:"object"` // UUID
	Mechanism string    `json:"mechanism"`
	Outcome   string    `json:"outcome"`
	Detail    string    `json:"detail"`
}

// AuditLines returns the newest lines of the audit log, n at most, the oldest
// of them first.
func (h *HSM) AuditLines(ctx context.Context, n int) ([]string, error) {
	out, err := h.Command(ctx, "", "audit", "tail", "-entries", fmt.Sprint(n))
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "{") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines, nil
}

// Audit is AuditLines, decoded.
func (h *HSM) Audit(ctx context.Context, n int) ([]AuditRecord, error) {
	lines, err := h.AuditLines(ctx, n)
	if err != nil {
		return nil, err
	}
	var list []AuditRecord
	for _, line := range lines {
		var r AuditRecord
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("reading the audit log: %q: %w", line, err)
		}
		list = append(list, r)
	}
	return list, nil
}
