package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// house is an Authenticator and the Account of everybody in it: "ann", by the
// password "right" or by her key.
type house struct {
	key   ssh.PublicKey
	files Files
	slow  chan struct{} // a password check waits for it to close

	mu       sync.Mutex
	checking int // passwords at this moment; guarded by mu
	most     int // of them at a time; guarded by mu
	strange  []string
	ended    int // sessions; guarded by mu
}

func (h *house) Password(ctx context.Context, a Attempt, pw []byte) (Account, error) {
	h.mu.Lock()
	h.checking++
	h.most = max(h.most, h.checking)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.checking--
		h.mu.Unlock()
	}()
	if h.slow != nil {
		select {
		case <-h.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case string(pw) == "late":
		return nil, &Notice{errors.New("delayed"), "Wait 8s."}
	case a.User != "ann" || string(pw) != "right" || !a.From.IsValid():
		return nil, errors.New("a reason that nobody may know")
	}
	return h, nil
}

func (h *house) Offered(a Attempt, key ssh.PublicKey) bool {
	return a.User == "ann" && bytes.Equal(key.Marshal(), h.key.Marshal())
}

func (h *house) Key(_ context.Context, a Attempt, key ssh.PublicKey) (Account, error) {
	if !h.Offered(a, key) {
		return nil, errors.New("a key that was not offered")
	}
	return h, nil
}

func (h *house) Strange(a Attempt, keys int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.strange = append(h.strange, fmt.Sprintf("%s %d", a.User, keys))
}

func (h *house) Files() Files { return h.files }

func (h *house) Serve(ctx context.Context, s *Session) int {
	defer func() {
		h.mu.Lock()
		h.ended++
		h.mu.Unlock()
	}()
	word, rest, _ := strings.Cut(s.Command, " ")
	switch {
	case s.PTY:
		columns, rows := s.Size()
		fmt.Fprintf(s, "%d x %d\r\n", columns, rows)
		for rows != 1 {
			select { // one may stand for several changes
			case <-s.Resized():
				columns, rows = s.Size()
			case <-ctx.Done():
				return 1
			}
		}
		fmt.Fprintf(s, "%d x %d\r\n", columns, rows)
	case !s.HasCommand:
		io.Copy(s, s)
	case word == "status":
		n, _ := strconv.Atoi(rest)
		return n
	case word == "swallow":
		io.Copy(io.Discard, s)
	case word == "stderr":
		fmt.Fprintln(s.Stderr(), rest)
	case word == "wait":
		fmt.Fprintln(s, "waiting")
		<-ctx.Done()
		fmt.Fprintln(s, "stopped")
		return 4
	case word == "stubborn":
		fmt.Fprintln(s, "waiting")
		for {
			if _, err := s.Write(make([]byte, 1024)); err != nil {
				return 0
			}
			time.Sleep(time.Millisecond)
		}
	default:
		fmt.Fprintf(s, "%s at %v\n", s.Command, s.From.Addr())
	}
	return 0
}

// memory is a Files in memory.
type memory struct {
	mu      sync.Mutex
	content map[string]string // guarded by mu
}

func newMemory() *memory {
	return &memory{content: map[string]string{"server.pem": "the certificate\n"}}
}

func (m *memory) List(context.Context) (list []Info, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, content := range m.content {
		list = append(list, Info{Name: name, Size: int64(len(content)), Modified: time.Unix(1e9, 0), Writable: name != "server.pem"})
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func (m *memory) Read(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	content, ok := m.content[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(content), nil
}

func (m *memory) Accepts(_ context.Context, name string) error {
	if name == "server.pem" || strings.HasPrefix(name, "denied") {
		return fs.ErrPermission
	}
	return nil
}

func (m *memory) Write(ctx context.Context, name string, content []byte) error {
	if err := m.Accepts(ctx, name); err != nil {
		return err
	}
	if strings.HasPrefix(string(content), "bad") {
		return fmt.Errorf("%s is no certificate", name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.content[name] = string(content)
	return nil
}

func (m *memory) names() (names []string) {
	list, _ := m.List(context.Background())
	for _, info := range list {
		names = append(names, info.Name)
	}
	return names
}

func (m *memory) get(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.content[name]
}

// world is a server that runs, with ann's key.
type world struct {
	t     *testing.T
	house *house
	files *memory
	host  ssh.Signer
	ann   ssh.Signer
	addr  string
	stop  func() error // ends the server and returns what Serve did
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return signer
}

func newWorld(t *testing.T, limits Limits, change func(*Options, *house)) *world {
	t.Helper()
	w := &world{t: t, ann: newSigner(t), host: newSigner(t), files: newMemory()}
	w.house = &house{key: w.ann.PublicKey(), files: w.files}
	opts := Options{HostKeys: []ssh.Signer{w.host}, Authenticator: w.house, Limits: limits, Logger: slog.New(slog.DiscardHandler), Software: "Test_1"}
	if change != nil {
		change(&opts, w.house)
	}
	srv, err := New(opts)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, l) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w
}

func (w *world) config(methods ...ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: "ann", Auth: methods, HostKeyCallback: ssh.FixedHostKey(w.host.PublicKey()), Timeout: 10 * time.Second}
}

// dial logs ann in by her key.
func (w *world) dial() *ssh.Client {
	w.t.Helper()
	c, err := ssh.Dial("tcp", w.addr, w.config(ssh.PublicKeys(w.ann)))
	must(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) session() *ssh.Session {
	w.t.Helper()
	s, err := w.dial().NewSession()
	must(w.t, err)
	return s
}

// exitStatus is what a session ended with.
func exitStatus(err error) int {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	return -1
}

// eventually waits for what happens in another goroutine.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
