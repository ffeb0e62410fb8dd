package partition

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Passwords of the test's world.
var (
	soPassword = []byte("so-password")
	coPassword = []byte("co-password")
	cuPassword = []byte("cu-password")
	operator   = Operator{Name: "tester", From: "here"}
	home       = netip.MustParseAddrPort("192.0.2.7:1234")
)

// world is an HSM on disk with one partition, "p", both roles, and one client,
// "c", that it is assigned to.
type world struct {
	*HSM
	t           testing.TB
	dir         string
	store       *store.Store
	log         *audit.Log
	fingerprint string
	clock       *clock
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := newEmptyWorld(t)
	w.fill()
	return w
}

// newEmptyWorld is a world without its partition and client.
func newEmptyWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: time.Now()}}
	w.openStore()
	w.open()
	t.Cleanup(w.close)
	must(t, w.Initialize(t.Context(), operator, InitOptions{Label: "lab", Officer: soPassword}))
	return w
}

// fill makes the partition, its roles, and the client.
func (w *world) fill() {
	w.t.Helper()
	t, o := w.t, w.officer()
	must(t, o.CreatePartition(t.Context(), "p"))
	must(t, o.InitCryptoOfficer(t.Context(), "p", coPassword))
	must(t, w.InitCryptoUser(t.Context(), operator, "p", coPassword, cuPassword))
	cert, fingerprint := newCertificate(t)
	w.fingerprint = fingerprint
	must(t, o.RegisterClient(t.Context(), Registration{Name: "c", Address: home.Addr().String(), Certificate: cert}))
	must(t, o.AssignPartition(t.Context(), "c", "p"))
}

func (w *world) openStore() {
	path := filepath.Join(w.dir, "device.key")
	root, err := store.LoadOrCreateRootKey(path)
	must(w.t, err)
	w.store, err = store.Open(w.dir, root, store.Options{KeyFile: store.PlainKeyFile(path)})
	must(w.t, err)
}

func (w *world) open() {
	var err error
	w.log, err = audit.Open(filepath.Join(w.dir, "audit"), audit.Options{Origin: "test/1", Logger: slog.New(slog.DiscardHandler)})
	must(w.t, err)
	w.HSM, err = Open(Options{
		Store: w.store, Journal: w.log, Logger: slog.New(slog.DiscardHandler), Now: w.clock.Now, NewKDF: quickKDF,
		SaveUses: time.Hour, // tests save when they say so
		LookupHost: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "home.example" {
				return []netip.Addr{home.Addr()}, nil
			}
			return nil, errors.New("no such host")
		},
	})
	must(w.t, err)
}

func (w *world) close() {
	must(w.t, w.HSM.Close())
	must(w.t, w.log.Close())
	must(w.t, w.store.Close())
}

// quickKDF is as cheap as a stored derivation may be.
func quickKDF(p mech.Policy) mech.KDF {
	kdf := mech.NewKDF(p)
	kdf.Time, kdf.Memory, kdf.Threads = 1, 8<<10, 1
	return kdf
}

// restart closes everything and reads it back from disk.
func (w *world) restart() {
	w.close()
	w.openStore()
	w.open()
}

func (w *world) officer() *Officer {
	w.t.Helper()
	o, err := w.AuthenticateOfficer(w.t.Context(), operator, soPassword)
	must(w.t, err)
	return o
}

// fail tries a wrong password as the role, after any delay.
func (w *world) fail(role object.Role) error {
	w.clock.advance(maxDelay)
	return w.session(object.RoleNone).Login(w.t.Context(), newOp(), role, []byte("not the password"))
}

// session opens a session on p and logs in; RoleNone does not.
func (w *world) session(role object.Role) *Session {
	w.t.Helper()
	a, err := w.Attach(w.t.Context(), w.fingerprint, home)
	must(w.t, err)
	s, err := a.OpenSession("p")
	must(w.t, err)
	pw := map[object.Role][]byte{object.RoleCryptoOfficer: coPassword, object.RoleCryptoUser: cuPassword}[role]
	if role != object.RoleNone {
		must(w.t, s.Login(w.t.Context(), object.OperationID{}, role, pw))
	}
	return s
}

// records returns the audit log's actions with their outcomes, oldest first.
func (w *world) records() []audit.Event {
	w.t.Helper()
	var list []audit.Event
	for event, err := range audit.Records(filepath.Join(w.dir, "audit"), 0) {
		must(w.t, err)
		list = append(list, event)
	}
	return list
}

func (w *world) lastRecord() audit.Event {
	w.t.Helper()
	list := w.records()
	return list[len(list)-1]
}

func newCertificate(t testing.TB) ([]byte, string) {
	t.Helper()
	cert, _, err := client.NewCertificate("c")
	must(t, err)
	block, _ := pem.Decode(cert)
	sum := sha256.Sum256(block.Bytes)
	return cert, hex.EncodeToString(sum[:])
}

func newOp() object.OperationID {
	var op object.OperationID
	rand.Read(op[:])
	return op
}

var (
	p256 = object.New(object.Bytes(object.AttrECParams, []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}))
	ec   = object.Mechanism{Type: object.MechECKeyPairGen}
	aes  = object.Mechanism{Type: object.MechAESKeyGen}
)

func (w *world) newKey(s *Session) (object.ID, object.ID) {
	w.t.Helper()
	pub, priv, err := s.Generate(w.t.Context(), newOp(), ec, p256, object.New(object.Text(object.AttrLabel, "k")))
	must(w.t, err)
	return pub, priv
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, want object.Code) {
	t.Helper()
	if got := object.CodeOf(err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func certificateFor(t testing.TB) []byte {
	t.Helper()
	cert, _ := newCertificate(t)
	block, _ := pem.Decode(cert)
	return block.Bytes
}
