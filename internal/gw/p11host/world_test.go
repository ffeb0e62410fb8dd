package p11host

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/p11/p11test"
)

// program is the helper, built for these tests.
var program string

func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		os.Exit(orphan())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "p11host-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, Program)
		if out, err := exec.Command("go", "build", "-o", program, "moongate/cmd/moongate-p11").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", Program, err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds what a test waits for; it is not meant to pass.
const patience = 60 * time.Second

const label = "gateway"

// world is a token of a test's own and a Host over it.
type world struct {
	store  *p11test.Store
	faults *p11test.Faults // nil: SoftHSM2's module itself
	host   *Host
	pin    atomic.Pointer[string]
	asked  atomic.Int32 // how often the PIN was asked for
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{store: p11test.NewStore(t, label)}
	w.setPIN(p11test.PIN)
	return w
}

func (w *world) setPIN(pin string) { w.pin.Store(&pin) }

func (w *world) config(t *testing.T) Config {
	c := Config{
		Module: p11test.Module, Token: label, Program: program, Dir: t.TempDir(), Env: []string{w.store.Env()},
		PIN: func() ([]byte, error) { w.asked.Add(1); return []byte(*w.pin.Load()), nil },
	}
	if w.faults != nil {
		c.Module, c.Env = w.faults.Path, append(c.Env, w.faults.Env()...)
	}
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	return c
}

// start starts the Host, which is closed at the test's end.
func (w *world) start(t *testing.T, change ...func(*Config)) {
	t.Helper()
	c := w.config(t)
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.host, err = Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.host.Close(); err != nil {
			t.Error(err)
		}
		if s := w.host.Status(); s.State != Stopped {
			t.Errorf("after Close the state is %v", s.State)
		}
	})
}

// await waits for a state.
func (w *world) await(t *testing.T, state State) Status {
	t.Helper()
	late := time.After(patience)
	for {
		changed := w.host.Changed()
		s := w.host.Status()
		if s.State == state {
			return s
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("the host is %+v, expected %v", s, state)
		}
	}
}

// client is a client of the token in the role.
func (w *world) client(t *testing.T, role client.Role) *client.Client {
	t.Helper()
	config := w.host.Client()
	config.Role, config.CallTimeout = role, patience
	c, err := client.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// key finds the private key with a label.
func key(t *testing.T, c *client.Client, label string) client.Key {
	t.Helper()
	k, err := c.FindKeyByLabel(t.Context(), label)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// use signs and checks the signature.
func use(k client.Key) error {
	digest := sha256.Sum256([]byte("a message"))
	signature, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	switch public := k.Public().(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest[:], signature) {
			return fmt.Errorf("the signature is wrong")
		}
	}
	return nil
}

// holds reports which of the secrets are in data.
func holds(data []byte, secrets map[string][]byte) []string {
	var found []string
	for name, secret := range secrets {
		if bytes.Contains(data, secret) {
			found = append(found, name)
		}
	}
	return found
}
