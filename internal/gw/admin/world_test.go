package admin

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"moongate/internal/passphrase"
)

const password = "a password"

var here = netip.MustParseAddr("192.0.2.1")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a guard with a clock that a test moves.
type world struct {
	*Guard
	t    testing.TB
	dir  string
	now  time.Time
	root Account
}

// newWorld has one superuser, root, who has a password.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(memoryDir(t), "admin"), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.root = Account{Name: "root", Role: Superuser, PasswordHash: hashOf(t, password)}
	w.reopen()
	return w
}

// reopen reads everything again, as after a kill.
func (w *world) reopen() {
	w.t.Helper()
	policy := DefaultPolicy
	if w.Guard != nil {
		_, policy = w.account("")
	}
	g, err := Open(Options{Dir: w.dir, Now: func() time.Time { return w.now }, cost: passphrase.Least})
	must(w.t, err)
	must(w.t, g.SetAccounts([]Account{w.root}))
	g.SetPolicy(policy)
	w.Guard = g
}

func hashOf(t testing.TB, password string) string {
	t.Helper()
	h, err := hashAt(passphrase.Least, []byte(password))
	must(t, err)
	return h
}

// addresses are of as many networks as there are calls: none is delayed.
var addresses atomic.Uint32

func somewhere() netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24+addresses.Add(1))
	return netip.AddrFrom4(a)
}

// try tries a password and reports whether it was right.
func (w *world) try(name, password string, from netip.Addr) bool {
	w.t.Helper()
	id, err := w.Password(w.t.Context(), from, name, []byte(password))
	if err == nil {
		if id.Name != name {
			w.t.Errorf("%s came in as %+v", name, id)
		}
		return true
	}
	wantRefused(w.t, err, "")
	return false
}

// wantRefused reports an error that is no refusal for this reason.
func wantRefused(t testing.TB, err error, reason string) *Refused {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(r.Reason, reason) || !strings.Contains(r.Error(), r.Reason) || strings.Contains(r.Public(), r.Reason) {
		t.Fatalf("%v, want a refusal with the reason %q", err, reason)
	}
	return r
}

func newKey(t testing.TB) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return key
}

func lineOf(key ssh.PublicKey) string { return string(ssh.MarshalAuthorizedKey(key)) }

// memoryDir is a directory for tests that write a thousand times: in memory
// where the machine has that, since a kill loses nothing there either, and a
// busy disk takes its time to flush.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "moongate-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}
