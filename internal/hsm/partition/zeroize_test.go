package partition

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

var wrongPassword = []byte("not the password")

// zeroized asserts that nothing of the HSM is left, in memory or on disk, and
// that it is made again in the same process.
func (w *world) zeroized() {
	w.t.Helper()
	ctx := w.t.Context()
	if w.Initialized() || len(w.clients) > 0 || len(w.partitions) > 0 {
		w.t.Errorf("after a zeroization: initialised %v, %d clients, %d partitions", w.Initialized(), len(w.clients), len(w.partitions))
	}
	_, err := w.AuthenticateOfficer(ctx, operator, soPassword)
	wantCode(w.t, err, object.ErrNotInitialized)
	if err == nil || !strings.Contains(err.Error(), "`hsm init -label LABEL`") {
		w.t.Errorf("the refusal does not name the fix: %v", err)
	}
	_, err = w.Attach(ctx, w.fingerprint, home)
	wantCode(w.t, err, object.ErrNotInitialized)
	must(w.t, w.store.View(func(tx *store.Tx) error {
		for _, kind := range []string{kindHSM, kindPartition, kindClient} {
			for id := range tx.Records(kind) {
				w.t.Errorf("the store holds a %s record, %s", kind, id)
			}
		}
		return nil
	}))
	must(w.t, w.Initialize(ctx, operator, InitOptions{Label: "again", Officer: []byte("another so-password")}))
	wantCode(w.t, w.Initialize(ctx, operator, InitOptions{Label: "again", Officer: []byte("another so-password")}), object.ErrExists)
	o, err := w.AuthenticateOfficer(ctx, operator, []byte("another so-password"))
	must(w.t, err)
	must(w.t, o.CreatePartition(ctx, "p"))
}

func (w *world) wrongOfficer() error {
	w.t.Helper()
	o, err := w.AuthenticateOfficer(w.t.Context(), operator, wrongPassword)
	if err == nil || o != nil {
		w.t.Fatalf("a wrong Security Officer's password gave %v, %v", o, err)
	}
	return err
}

func (w *world) attemptsLeft(want int) {
	w.t.Helper()
	info, err := w.Info()
	must(w.t, err)
	if info.OfficerAttempts != want {
		w.t.Errorf("%d attempts are left, want %d", info.OfficerAttempts, want)
	}
}

// TestThirdWrongOfficerZeroizes: keys in memory go, connections end, what was
// authenticated before is refused for good, and the serial number stays.
func TestThirdWrongOfficerZeroizes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	serial := w.Serial()
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	var ended []string
	w.attemptsLeft(3)
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	w.attemptsLeft(1)
	w.officer() // a right one begins again
	w.attemptsLeft(3)
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	w.restart() // the count survives
	w.attemptsLeft(2)
	o := w.officer()
	s := w.session(object.RoleCryptoOfficer)
	key := s.p.key
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	w.OnDisconnect(func(fingerprint string) { ended = append(ended, fingerprint) })
	wantCode(t, w.wrongOfficer(), object.ErrPINIncorrect)
	err := w.wrongOfficer()
	wantCode(t, err, object.ErrPINIncorrect)
	if !strings.Contains(err.Error(), "was zeroized") {
		t.Errorf("the last wrong password is answered with %q", err)
	}
	if *key != (store.PartitionKey{}) {
		t.Error("the partition's key is still in memory")
	}
	if !slices.Equal(ended, []string{w.fingerprint}) {
		t.Errorf("connections that were ended: %v", ended)
	}
	last := w.lastRecord()
	if last.Action != "hsm.zeroize" || last.Outcome != audit.OK || last.Client != operator.Name {
		t.Errorf("the last record is %+v", last)
	}
	if w.Serial() != serial {
		t.Errorf("the serial number became %s, was %s", w.Serial(), serial)
	}
	if _, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32)); err == nil {
		t.Error("a session of before signs")
	}
	wantCode(t, o.SetForceLogin(t.Context(), true), object.ErrNotInitialized)
	w.zeroized()
	wantCode(t, o.InitAuditor(t.Context(), []byte("auditor's password")), object.ErrNotLoggedIn)
	wantCode(t, o.CreatePartition(t.Context(), "q"), object.ErrNotLoggedIn)
	w.restart()
	if info, err := w.Info(); err != nil || info.Label != "again" || info.Serial != serial {
		t.Errorf("after a restart: %+v, %v", info, err)
	}
}

// TestKilledAttemptsCount: an attempt whose check a kill swallows is a wrong
// one, and three of them zeroize when the HSM is opened, whatever the password.
func TestKilledAttemptsCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	serial := w.Serial()
	// What the disk holds between the count and the verdict of a third attempt.
	must(t, w.updateHSM(func(r *hsmRecord) { r.Attempts = officerAttempts }))
	w.restart()
	w.HSM.mu.RLock()
	got := w.serial
	w.HSM.mu.RUnlock()
	if got != serial {
		t.Errorf("the serial number became %s, was %s", got, serial)
	}
	if last := w.lastRecord(); last.Action != "hsm.zeroize" || last.Outcome != audit.OK || last.Remote != "start" {
		t.Errorf("the last record is %+v", last)
	}
	w.zeroized()
}

// TestOfficerAttemptIsCountedBeforeItIsJudged makes the check fail to judge.
func TestOfficerAttemptIsCountedBeforeItIsJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.updateHSM(func(r *hsmRecord) { r.Officer.KDF.Name = "unknown" }))
	_, err := w.AuthenticateOfficer(t.Context(), operator, soPassword)
	wantCode(t, err, object.ErrDataInvalid)
	w.attemptsLeft(2)
}

// TestZeroizeByOfficerAndConsole, who needs no password.
func TestZeroizeByOfficerAndConsole(t *testing.T) {
	t.Parallel()
	for name, zeroize := range map[string]func(*world) error{
		"officer": func(w *world) error { return w.officer().Zeroize(w.t.Context()) },
		"console": func(w *world) error { return w.HSM.Zeroize(w.t.Context(), operator) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			before := filesOf(t, w.dir)
			must(t, zeroize(w))
			wantCode(t, w.HSM.Zeroize(t.Context(), operator), object.ErrNotInitialized)
			w.zeroized()
			if after := filesOf(t, w.dir); after["device.key"] == before["device.key"] {
				t.Error("the root key is the one of before")
			}
			records := w.records()
			at := slices.IndexFunc(records, func(e audit.Event) bool { return e.Action == "hsm.zeroize" })
			if at < 0 || records[at].Outcome != intent || records[at+1].Action != "hsm.zeroize" || records[at+1].Outcome != audit.OK {
				t.Errorf("the zeroization is recorded as %+v", records[max(at, 0):])
			}
		})
	}
}

func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	list, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range list {
		if e.Type().IsRegular() {
			raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
			files[e.Name()] = string(raw)
		}
	}
	return files
}

// TestInterruptedZeroizationEndsAtTheNextStart: between its mark and the
// store's erasure.
func TestInterruptedZeroizationEndsAtTheNextStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.updateHSM(func(r *hsmRecord) { r.Zeroizing = true }))
	w.restart()
	w.zeroized()
}

// TestZeroizationThatFails: nothing of the HSM is used any more, and it may be
// tried again.
func TestZeroizationThatFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	key := s.p.key
	path := filepath.Join(w.dir, "device.key")
	must(t, os.Rename(path, path+".away"))
	must(t, os.Mkdir(path, 0o700)) // nothing to overwrite
	wantCode(t, w.HSM.Zeroize(t.Context(), operator), object.ErrDeviceError)
	if *key != (store.PartitionKey{}) {
		t.Error("the partition's key is still in memory")
	}
	_, err := w.AuthenticateOfficer(t.Context(), operator, soPassword)
	wantCode(t, err, object.ErrNotInitialized)
	if last := w.lastRecord(); last.Action != "login" {
		t.Errorf("the last record is %+v", last)
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+".away", path))
	if err := w.HSM.Zeroize(t.Context(), operator); err != nil {
		w.restart() // what had begun ends there
	}
	w.zeroized()
}

// TestWithoutAuditNothingIsZeroizedNorGuessed: an attacker who fills the disk
// gets no fourth guess.
func TestWithoutAuditNothingIsZeroizedNorGuessed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.journal = failing{}
	wantCode(t, w.HSM.Zeroize(t.Context(), operator), object.ErrAuditFailed)
	for range officerAttempts {
		if err := w.wrongOfficer(); object.CodeOf(err) == object.OK {
			t.Error("a wrong password was right")
		}
	}
	for range 3 {
		_, err := w.AuthenticateOfficer(t.Context(), operator, soPassword)
		if err == nil {
			t.Fatal("the right password was looked at when no attempt was left")
		}
	}
	if !w.Initialized() {
		t.Fatal("the HSM was zeroized without a record")
	}
	w.journal = w.log
	w.clock.advance(maxDelay)
	_, err := w.AuthenticateOfficer(t.Context(), operator, soPassword)
	if err == nil || !strings.Contains(err.Error(), "zeroized") {
		t.Errorf("the next attempt: %v", err)
	}
	w.zeroized()
}

// TestNothingIsDoneWhileThereIsNoHSM goes over what needs none to be asked.
func TestNothingIsDoneWhileThereIsNoHSM(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{}}
	w.openStore()
	w.open()
	t.Cleanup(w.close)
	ctx := t.Context()
	if info, err := w.Info(); err != nil || info.Initialized || len(info.Serial) != 13 {
		t.Errorf("an HSM that is not initialised is %+v, %v", info, err)
	}
	wantCode(t, w.Initialize(ctx, operator, InitOptions{Label: "a b", Officer: soPassword}), object.ErrArgumentsBad)
	wantCode(t, w.Initialize(ctx, operator, InitOptions{Label: "a", Officer: []byte("short")}), object.ErrPINLength)
	if w.Initialized() {
		t.Error("a refused initialisation made an HSM")
	}
	must(t, w.Act(ctx, operator, "user.add", "ops", func() error { return nil }))
	serial := w.Serial()
	w.restart()
	if w.Serial() != serial {
		t.Errorf("the serial number became %s, was %s", w.Serial(), serial)
	}
	w.zeroized() // which says that there is nothing, and makes an HSM
}

// TestEarlyInitIsRecorded: an HSM that was made without an audit log is
// recorded before anything else, once.
func TestEarlyInitIsRecorded(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{}}
	w.openStore()
	must(t, Initialize(w.store, "early", soPassword, mech.Policy{}, w.clock.Now()))
	w.open()
	t.Cleanup(w.close)
	w.restart()
	var found []audit.Event
	for _, e := range w.records() {
		if e.Action == "hsm.init" {
			found = append(found, e)
		}
	}
	if len(found) != 1 || found[0].Seq != 0 || found[0].Detail != "early" || found[0].Outcome != audit.OK {
		t.Errorf("the early initialisation is recorded as %+v", found)
	}
}

// TestZeroizeUnderLoad: with logins, uses and administration all at once,
// nothing hangs and nothing of the old HSM gets into the store of the new one.
func TestZeroizeUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	const workers = 4
	for i := range workers {
		s, o := w.session(object.RoleCryptoOfficer), w.officer()
		a := s.a
		go func() {
			defer func() { ended <- struct{}{} }()
			for ctx.Err() == nil {
				switch i {
				case 0:
					recorded(s).Sign(ctx, newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
				case 1:
					o.CreatePartition(ctx, "q")
					o.DeletePartition(ctx, "q")
				case 2:
					if other, err := a.OpenSession("p"); err == nil {
						other.Login(ctx, newOp(), object.RoleCryptoUser, cuPassword)
						other.Close()
					}
				case 3:
					s.Generate(ctx, newOp(), ec, p256, nil)
					o.Backup(ctx, io.Discard)
				}
			}
		}()
	}
	must(t, w.HSM.Zeroize(t.Context(), operator))
	must(t, w.Initialize(t.Context(), operator, InitOptions{Label: "again", Officer: soPassword}))
	cancel()
	for range workers {
		<-ended
	}
	list, err := w.Partitions()
	must(t, err)
	if len(list) > 0 || len(w.Clients()) > 0 {
		t.Errorf("the new HSM has partitions %v and clients %v", list, w.Clients())
	}
	must(t, w.store.View(func(tx *store.Tx) error {
		for _, kind := range []string{kindPartition, kindClient} {
			for id := range tx.Records(kind) {
				return errors.New("its store holds " + kind + " " + id)
			}
		}
		return nil
	}))
}
