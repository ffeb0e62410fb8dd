package partition

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// TestListingHoldsNoTransactionWhileItWaits: who lists partitions may wait for
// one that is waking up, and must not keep a transaction open meanwhile. An
// update that has to map a larger file waits for every transaction, and the
// partition's own next one waits for the update.
func TestListingHoldsNoTransactionWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.session(object.RoleNone).p
	for round := range 6 {
		p.mu.Lock() // as activate does
		begun, listed := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(listed)
			close(begun)
			_, err := w.Partitions()
			must(t, err)
		}()
		<-begun
		updated := make(chan error, 1)
		go func() {
			updated <- w.store.Update(func(tx *store.Tx) error {
				for i := range 1 << round { // twice the file, each time
					if err := tx.PutRecord("filler", string(rune('a'+round))+string(rune('0'+i)), make([]byte, 128<<10)); err != nil {
						return err
					}
				}
				return nil
			})
		}()
		select {
		case err := <-updated:
			p.mu.Unlock()
			must(t, err)
		case <-time.After(10 * time.Second):
			p.mu.Unlock()
			t.Fatal("an update waits for a listing, which waits for a partition")
		}
		<-listed
	}
}

// TestObjectIsShownOnce: a partition that went to sleep and woke up between a
// change's commit and its showing has read the object already.
func TestObjectIsShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	w.newKey(s)
	s.p.mu.Lock()
	for _, e := range s.p.objects {
		s.p.insert(&entry{id: e.id, handle: e.handle, attrs: e.attrs, traits: e.traits, charge: e.charge, uses: e.uses})
	}
	s.p.mu.Unlock()
	found, _, err := s.Find(t.Context(), newOp(), nil, nil, 0, 10)
	must(t, err)
	if len(found) != 2 {
		t.Errorf("%d objects, want the two of a pair", len(found))
	}
}

// TestKeyThatCouldNotBeReadIsReadAgain: the disk's bad moment does not make a
// key unusable until everybody has logged out.
func TestKeyThatCouldNotBeReadIsReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	e, err := s.p.lookup(id)
	must(t, err)
	key := s.p.key
	s.p.key = nil
	if _, err := s.p.parsed(w.HSM, e); err == nil {
		t.Fatal("a key was opened without the partition's key")
	}
	s.p.key = key
	if _, err := s.p.parsed(w.HSM, e); err != nil {
		t.Errorf("a later use: %v", err)
	}
}

// TestLoginThatNobodyWaitsForIsNotCounted: a client that gave up while others'
// passwords were checked has not guessed.
func TestLoginThatNobodyWaitsForIsNotCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range maxFailures + 1 {
		if err := w.session(object.RoleNone).Login(gone, newOp(), object.RoleCryptoOfficer, coPassword); !errors.Is(err, context.Canceled) {
			t.Fatalf("login of a caller that is gone: %v", err)
		}
		if _, err := w.AuthenticateOfficer(gone, operator, soPassword); !errors.Is(err, context.Canceled) {
			t.Fatalf("login of an officer that is gone: %v", err)
		}
	}
	w.session(object.RoleCryptoOfficer)
	w.officer()
}

func TestLogoutIsRecordedWithItsRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoUser)
	must(t, s.Logout(t.Context(), newOp()))
	if last := w.lastRecord(); last.Action != "logout" || last.Role != "cu" {
		t.Errorf("record of a Crypto User's logout: %+v", last)
	}
	wantCode(t, s.Logout(t.Context(), newOp()), object.ErrNotLoggedIn)
}

// TestWrapIsRecordedWithItsTarget: which key left the HSM is what an auditor
// wants to know.
func TestWrapIsRecordedWithItsTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	secret := func(flag object.AttributeType) object.ID {
		_, id, err := s.Generate(t.Context(), newOp(), aes, nil, object.New(object.Number(object.AttrValueLen, 32), object.Bool(flag, true)))
		must(t, err)
		return id
	}
	wrapping, free, bound := secret(object.AttrWrap), secret(object.AttrExtractable), secret(object.AttrEncrypt)
	for _, test := range []struct {
		target object.ID
		want   object.Code
	}{{free, object.OK}, {bound, object.ErrKeyUnextractable}} {
		_, err := s.Wrap(t.Context(), newOp(), wrapping, test.target, object.Mechanism{Type: object.MechAESKWP})
		wantCode(t, err, test.want)
		last := w.lastRecord()
		if last.Kind != audit.Use || last.Object != wrapping || !strings.Contains(last.Detail, test.target.String()) {
			t.Errorf("record of wrapping %v: %+v", test.target, last)
		}
	}
}

// TestLoginToADeletedPartition names what is gone.
func TestLoginToADeletedPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleNone)
	must(t, w.officer().DeletePartition(t.Context(), "p"))
	wantCode(t, s.Login(t.Context(), newOp(), object.RoleCryptoOfficer, coPassword), object.ErrObjectNotFound)
}

// outcomeless is a journal that records intents and no outcome.
type outcomeless struct{ Journal }

func (j outcomeless) AppendDurable(ctx context.Context, ev audit.Event) error {
	if ev.Outcome != intent {
		return errors.New("disk full")
	}
	return j.Journal.AppendDurable(ctx, ev)
}

// TestActWhoseOutcomeIsNotRecorded: the caller is told that it was done.
func TestActWhoseOutcomeIsNotRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, o := w.session(object.RoleCryptoOfficer), w.officer()
	w.journal = outcomeless{w.log}
	_, _, err := s.Generate(t.Context(), newOp(), ec, p256, nil)
	for _, err := range []error{err, o.CreatePartition(t.Context(), "q")} {
		wantCode(t, err, object.ErrAuditFailed)
		if !strings.Contains(err.Error(), "was done") {
			t.Errorf("the error of an act that was done says %q", err)
		}
	}
	found, _, err := s.Find(t.Context(), newOp(), nil, nil, 0, 10)
	must(t, err)
	if len(found) != 2 {
		t.Errorf("%d objects, want the pair that was made", len(found))
	}
}

// TestActThatNobodyWaitsFor: its caller's end is no fault of the audit log.
func TestActThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, o := w.session(object.RoleCryptoOfficer), w.officer()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Generate(gone, newOp(), ec, p256, nil)
	for _, err := range []error{err, o.CreatePartition(gone, "q")} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("an act of a caller that is gone: %v", err)
		}
	}
}

func TestNamesSurviveACommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"", "-force", "a b", "a/b", "ä", strings.Repeat("x", maxName+1)} {
		wantCode(t, w.officer().CreatePartition(t.Context(), name), object.ErrArgumentsBad)
	}
	must(t, w.officer().CreatePartition(t.Context(), "a-b.c_d@e:1"))
}

// TestAddressWithAZone: a link-local address is registered and compared without
// the interface that it was seen on.
func TestAddressWithAZone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cert, fingerprint := newCertificate(t)
	must(t, w.officer().RegisterClient(t.Context(), Registration{Name: "near", Address: "fe80::1%eth0", Certificate: cert}))
	_, err := w.Attach(t.Context(), fingerprint, netip.MustParseAddrPort("[fe80::1%eth1]:1"))
	must(t, err)
}

// TestInitializeIsDoneOnce: a second one changes nothing.
func TestInitializeIsDoneOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wantCode(t, Initialize(w.store, "other", []byte("another password"), mech.Policy{}, time.Now()), object.ErrExists)
	w.officer()
}
