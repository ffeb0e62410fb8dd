package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"
)

// faulty is a journal whose nth call from now fails, and all later ones with
// it, as a log on a full disk does.
type faulty struct {
	Journal
	mu   sync.Mutex
	left int // calls that succeed; guarded by mu
}

func (j *faulty) spend() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.left--; j.left < 0 {
		return errors.New("disk full")
	}
	return nil
}

func (j *faulty) Append(ev audit.Event) error {
	if err := j.spend(); err != nil {
		return err
	}
	return j.Journal.Append(ev)
}

func (j *faulty) Note(ev audit.Event) (audit.Receipt, error) {
	if err := j.spend(); err != nil {
		return audit.Receipt{}, err
	}
	return j.Journal.Note(ev)
}

func (j *faulty) AppendDurable(ctx context.Context, ev audit.Event) error {
	if err := j.spend(); err != nil {
		return err
	}
	return j.Journal.AppendDurable(ctx, ev)
}

// subjects are the objects that acts of a test are on.
type subjects struct {
	sign, secret, by, base, doomed object.ID
	wrapped                        []byte
	peer                           *rogue
}

// thePeer is pinned, and its partition "1234" listed, by every newSubjects.
var thePeer = sync.OnceValues(func() (*rogue, error) { return makeRogue() })

func newSubjects(ctx context.Context, s *Session) (subjects, error) {
	var sub subjects
	var errs []error
	generate := func(m object.Mechanism, public, private object.Template) object.ID {
		_, id, err := s.Generate(ctx, newOp(), m, public, private)
		errs = append(errs, err)
		return id
	}
	sub.sign, sub.doomed = generate(ec, p256, nil), generate(ec, p256, nil)
	sub.secret = generate(aes, nil, secretTemplate(32, object.AttrEncrypt, object.AttrExtractable))
	sub.by = generate(aes, nil, secretTemplate(32, object.AttrWrap, object.AttrUnwrap))
	sub.base = generate(object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrDerive))
	var err error
	sub.wrapped, err = s.Wrap(ctx, newOp(), sub.by, sub.secret, kwp)
	peer, perr := thePeer()
	if perr == nil {
		sub.peer, perr = peer, s.h.store.Update(func(tx *store.Tx) error {
			return errors.Join(save(tx, kindPeer, "subject", &peerRecord{Name: "subject", Certificate: peer.certificate}),
				save(tx, kindReplication, partitionKey(s.p.id), &replicationRecord{Peers: []listedPeer{{peer.id[:], "1234"}}}))
		})
	}
	return sub, errors.Join(append(errs, err, perr)...)
}

// cloneIn takes a new key from the peer.
func (sub subjects) cloneIn(ctx context.Context, s *Session) error {
	made, err := s.generate(aes, nil, secretTemplate(32))
	if err != nil {
		return err
	}
	offer, err := s.OfferClone(ctx, newOp(), sub.peer.id, "1234")
	if err != nil {
		return err
	}
	key, err := s.h.cloneKey()
	if err != nil {
		return err
	}
	pkg, err := sub.peer.answer(offer, key, nil, &replica.Item{ID: made[0].ID, History: replica.First(object.ReplicaID{1}), Attributes: made[0].Attributes, Secret: made[0].Secret})
	if err != nil {
		return err
	}
	results, err := s.CloneIn(ctx, newOp(), pkg)
	if err == nil && (len(results) != 1 || results[0].Outcome != object.CloneAdded) {
		return fmt.Errorf("it was not taken: %+v", results)
	}
	return err
}

// mutation is an act that changes the store: what it does, and how many objects
// are there afterwards more than before.
type mutation struct {
	name string
	adds int
	do   func(ctx context.Context, s *Session, sub subjects) error
}

const changedLabel = "changed"

var mutations = []mutation{
	{"generate", 2, func(ctx context.Context, s *Session, _ subjects) error {
		_, _, err := s.Generate(ctx, newOp(), ec, p256, nil)
		return err
	}},
	{"unwrap", 1, func(ctx context.Context, s *Session, sub subjects) error {
		_, err := s.Unwrap(ctx, newOp(), sub.by, kwp, sub.wrapped, ofKind(object.ClassSecretKey, object.KeyAES))
		return err
	}},
	{"derive", 1, func(ctx context.Context, s *Session, sub subjects) error {
		_, err := s.Derive(ctx, newOp(), sub.base, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256},
			ofKind(object.ClassSecretKey, object.KeyAES).Merge(secretTemplate(32)))
		return err
	}},
	{"clone in", 1, func(ctx context.Context, s *Session, sub subjects) error { return sub.cloneIn(ctx, s) }},
	{"destroy", -1, func(ctx context.Context, s *Session, sub subjects) error { return s.Destroy(ctx, newOp(), sub.doomed) }},
	{"set", 0, func(ctx context.Context, s *Session, sub subjects) error {
		return s.SetAttributes(ctx, newOp(), sub.sign, object.New(object.Text(object.AttrLabel, changedLabel)))
	}},
}

// state is what a client sees of a partition.
type state struct {
	objects int
	label   string // of subjects.sign
}

func stateOf(ctx context.Context, s *Session, sub subjects) (state, error) {
	found, _, err := s.Find(ctx, newOp(), nil, nil, 0, 1000)
	if err != nil {
		return state{}, err
	}
	attrs, err := s.Attributes(ctx, newOp(), sub.sign, nil)
	return state{len(found), attrs.Text(object.AttrLabel)}, err
}

// after is the state that a mutation makes.
func (st state) after(m mutation) state {
	if m.name == "set" {
		st.label = changedLabel
	}
	st.objects += m.adds
	return st
}

// TestJournalFailsAtEachStep: what cannot be recorded before is not done; what
// cannot be recorded after is done and whole, and its caller is told so.
func TestJournalFailsAtEachStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := w.session(object.RoleCryptoOfficer)
	sub, err := newSubjects(ctx, s)
	must(t, err)
	for _, m := range mutations {
		for step := range 3 {
			before, err := stateOf(ctx, s, sub)
			must(t, err)
			w.journal = &faulty{Journal: w.log, left: step}
			err = m.do(ctx, s, sub)
			w.journal = w.log
			want := before
			switch step {
			case 0:
				wantCode(t, err, object.ErrAuditFailed)
			case 1:
				want = before.after(m)
				wantCode(t, err, object.ErrAuditFailed)
				if err == nil || !strings.Contains(err.Error(), "was done") {
					t.Errorf("%s: the error of an act that was done says %q", m.name, err)
				}
			case 2:
				if m.name == "destroy" {
					wantCode(t, err, object.ErrObjectNotFound) // in the step before
				} else {
					want = before.after(m)
					must(t, err)
				}
			}
			got, err := stateOf(ctx, s, sub)
			must(t, err)
			if got != want {
				t.Errorf("%s, the journal failing after %d records: %+v, want %+v", m.name, step, got, want)
			}
		}
	}
	before, err := stateOf(ctx, s, sub)
	must(t, err)
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	if got, err := stateOf(ctx, s, sub); err != nil || got != before {
		t.Errorf("after a restart: %+v (%v), want %+v", got, err, before)
	}

	uses := map[string]func() ([]byte, error){
		"sign":    func() ([]byte, error) { return recorded(s).Sign(ctx, newOp(), sub.sign, ecdsa256, make([]byte, 32)) },
		"encrypt": func() ([]byte, error) { return recorded(s).Encrypt(ctx, newOp(), sub.secret, gcm, []byte("x")) },
		"wrap":    func() ([]byte, error) { return s.Wrap(ctx, newOp(), sub.by, sub.secret, kwp) },
	}
	for name, use := range uses {
		w.journal = &faulty{Journal: w.log}
		out, err := use()
		w.journal = w.log
		wantCode(t, err, object.ErrAuditFailed)
		if out != nil {
			t.Errorf("%s: there is an answer that is not recorded", name)
		}
	}
}

// diskEnv makes the test binary the child of TestStoreFailsAtEachStep: the
// directory that it works in.
const diskEnv = "PARTITION_TEST_DISK"

// TestStoreFailsAtEachStep has the disk refuse writes from a certain place of
// the file on, in a process of its own since the limit is the process's.
// Whatever part of a commit reached the disk, the change is whole or is not
// there, what was acknowledged before is, and memory shows nothing else.
func TestStoreFailsAtEachStep(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStoreFailsChild$", "-test.v")
	child.Env = append(os.Environ(), diskEnv+"="+t.TempDir())
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestStoreFailsChild") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// silent is a journal that needs no disk.
type silent struct{}

func (silent) Append(audit.Event) error                         { return nil }
func (silent) Note(audit.Event) (audit.Receipt, error)          { return audit.Receipt{}, nil }
func (silent) AppendDurable(context.Context, audit.Event) error { return nil }

// disk is an HSM with one unlocked partition, without a client and its login.
type disk struct {
	t     *testing.T
	dir   string
	store *store.Store
	hsm   *HSM
	id    object.ID
	key   store.PartitionKey
	s     *Session
}

func (d *disk) open() {
	root, err := store.LoadOrCreateRootKey(filepath.Join(d.dir, "device.key"))
	must(d.t, err)
	d.store, err = store.Open(d.dir, root, store.Options{})
	must(d.t, err)
	if d.id == (object.ID{}) {
		d.id, d.key = object.NewID(), *store.NewPartitionKey()
		must(d.t, Initialize(d.store, "lab", soPassword, mech.Policy{}, time.Now()))
		must(d.t, d.store.Update(func(tx *store.Tx) error {
			if err := tx.CreatePartition(d.id); err != nil {
				return err
			}
			return save(tx, kindPartition, partitionKey(d.id), &partitionRecord{ID: d.id, Label: "p", Serial: "1"})
		}))
	}
	d.hsm, err = Open(Options{Store: d.store, Journal: silent{}, Logger: slog.New(slog.DiscardHandler), SaveUses: time.Hour})
	must(d.t, err)
	p := d.hsm.partitions[d.id]
	key := d.key
	must(d.t, p.activate(d.hsm, &key))
	d.s = &Session{h: d.hsm, p: p, role: object.RoleCryptoOfficer}
}

func (d *disk) close() {
	d.hsm.Close() // fails where the store was made to
	must(d.t, d.store.Close())
}

func TestStoreFailsChild(t *testing.T) {
	dir := os.Getenv(diskEnv)
	if dir == "" {
		return // TestStoreFailsAtEachStep runs it
	}
	d := &disk{t: t, dir: dir}
	d.open()
	ctx := t.Context()
	refused := 0
	for _, m := range mutations {
		for at := int64(0); ; at += 16 << 10 {
			sub, err := newSubjects(ctx, d.s)
			must(t, err)
			before, err := stateOf(ctx, d.s, sub)
			must(t, err)
			info, err := os.Stat(filepath.Join(dir, store.FileName))
			must(t, err)

			limit(t, at+512) // in the middle of a page
			err = m.do(ctx, d.s, sub)
			limit(t, ^int64(0))

			name := fmt.Sprintf("%s, writes failing from %d of %d bytes on", m.name, at+512, info.Size())
			now, serr := stateOf(ctx, d.s, sub)
			must(t, serr)
			want := before.after(m)
			if err != nil {
				refused++
				want = before
			}
			if now != want {
				t.Errorf("%s: %v, and memory shows %+v, want %+v", name, err, now, want)
			}
			if _, serr := recorded(d.s).Sign(ctx, newOp(), sub.sign, ecdsa256, make([]byte, 32)); serr != nil {
				t.Errorf("%s: keys are not usable: %v", name, serr)
			}
			d.close()
			d.open()
			got, serr := stateOf(ctx, d.s, sub)
			must(t, serr)
			if got != want && (err == nil || got != before.after(m)) {
				t.Errorf("%s: %v, and after a restart there is %+v, want %+v", name, err, got, want)
			}
			d.empty()
			if at > info.Size() {
				break
			}
		}
	}
	if refused < 2*len(mutations) {
		t.Errorf("only %d changes were refused: the limit limits nothing", refused)
	}
}

// empty destroys everything, so that the file does not grow.
func (d *disk) empty() {
	for id := range d.s.p.objects {
		must(d.t, d.s.p.destroy(d.hsm, id))
	}
}

// limit has this process's writes behind a place in a file fail (EFBIG).
func limit(t *testing.T, at int64) {
	t.Helper()
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(at), Max: ^uint64(0)}))
}

// TestStoreThatIsGone: an error of the store at the very beginning is nobody's
// refusal, and changes nothing in memory.
func TestStoreThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := w.session(object.RoleCryptoOfficer)
	sub, err := newSubjects(ctx, s)
	must(t, err)
	before, err := stateOf(ctx, s, sub)
	must(t, err)
	must(t, w.store.Close())
	for _, m := range mutations {
		wantCode(t, m.do(ctx, s, sub), object.ErrGeneral)
		if now, err := stateOf(ctx, s, sub); err != nil || now != before {
			t.Errorf("%s: %+v (%v), want %+v", m.name, now, err, before)
		}
	}
	w.openStore()
	w.HSM.store = w.store
	if last := w.lastRecord(); last.Action != "object.change" || last.Outcome != object.ErrGeneral.String() {
		t.Errorf("the failure was recorded as %+v", last)
	}
}
