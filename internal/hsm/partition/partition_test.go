package partition

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

func TestSecurityOfficerHasNoSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, role := range []object.Role{object.RoleSecurityOfficer, object.RoleAuditor, object.RoleNone, 9} {
		wantCode(t, w.session(object.RoleNone).Login(t.Context(), newOp(), role, soPassword), object.ErrUserType)
	}
}

func TestKeyAttributeDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id, err := s.Generate(t.Context(), newOp(), ec, p256, object.New(object.Bool(object.AttrSign, false)))
	must(t, err)
	_, err = recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	wantCode(t, err, object.ErrKeyNotPermitted)
}

func TestUnextractableKeyIsNotWrapped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, private := w.newKey(s)
	_, wrapping, err := s.Generate(t.Context(), newOp(), aes, nil, object.New(object.Number(object.AttrValueLen, 32), object.Bool(object.AttrWrap, true)))
	must(t, err)
	for _, target := range []object.ID{private, wrapping} {
		_, err := s.Wrap(t.Context(), newOp(), wrapping, target, object.Mechanism{Type: object.MechAESKWP})
		wantCode(t, err, object.ErrKeyUnextractable)
	}
}

func TestKeysOutliveTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	w.restart()
	s := w.session(object.RoleCryptoUser)
	attrs, err := s.Attributes(t.Context(), newOp(), id, []object.AttributeType{object.AttrPublicKeyInfo, object.AttrLabel})
	must(t, err)
	spki, _ := attrs.Get(object.AttrPublicKeyInfo)
	pub, err := x509.ParsePKIXPublicKey(spki)
	must(t, err)
	digest := sha256.Sum256([]byte("hello"))
	sig, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, digest[:])
	must(t, err)
	r, ss := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if !ecdsa.Verify(pub.(*ecdsa.PublicKey), digest[:], r, ss) {
		t.Error("the signature of a key that was read back does not verify")
	}
}

func TestDestroyedIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	must(t, s.Destroy(t.Context(), newOp(), id))
	for range 2 {
		_, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
		wantCode(t, err, object.ErrObjectNotFound)
		wantCode(t, s.Destroy(t.Context(), newOp(), id), object.ErrObjectNotFound)
		w.restart()
		s = w.session(object.RoleCryptoOfficer)
	}
}

func TestPartitionIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.maxObjects = 4
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	w.newKey(s)
	_, _, err := s.Generate(t.Context(), newOp(), ec, p256, nil)
	wantCode(t, err, object.ErrBusy)
	must(t, s.Destroy(t.Context(), newOp(), id))
	_, _, err = s.Generate(t.Context(), newOp(), ec, p256, nil) // a pair needs two places
	wantCode(t, err, object.ErrBusy)
	_, _, err = s.Generate(t.Context(), newOp(), aes, nil, object.New(object.Number(object.AttrValueLen, 32)))
	must(t, err)
}

func TestFindPagesByHandle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	for range 5 {
		w.newKey(s)
	}
	private := object.New(object.Number(object.AttrClass, uint64(object.ClassPrivateKey)))
	var handles []uint64
	for after, more := uint64(0), true; more; {
		var found []object.Found
		var err error
		found, more, err = s.Find(t.Context(), newOp(), private, []object.AttributeType{object.AttrHandle}, after, 2)
		must(t, err)
		for _, f := range found {
			after, _ = f.Attributes.Number(object.AttrHandle)
			handles = append(handles, after)
		}
	}
	if len(handles) != 5 {
		t.Errorf("found %d keys in pages of 2, want 5: %v", len(handles), handles)
	}
}

func TestWrongPasswordsLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range maxFailures / 2 {
		wantCode(t, w.fail(object.RoleCryptoOfficer), object.ErrPINIncorrect)
	}
	w.restart() // the count survives
	for range maxFailures - maxFailures/2 {
		wantCode(t, w.fail(object.RoleCryptoOfficer), object.ErrPINIncorrect)
	}
	wantCode(t, w.fail(object.RoleCryptoOfficer), object.ErrPINLocked)
	w.restart()
	s := w.session(object.RoleNone)
	wantCode(t, s.Login(t.Context(), newOp(), object.RoleCryptoOfficer, coPassword), object.ErrPINLocked)
	must(t, s.Login(t.Context(), newOp(), object.RoleCryptoUser, cuPassword)) // the other role is not locked
	must(t, w.officer().UnlockRole(t.Context(), "p", object.RoleCryptoOfficer))
	w.session(object.RoleCryptoOfficer)
}

func TestRightPasswordSetsTheCountBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		for range maxFailures - 1 {
			wantCode(t, w.fail(object.RoleCryptoUser), object.ErrPINIncorrect)
		}
		w.clock.advance(maxDelay)
		w.session(object.RoleCryptoUser).Close()
	}
}

// TestAttemptIsCountedBeforeItIsJudged: what never gets to its verdict, as
// when the process is killed, was a wrong password.
func TestAttemptIsCountedBeforeItIsJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.store.Update(func(tx *store.Tx) error {
		p, err := w.find("p")
		if err != nil {
			return err
		}
		record, r, err := loadRole(tx, p.id, object.RoleCryptoOfficer)
		if err != nil {
			return err
		}
		r.Password.KDF.Name = "unknown" // so that it fails to judge
		return save(tx, kindPartition, partitionKey(p.id), record)
	}))
	wantCode(t, w.session(object.RoleNone).Login(t.Context(), newOp(), object.RoleCryptoOfficer, coPassword), object.ErrDataInvalid)
	p, err := w.Partition("p")
	must(t, err)
	if got := p.Roles[0].Failures; got != 1 {
		t.Errorf("%d attempts counted, want 1", got)
	}
}

func TestConcurrentLoginsDoNotLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var group sync.WaitGroup
	for range maxFailures + 2 {
		group.Go(func() { w.session(object.RoleCryptoUser) })
	}
	group.Wait()
}

func TestSecurityOfficerChangesPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fresh := []byte("another so-password")
	wantCode(t, w.officer().ChangePassword(t.Context(), []byte("short")), object.ErrPINLength)
	must(t, w.officer().ChangePassword(t.Context(), fresh))
	w.restart()
	_, err := w.AuthenticateOfficer(t.Context(), operator, soPassword)
	wantCode(t, err, object.ErrPINIncorrect)
	_, err = w.AuthenticateOfficer(t.Context(), operator, fresh)
	must(t, err)
}

func TestKeyIsForgottenAfterTheLastLogout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.session(object.RoleCryptoOfficer), w.session(object.RoleCryptoUser)
	_, id := w.newKey(a)
	p := a.p
	key := p.key
	must(t, a.Logout(t.Context(), newOp()))
	if !p.active() {
		t.Fatal("the partition went to sleep while a user was logged in")
	}
	_, err := recorded(a).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	wantCode(t, err, object.ErrNotLoggedIn)
	b.Close()
	if p.active() || p.key != nil || *key != [32]byte{} || p.objects != nil {
		t.Error("the partition's key or objects are in memory with nobody logged in")
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	fresh := []byte("another password")
	wantCode(t, w.ChangePassword(t.Context(), operator, "p", object.RoleCryptoOfficer, []byte("not the password"), fresh), object.ErrPINIncorrect)
	wantCode(t, w.ChangePassword(t.Context(), operator, "p", object.RoleCryptoOfficer, coPassword, []byte("short")), object.ErrPINLength)
	must(t, w.ChangePassword(t.Context(), operator, "p", object.RoleCryptoOfficer, coPassword, fresh))
	s := w.session(object.RoleNone)
	wantCode(t, s.Login(t.Context(), newOp(), object.RoleCryptoOfficer, coPassword), object.ErrPINIncorrect)
	must(t, s.Login(t.Context(), newOp(), object.RoleCryptoOfficer, fresh))
	_, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	must(t, err)
	wantCode(t, w.officer().InitCryptoOfficer(t.Context(), "p", fresh), object.ErrExists)
}

func TestAttachment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.officer()
	byName, nameFingerprint := newCertificate(t)
	must(t, o.RegisterClient(t.Context(), Registration{Name: "byname", Hostname: "Home.example", Certificate: byName}))
	lost, lostFingerprint := newCertificate(t)
	must(t, o.RegisterClient(t.Context(), Registration{Name: "lost", Hostname: "nowhere.example", Certificate: lost}))
	away := netip.MustParseAddrPort("198.51.100.1:1")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.7]:1")
	for _, test := range []struct {
		name        string
		fingerprint string
		from        netip.AddrPort
		want        object.Code
	}{
		{"registered", w.fingerprint, home, object.OK},
		{"registered, IPv4 in IPv6", w.fingerprint, mapped, object.OK},
		{"other address", w.fingerprint, away, object.ErrAddress},
		{"stranger", strings.Repeat("00", 32), home, object.ErrNotRegistered},
		{"by host name", nameFingerprint, home, object.OK},
		{"by host name, other address", nameFingerprint, away, object.ErrAddress},
		{"host name that does not resolve", lostFingerprint, home, object.ErrAddress},
	} {
		_, err := w.Attach(t.Context(), test.fingerprint, test.from)
		if got := object.CodeOf(err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if err != nil && w.lastRecord().Kind != audit.Denied {
			t.Errorf("%s: the refusal was not recorded", test.name)
		}
	}
	must(t, o.SetAddressCheck(t.Context(), false))
	w.restart()
	_, err := w.Attach(t.Context(), w.fingerprint, away)
	must(t, err)
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.officer()
	var ended []string
	w.OnDisconnect(func(fingerprint string) { ended = append(ended, fingerprint) })
	fresh, freshFingerprint := newCertificate(t)
	again := Registration{Name: "c", Address: "192.0.2.7", Certificate: fresh}
	err := o.RegisterClient(t.Context(), again)
	wantCode(t, err, object.ErrExists)
	if !strings.Contains(err.Error(), "client delete -client c") {
		t.Errorf("a duplicate's error does not name the fix: %v", err)
	}
	again.Replace = true
	must(t, o.RegisterClient(t.Context(), again))
	if len(ended) != 1 || ended[0] != w.fingerprint {
		t.Errorf("ended connections of %v, want those of %s", ended, w.fingerprint)
	}
	_, err = w.Attach(t.Context(), w.fingerprint, home)
	wantCode(t, err, object.ErrNotRegistered)
	a, err := w.Attach(t.Context(), freshFingerprint, home)
	must(t, err)
	_, err = a.OpenSession("p") // the assignment went with the old registration
	wantCode(t, err, object.ErrNotAssigned)
	must(t, o.DeleteClient(t.Context(), "c"))
	_, err = a.OpenSession("p")
	wantCode(t, err, object.ErrNotRegistered)
	w.restart()
	if list := w.Clients(); len(list) != 0 {
		t.Errorf("clients after a restart: %v", list)
	}
	for _, bad := range []Registration{
		{Name: "x", Certificate: fresh},
		{Name: "x", Address: "1.2.3.4", Hostname: "h", Certificate: fresh},
		{Name: "x", Address: "1.2.3", Certificate: fresh},
		{Name: "x", Address: "1.2.3.4", Certificate: []byte("no")},
		{Name: "x", Address: "1.2.3.4", Certificate: append(fresh, fresh...)},
		{Name: "x y", Address: "1.2.3.4", Certificate: fresh},
		{Name: strings.Repeat("x", maxName+1), Address: "1.2.3.4", Certificate: fresh},
	} {
		wantCode(t, w.officer().RegisterClient(t.Context(), bad), object.ErrArgumentsBad)
	}
}

func TestRevocationAndDeletionEndSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.officer()
	var ended []string
	w.OnDisconnect(func(fingerprint string) { ended = append(ended, fingerprint) })
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	must(t, o.RevokePartition(t.Context(), "c", "p"))
	must(t, o.AssignPartition(t.Context(), "c", "p"))
	must(t, o.DeletePartition(t.Context(), "p"))
	if len(ended) != 2 {
		t.Errorf("connections were ended %d times, want 2", len(ended))
	}
	_, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	wantCode(t, err, object.ErrObjectNotFound)
	_, _, err = s.Generate(t.Context(), newOp(), ec, p256, nil)
	wantCode(t, err, object.ErrObjectNotFound)
	w.restart()
	if list, err := w.Partitions(); err != nil || len(list) != 0 {
		t.Errorf("partitions after a restart: %v, %v", list, err)
	}
}

// failing is a journal that records nothing any more.
type failing struct{}

func (failing) Append(audit.Event) error { return errors.New("disk full") }
func (failing) Note(audit.Event) (audit.Receipt, error) {
	return audit.Receipt{}, errors.New("disk full")
}
func (failing) AppendDurable(context.Context, audit.Event) error { return errors.New("disk full") }

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	o := w.officer()
	w.journal = failing{}
	_, _, err := s.Generate(t.Context(), newOp(), ec, p256, nil)
	wantCode(t, err, object.ErrAuditFailed)
	sig, err := recorded(s).Sign(t.Context(), newOp(), id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	wantCode(t, err, object.ErrAuditFailed)
	if sig != nil {
		t.Error("a signature was answered that is not recorded")
	}
	wantCode(t, s.Destroy(t.Context(), newOp(), id), object.ErrAuditFailed)
	wantCode(t, o.CreatePartition(t.Context(), "q"), object.ErrAuditFailed)
	w.journal = w.log
	found, _, err := s.Find(t.Context(), newOp(), nil, nil, 0, 10)
	must(t, err)
	if len(found) != 2 {
		t.Errorf("%d objects, want the pair that was there", len(found))
	}
}

func TestUseIsRecordedWithItsOperation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoUser)
	_, id := w.newKey(w.session(object.RoleCryptoOfficer))
	op := newOp()
	_, err := recorded(s).Sign(t.Context(), op, id, object.Mechanism{Type: object.MechECDSA}, make([]byte, 32))
	must(t, err)
	last := w.lastRecord()
	if last.Op != op || last.Object != id || last.Kind != audit.Use || last.Client != "c" || last.Role != "cu" || last.Outcome != audit.OK {
		t.Errorf("record of a signature: %+v", last)
	}
}

func TestFIPSPolicyIsKept(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: time.Now()}}
	w.openStore()
	must(t, Initialize(w.store, "lab", soPassword, mech.Policy{FIPS: true}, w.clock.Now()))
	w.open()
	defer w.close()
	if !w.policy.FIPS {
		t.Error("FIPS mode was not kept")
	}
	var record hsmRecord
	must(t, w.store.View(func(tx *store.Tx) error { return load(tx, kindHSM, kindHSM, &record) }))
	if record.Officer.KDF.Name != mech.KDFPBKDF2 {
		t.Errorf("in FIPS mode passwords are derived by %s", record.Officer.KDF.Name)
	}
}
