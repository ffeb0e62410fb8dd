package partition

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"

	"github.com/google/go-cmp/cmp"
)

var passphrase = []byte("a passphrase for the domain")

// backup makes one, and fails the test where it cannot.
func (w *world) backup(partitions ...string) []byte {
	w.t.Helper()
	var out bytes.Buffer
	must(w.t, w.officer().Backup(w.t.Context(), &out, partitions...))
	return out.Bytes()
}

func (w *world) restore(backup []byte, replace bool) (Restored, error) {
	w.t.Helper()
	return w.officer().Restore(w.t.Context(), bytes.NewReader(backup), replace)
}

// newBare is an initialised HSM of the same domain that holds nothing.
func (w *world) newBare() *world {
	w.t.Helper()
	bare := newWorld(w.t)
	o := bare.officer()
	must(w.t, o.DeletePartition(w.t.Context(), "p"))
	must(w.t, o.DeleteClient(w.t.Context(), "c"))
	bare.join(w)
	return bare
}

func (w *world) join(of *world) {
	w.t.Helper()
	text, err := of.officer().ExportDomain(w.t.Context(), passphrase)
	must(w.t, err)
	must(w.t, w.officer().ImportDomain(w.t.Context(), text, passphrase))
}

// labels lists the labels of a partition's private keys.
func (w *world) labels() []string {
	w.t.Helper()
	s := w.session(object.RoleCryptoOfficer)
	defer s.Close()
	var list []string
	found, _, err := s.Find(w.t.Context(), newOp(), object.New(object.Number(object.AttrClass, uint64(object.ClassPrivateKey))), []object.AttributeType{object.AttrLabel}, 0, 100)
	must(w.t, err)
	for _, f := range found {
		list = append(list, f.Attributes.Text(object.AttrLabel))
	}
	slices.Sort(list)
	return list
}

func (w *world) changes() []store.Change {
	w.t.Helper()
	id, err := w.idOf("p")
	must(w.t, err)
	var list []store.Change
	must(w.t, w.store.View(func(tx *store.Tx) error {
		for c, err := range tx.ChangesSince(id, 0) {
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	}))
	return list
}

// uses reads a key's counter from disk.
func (w *world) usesOnDisk(key object.ID) uint64 {
	w.t.Helper()
	id, err := w.find("p")
	must(w.t, err)
	var n uint64
	must(w.t, w.store.View(func(tx *store.Tx) error {
		all, err := usesOf(tx, id.id)
		if err != nil {
			return err
		}
		counts, err := decodeUses(shardOf(key), all[shardOf(key)])
		for _, c := range counts {
			if c.id == key {
				n = c.count
			}
		}
		return err
	}))
	return n
}

func TestHigherUsesStay(t *testing.T) {
	t.Parallel()
	a, b, c := object.ID{0, 1}, object.ID{0, 2}, object.ID{0, 3}
	backup := appendUses(nil, []useCount{{a, 5}, {b, 1}})
	there := appendUses(nil, []useCount{{a, 3}, {b, 2}, {c, 7}})
	got, err := higherUses(0, backup, there)
	if want := appendUses(nil, []useCount{{a, 5}, {b, 2}, {c, 7}}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
}

func TestWholeBackupOnAnotherHSM(t *testing.T) {
	t.Parallel()
	from := newWorld(t)
	s := from.session(object.RoleCryptoOfficer)
	_, key := from.newKey(s)
	_, gone := from.newKey(s)
	must(t, s.Destroy(t.Context(), newOp(), gone))
	if _, err := recorded(s).Sign(t.Context(), newOp(), key, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	must(t, from.officer().SetAddressCheck(t.Context(), false))
	raw := from.backup()
	for _, secret := range []string{"co-password", from.fingerprint} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the backup shows %q", secret)
		}
	}
	header, err := ReadBackupHeader(bytes.NewReader(raw))
	must(t, err)
	if header.Serial != from.Serial() || header.Label != "lab" || !header.Whole || header.Partitions != 1 {
		t.Errorf("header %+v", header)
	}

	to := from.newBare()
	done, err := to.restore(raw, false)
	must(t, err)
	if n := to.usesOnDisk(key); n != 1 {
		t.Errorf("the key was used %d times, says its counter, want 1", n)
	}
	if diff := cmp.Diff(Restored{Partitions: []string{"p"}, Objects: 3, Clients: 1}, done); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	to.fingerprint = from.fingerprint
	for _, again := range []bool{false, true} {
		if again {
			to.restart()
		}
		if diff := cmp.Diff(from.changes(), to.changes()); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		for _, role := range []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser} {
			s := to.session(role) // with the password that it had
			if _, err := recorded(s).Sign(t.Context(), newOp(), key, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32)); err != nil {
				t.Errorf("%v signs: %v", role, err)
			}
			s.Close()
		}
	}
	info, err := to.Info()
	must(t, err)
	if info.AddressCheck || info.Serial == from.Serial() {
		t.Errorf("the HSM became %+v", info)
	}
	// What was restored is backed up and restored like anything.
	third := from.newBare()
	_, err = third.restore(to.backup("p"), false)
	must(t, err)
	cert, fingerprint := newCertificate(t)
	third.fingerprint = fingerprint
	must(t, third.officer().RegisterClient(t.Context(), Registration{Name: "other", Address: home.Addr().String(), Certificate: cert}))
	must(t, third.officer().AssignPartition(t.Context(), "other", "p"))
	if got := third.labels(); !slices.Equal(got, []string{"k"}) {
		t.Errorf("keys %q", got)
	}
}

func TestRestoreOverItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, kept := w.newKey(s)
	_, destroyed := w.newKey(s)
	raw := w.backup("p")
	must(t, s.Destroy(t.Context(), newOp(), destroyed))
	if _, _, err := s.Generate(t.Context(), newOp(), ec, p256, object.New(object.Text(object.AttrLabel, "later"))); err != nil {
		t.Fatal(err)
	}
	must(t, w.ChangePassword(t.Context(), operator, "p", object.RoleCryptoUser, cuPassword, []byte("another password")))
	before := w.changes()

	_, err := w.restore(raw, false)
	wantCode(t, err, object.ErrExists)
	if diff := cmp.Diff(before, w.changes()); diff != "" {
		t.Errorf("a refused restore changed (-want +got):\n%s", diff)
	}
	var cut []string
	w.OnDisconnect(func(fingerprint string) { cut = append(cut, fingerprint) })
	_, err = w.restore(raw, true)
	must(t, err)

	if !slices.Equal(cut, []string{w.fingerprint}) {
		t.Errorf("disconnected %q", cut)
	}
	if _, err := recorded(s).Sign(t.Context(), newOp(), kept, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32)); err == nil {
		t.Error("a session of before goes on")
	}
	for range 2 {
		if got := w.labels(); !slices.Equal(got, []string{"k", "k"}) {
			t.Errorf("keys %q", got)
		}
		w.session(object.RoleCryptoUser).Close() // by the backup's password
		w.restart()
	}
	last := before[len(before)-1].Sequence
	for _, c := range w.changes() {
		if c.Sequence <= last {
			t.Errorf("%+v is not after %d", c, last)
		}
	}
	list := w.records()
	if !slices.ContainsFunc(list, func(e audit.Event) bool {
		return e.Action == "partition.restore" && e.Outcome == audit.OK && strings.Contains(e.Detail, "p: backup of") && strings.Contains(e.Detail, w.Serial())
	}) {
		t.Error("the restore is not on the audit log")
	}
}

// A restore gives no more guesses.
func TestRestoreDoesNotUnlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw := w.backup()
	s := w.session(object.RoleNone)
	for range maxFailures {
		w.clock.advance(maxDelay) // so that each is looked at
		wantCode(t, s.Login(t.Context(), object.OperationID{}, object.RoleCryptoOfficer, []byte("wrong password")), object.ErrPINIncorrect)
	}
	_, err := w.restore(raw, true)
	must(t, err)
	w.clock.advance(maxDelay)
	s = w.session(object.RoleNone)
	wantCode(t, s.Login(t.Context(), object.OperationID{}, object.RoleCryptoOfficer, coPassword), object.ErrPINLocked)

	// Nor does a backup that was made when it was locked, elsewhere.
	to := w.newBare()
	_, err = to.restore(w.backup(), false)
	must(t, err)
	to.fingerprint = w.fingerprint
	s = to.session(object.RoleNone)
	wantCode(t, s.Login(t.Context(), object.OperationID{}, object.RoleCryptoOfficer, coPassword), object.ErrPINLocked)
}

func TestARestoredRoleIsRenewed(t *testing.T) {
	t.Parallel()
	from := newWorld(t)
	to := from.newBare()
	_, err := to.restore(from.backup(), false)
	must(t, err)
	id, err := to.idOf("p")
	must(t, err)
	var r *roleRecord
	must(t, to.store.View(func(tx *store.Tx) (err error) {
		_, r, err = loadRole(tx, id, object.RoleCryptoOfficer)
		return err
	}))
	if len(r.Key) != 0 || len(r.Portable) == 0 {
		t.Fatalf("restored: root seal %d bytes, portable seal %d bytes", len(r.Key), len(r.Portable))
	}
	if _, err := to.unseal(id, object.RoleCryptoOfficer, r, cuPassword); !errors.Is(err, errPassword) {
		t.Errorf("another role's password: %v", err)
	}
	if _, err := to.unseal(id, object.RoleCryptoUser, r, coPassword); !errors.Is(err, errPassword) {
		t.Errorf("another role's seal: %v", err)
	}
	key, err := to.unseal(id, object.RoleCryptoOfficer, r, coPassword)
	must(t, err)
	fresh, err := to.renew(id, object.RoleCryptoOfficer, r, key, coPassword)
	must(t, err)
	if fresh == nil || len(fresh.Key) == 0 {
		t.Fatal("it is not renewed")
	}
	again, err := to.unseal(id, object.RoleCryptoOfficer, fresh, coPassword)
	must(t, err)
	if *again != *key {
		t.Error("the renewed record opens another key")
	}
	if fresh, err = to.renew(id, object.RoleCryptoOfficer, fresh, key, coPassword); fresh != nil || err != nil {
		t.Errorf("renewed again: %v, %v", fresh, err)
	}
}
