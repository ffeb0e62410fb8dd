package partition

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// What docs/recovery.md says, done.

// TestLostSecurityOfficer: clients go on, nobody administers, and a zeroization
// from the console is what is left.
func TestLostSecurityOfficer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	must(t, w.signs(s, id))
	must(t, w.HSM.Zeroize(t.Context(), operator))
	w.zeroized()
	actions := map[string]bool{}
	for _, e := range w.records() {
		actions[e.Action] = true
	}
	for _, want := range []string{"key.generate", "key.sign", "hsm.zeroize"} {
		if !actions[want] {
			t.Errorf("the audit log of before has lost %s", want)
		}
	}
}

// TestLostCryptoOfficerWithReset: the Partition Security Officer gives a new
// password, and the keys are there.
func TestLostCryptoOfficerWithReset(t *testing.T) {
	t.Parallel()
	w := newOwned(t)
	po := w.ownerOf("q")
	must(t, po.InitCryptoOfficer(t.Context(), coPassword))
	s, err := w.on("q", object.RoleCryptoOfficer, coPassword)
	must(t, err)
	_, id := w.newKey(s)
	w.restart()
	must(t, w.ownerOf("q").ResetRole(t.Context(), object.RoleCryptoOfficer, freshPW))
	s, err = w.on("q", object.RoleCryptoOfficer, freshPW)
	must(t, err)
	must(t, w.signs(s, id))
}

// TestLostCryptoOfficerWithoutReset: the Crypto User goes on using the keys;
// then the partition is made anew, and they are gone.
func TestLostCryptoOfficerWithoutReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	standIn, err := w.officer().Partition("p")
	must(t, err)
	wantCode(t, standIn.ResetRole(t.Context(), object.RoleCryptoOfficer, freshPW), object.ErrPolicy)
	must(t, w.signs(w.session(object.RoleCryptoUser), id))
	must(t, standIn.Recreate(t.Context(), freshPW))
	s, err := w.on("p", object.RoleCryptoOfficer, freshPW)
	must(t, err)
	wantCode(t, w.signs(s, id), object.ErrObjectNotFound)
}

// TestLostCryptoUser: the Crypto Officer gives a new password, from either side.
func TestLostCryptoUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	must(t, s.ResetRole(t.Context(), newOp(), object.RoleCryptoUser, freshPW))
	user, err := w.on("p", object.RoleCryptoUser, freshPW)
	must(t, err)
	must(t, w.signs(user, id))
	must(t, w.InitCryptoUser(t.Context(), operator, "p", coPassword, cuPassword))
	must(t, w.signs(w.session(object.RoleCryptoUser), id))
}

// TestLostPartitionOfficer: the keys are used and the Crypto User is managed;
// policies stay as they are until the partition is deleted.
func TestLostPartitionOfficer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	o := w.officer()
	must(t, o.InitPartition(ctx, "p", poPassword))
	s := w.session(object.RoleCryptoOfficer)
	w.newKey(s)
	must(t, s.ResetRole(ctx, newOp(), object.RoleCryptoUser, freshPW))
	must(t, s.ChangePassword(ctx, newOp(), object.RoleCryptoOfficer, coPassword, freshPW))
	_, err := o.Partition("p")
	wantCode(t, err, object.ErrUserType)
	wantCode(t, o.InitPartition(ctx, "p", freshPW), object.ErrExists)
	must(t, o.DeletePartition(ctx, "p"))
}

// TestLostAuditor: the Security Officer makes the Auditor anew, for the record.
func TestLostAuditor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.officer().InitAuditor(ctx, auPassword))
	must(t, w.officer().InitAuditor(ctx, freshPW))
	if last := w.lastRecord(); last.Action != "role.init" || last.Detail != "au" || last.Outcome != audit.OK {
		t.Errorf("the new Auditor is recorded as %+v", last)
	}
	_, err := w.AuthenticateAuditor(ctx, operator, freshPW)
	must(t, err)
}

// TestLostDeviceKey: the store opens for nobody and is not changed; the audit
// log and a backup are whole, and the backup opens on an HSM of its domain.
func TestLostDeviceKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	var backup bytes.Buffer
	must(t, w.officer().Backup(ctx, &backup))
	domain, err := w.officer().ExportDomain(ctx, freshPW)
	must(t, err)

	w.close()
	key := filepath.Join(w.dir, "device.key")
	must(t, os.Rename(key, key+".lost"))
	before := filesOf(t, w.dir)["hsm.db"]
	other, err := store.LoadOrCreateRootKey(key)
	must(t, err)
	if st, err := store.Open(w.dir, other, store.Options{}); !errors.Is(err, store.ErrRootKey) {
		t.Fatalf("the store with another root key: %v, %v", st, err)
	}
	if filesOf(t, w.dir)["hsm.db"] != before {
		t.Error("the store was changed")
	}
	log, err := audit.Open(filepath.Join(w.dir, "audit"), audit.Options{Origin: "test/1", Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	if log.Len() == 0 {
		t.Error("the audit log is empty")
	}
	must(t, log.Close())

	fresh := &world{t: t, dir: t.TempDir(), clock: &clock{now: time.Now()}, fingerprint: w.fingerprint}
	fresh.openStore()
	fresh.open()
	t.Cleanup(fresh.close)
	must(t, fresh.Initialize(ctx, operator, InitOptions{Label: "fresh", Officer: soPassword}))
	_, err = fresh.officer().Restore(ctx, bytes.NewReader(backup.Bytes()), false)
	if err == nil {
		t.Fatal("a backup was restored in another domain")
	}
	must(t, fresh.officer().ImportDomain(ctx, domain, freshPW))
	done, err := fresh.officer().Restore(ctx, bytes.NewReader(backup.Bytes()), false)
	must(t, err)
	if !slices.Equal(done.Partitions, []string{"p"}) || done.Clients != 1 {
		t.Errorf("restored %+v", done)
	}
	must(t, fresh.signs(fresh.session(object.RoleCryptoUser), id))

	// Where the key comes back, all is there.
	must(t, os.Rename(key+".lost", key))
	w.openStore()
	w.open()
	must(t, w.signs(w.session(object.RoleCryptoUser), id))
}
