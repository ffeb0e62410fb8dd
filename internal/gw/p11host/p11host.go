// Package p11host runs moongate-p11 beside the gateway: a process of its own
// that loads a PKCS#11 module, so that a module that hangs or crashes takes
// nothing else with it, and a software token's keys are not in the gateway's
// memory. The gateway reaches it as it reaches any HSM, with package client.
//
// What is secret (the PIN, the keys of the connection between the two, which
// are made anew for each Host and kept in memory alone) goes to the process over
// its standard input. A process that dies is started again, with a pause that
// grows; one that gives no sign of life is killed first. A PIN that the token
// refused is not sent again until somebody says so: tokens lock.
package p11host

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"moongate/client"
	"moongate/internal/ownsocket"
)

// Program is the helper's name.
const Program = "moongate-p11"

// LunaCryptoUser is the user type (CKU_CRYPTO_USER) of Thales Luna's user who
// uses keys and makes none.
const LunaCryptoUser = "0x80000001"

// Config says which token, and how.
type Config struct {
	// Module is the absolute path of the module; Token the token's label or
	// serial number, empty for the only one.
	Module, Token string
	// PIN is called for each start of the process and each login of a client of
	// it. What it returns is wiped.
	PIN func() ([]byte, error)
	// UserType is the CKU_ number to log in as, in Go's syntax; empty is CKU_USER.
	UserType string
	// Sessions bounds the module's sessions; 0 is moongate-p11's default, 32.
	Sessions int

	// Program is the helper's path; empty is moongate-p11 beside this program.
	Program string
	// Dir is where the socket's directory is made; empty is the system's for
	// temporary files.
	Dir string
	// Env is added to this process's environment, which the helper gets for its
	// module: many are configured by it.
	Env []string

	// Start is how long the module may take to be loaded and logged in to; 0 is
	// 60 s. Stall is how long the process may give no sign of life; 0 is 5 s.
	// Hang is how long a call of the module's may take; 0 is moongate-p11's
	// default, 25 s.
	Start, Stall, Hang time.Duration
	// Logger receives starts, ends, their reasons, and what the helper prints;
	// nil is none.
	Logger *slog.Logger
}

// State is how the process stands.
type State string

const (
	Starting State = "starting" // the module is being loaded
	Running  State = "running"  // it serves
	Away     State = "away"     // it runs, and the token is away
	Waiting  State = "waiting"  // it ended, and is started again after a pause
	Refused  State = "refused"  // the token refused the PIN: Restart is the way on
	Stopped  State = "stopped"  // the Host was closed
)

// Status is how a Host stands.
type Status struct {
	State    State
	PID      int // 0 while there is no process
	Restarts int // how often it was started again
	// Since is when State last changed.
	Since time.Time
	// Cause is why State is not Running, Fix what to do about it. Both may be
	// empty.
	Cause, Fix string
	// Ended is why the process ended last by itself; empty where it never did.
	Ended string
	// Module, Token and Serial are what the helper said that it serves; empty
	// before that.
	Module, Token, Serial string
}

// Host is a supervised helper.
type Host struct {
	config Config
	dir    string // of the socket
	socket string
	pins   pins

	stop    chan struct{} // closed by Close
	closing sync.Once
	restart chan struct{} // holds a request to start anew
	ended   chan struct{} // closed when run has returned

	mu      sync.Mutex
	status  Status        // guarded by mu
	changed chan struct{} // closed and replaced when status changes; guarded by mu
}

// pins are the certificates of both sides.
type pins struct {
	server    []byte // PEM
	serverKey []byte // PEM
	pinned    *x509.Certificate
	client    tls.Certificate
}

// Start starts the helper in the background, and keeps it running until Close.
// The error says that the configuration cannot work.
func Start(c Config) (*Host, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	p, err := newPins()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(c.Dir)
	if err != nil {
		return nil, err
	}
	h := &Host{
		config: c, dir: dir, socket: filepath.Join(dir, "socket"), pins: p,
		stop: make(chan struct{}), restart: make(chan struct{}, 1), ended: make(chan struct{}),
		status: Status{State: Starting, Since: time.Now()}, changed: make(chan struct{}),
	}
	if len(h.socket) > ownsocket.MaxPath {
		_ = os.Remove(dir)
		return nil, fmt.Errorf("pkcs11: the socket's path %s has %d bytes, at most %d; choose a shorter directory", h.socket, len(h.socket), ownsocket.MaxPath)
	}
	go func() { defer close(h.ended); h.run() }()
	return h, nil
}

func (c *Config) complete() error {
	switch {
	case !filepath.IsAbs(c.Module):
		return fmt.Errorf("pkcs11: module is %q; the absolute path of a PKCS#11 module is expected, such as /usr/lib/softhsm/libsofthsm2.so", c.Module)
	case c.PIN == nil:
		return errors.New("pkcs11: the PIN is missing")
	case strings.ContainsRune(c.Module, 0) || strings.ContainsRune(c.Token, 0):
		return errors.New("pkcs11: module and token hold no zero bytes")
	}
	if c.UserType != "" {
		if _, err := strconv.ParseUint(c.UserType, 0, 32); err != nil {
			return fmt.Errorf("pkcs11: user type is %q; a number is expected, such as 0x80000001", c.UserType)
		}
	}
	if c.Program == "" {
		own, err := os.Executable()
		if err != nil {
			return fmt.Errorf("pkcs11: finding %s beside this program: %w", Program, err)
		}
		c.Program = filepath.Join(filepath.Dir(own), Program)
	}
	if info, err := os.Stat(c.Program); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pkcs11: there is no %s; `make build` makes it where a C compiler is installed, and it belongs beside the gateway's program", c.Program)
	} else if err != nil {
		return fmt.Errorf("pkcs11: looking for %s: %w", Program, err)
	} else if info.Mode()&0o111 == 0 || !info.Mode().IsRegular() {
		return fmt.Errorf("pkcs11: %s is no program that can be run", c.Program)
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.Start, 60 * time.Second},
		{&c.Stall, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func newPins() (pins, error) {
	var p pins
	var err error
	if p.server, p.serverKey, err = client.NewCertificate(Program); err != nil {
		return pins{}, err
	}
	pair, err := tls.X509KeyPair(p.server, p.serverKey)
	if err != nil {
		return pins{}, err
	}
	p.pinned = pair.Leaf
	certificate, key, err := client.NewCertificate("gateway")
	if err != nil {
		return pins{}, err
	}
	defer clear(key)
	p.client, err = tls.X509KeyPair(certificate, key)
	return p, err
}

// dirPrefix begins the name of a socket's directory; the owner's process id
// follows.
const dirPrefix = "moongate-p11-"

// makeDir makes the socket's directory, which nobody else may enter, and removes
// those of processes that were killed.
func makeDir(in string) (string, error) {
	if in == "" {
		in = os.TempDir()
	}
	if old, err := filepath.Glob(filepath.Join(in, dirPrefix+"*")); err == nil {
		for _, dir := range old {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
			owner, err := strconv.Atoi(pid)
			if err == nil && owner > 0 && errors.Is(syscall.Kill(owner, 0), syscall.ESRCH) && ours(dir) {
				_ = os.Remove(filepath.Join(dir, "socket"))
				_ = os.Remove(dir)
			}
		}
	}
	dir, err := os.MkdirTemp(in, dirPrefix+strconv.Itoa(os.Getpid())+"-") // mode 0700
	if err != nil {
		return "", fmt.Errorf("pkcs11: making a directory for the socket: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return dir, nil
}

// ours reports whether a directory is this user's own.
func ours(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	return is && int(stat.Uid) == os.Getuid()
}

// Client returns the configuration of a client of the helper. The caller adds
// the role, and what else it likes.
func (h *Host) Client() client.Config {
	return client.Config{
		Address:            "unix:" + h.socket,
		ServerCertificates: []*x509.Certificate{h.pins.pinned},
		Certificate:        h.pins.client,
		Partition:          h.config.Token,
		Password:           h.config.PIN,
		KeepAlive:          2 * time.Second,
		MaxBackoff:         500 * time.Millisecond,
		Logger:             h.config.Logger,
	}
}

// Status returns how the process stands. It does not wait.
func (h *Host) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.status
}

// Changed returns a channel that is closed at the next change of Status.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Restart ends the process, if there is one, and starts it anew at once: with
// a new PIN, or a module that was configured differently. It does not wait.
func (h *Host) Restart() {
	select {
	case h.restart <- struct{}{}:
	default: // one is on its way
	}
}

// Close ends the process and everything that the Host started.
func (h *Host) Close() error {
	h.closing.Do(func() { close(h.stop) })
	<-h.ended
	if err := os.RemoveAll(h.dir); err != nil {
		return fmt.Errorf("pkcs11: removing the socket's directory: %w", err)
	}
	return nil
}

func (h *Host) set(change func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.status
	change(&h.status)
	if h.status == before {
		return
	}
	if h.status.State != before.State {
		h.status.Since = time.Now()
	}
	close(h.changed)
	h.changed = make(chan struct{})
}
