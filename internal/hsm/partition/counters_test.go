package partition

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// uses reads a key's counter as a client does.
func (w *world) uses(s *Session, id object.ID) uint64 {
	w.t.Helper()
	attrs, err := s.Attributes(w.t.Context(), newOp(), id, []object.AttributeType{object.AttrUses})
	must(w.t, err)
	n, ok := attrs.Number(object.AttrUses)
	if !ok {
		w.t.Fatalf("object %v has no MGA_USES", id)
	}
	return n
}

// crash ends the HSM without its Close, as a kill does, and opens it again.
func (w *world) crash() {
	close(w.keeper.stop)
	<-w.keeper.stopped
	must(w.t, w.log.Close())
	must(w.t, w.store.Close())
	w.openStore()
	w.open()
}

// TestUsesAreCounted: each success, of each function, and nothing else.
func TestUsesAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	pub, sign := w.newKey(s)
	secret, by := w.secret(s, 32, object.AttrEncrypt, object.AttrDecrypt), w.secret(s, 32, object.AttrWrap, object.AttrUnwrap)
	target, mac := w.secret(s, 16, object.AttrExtractable), w.secret(s, 16, object.AttrSign, object.AttrVerify)
	_, base, err := s.Generate(ctx, newOp(), object.Mechanism{Type: object.MechGenericSecretGen}, nil, secretTemplate(32, object.AttrDerive))
	must(t, err)
	cmac := object.Mechanism{Type: object.MechAESCMAC}
	var sealed, wrapped, tag []byte
	count := map[object.ID]uint64{}
	expect := func(step string, id object.ID, more uint64, err error) {
		t.Helper()
		must(t, err)
		count[id] += more
		for id, want := range count {
			if got := w.uses(s, id); got != want {
				t.Errorf("after %s: key %v was used %d times, want %d", step, id, got, want)
			}
		}
	}
	expect("nothing", sign, 0, nil)
	expect("nothing", target, 0, nil)
	for range 3 {
		_, err = recorded(s).Sign(ctx, newOp(), sign, ecdsa256, make([]byte, 32))
		expect("signing", sign, 1, err)
	}
	sealed, err = recorded(s).Encrypt(ctx, newOp(), secret, gcm, []byte("x"))
	expect("encrypting", secret, 1, err)
	_, err = recorded(s).Decrypt(ctx, newOp(), secret, gcm, sealed)
	expect("decrypting", secret, 1, err)
	wrapped, err = s.Wrap(ctx, newOp(), by, target, kwp)
	expect("wrapping", by, 1, err)
	_, err = s.Unwrap(ctx, newOp(), by, kwp, wrapped, ofKind(object.ClassSecretKey, object.KeyAES))
	expect("unwrapping", by, 1, err)
	_, err = s.Derive(ctx, newOp(), base, object.Mechanism{Type: object.MechHKDFDerive, Hash: object.HashSHA256},
		ofKind(object.ClassSecretKey, object.KeyAES).Merge(secretTemplate(32)))
	expect("deriving", base, 1, err)
	tag, err = recorded(s).Sign(ctx, newOp(), mac, cmac, nil)
	expect("making a MAC", mac, 1, err)
	expect("checking a MAC", mac, 1, s.Verify(ctx, newOp(), mac, cmac, nil, tag))
	wantCode(t, s.Verify(ctx, newOp(), mac, cmac, []byte("other"), tag), object.ErrSignatureInvalid)
	_, err = recorded(s).Decrypt(ctx, newOp(), secret, gcm, sealed[1:])
	wantCode(t, err, object.ErrEncryptedData)
	_, err = recorded(s).Sign(ctx, newOp(), sign, ecdsa256, nil)
	wantCode(t, err, object.ErrDataLength)
	w.journal = failing{}
	_, err = recorded(s).Sign(ctx, newOp(), sign, ecdsa256, make([]byte, 32))
	wantCode(t, err, object.ErrAuditFailed)
	w.journal = w.log
	expect("what failed", sign, 0, nil)

	// A public key has none, and nobody sets one.
	attrs, err := s.Attributes(ctx, newOp(), pub, nil)
	must(t, err)
	if attrs.Has(object.AttrUses) {
		t.Error("a public key has MGA_USES")
	}
	wantCode(t, s.SetAttributes(ctx, newOp(), sign, object.New(object.Number(object.AttrUses, 0))), object.ErrAttributeReadOnly)
	_, _, err = s.Generate(ctx, newOp(), ec, p256, object.New(object.Number(object.AttrUses, 0)))
	wantCode(t, err, object.ErrAttributeReadOnly)

	// A search shows them and goes by them; a change of the object keeps them.
	must(t, s.SetAttributes(ctx, newOp(), sign, object.New(object.Text(object.AttrLabel, "renamed"))))
	found, _, err := s.Find(ctx, newOp(), object.New(object.Number(object.AttrUses, 3)), nil, 0, 10)
	must(t, err)
	if len(found) != 1 || found[0].ID != sign {
		t.Errorf("keys that were used three times: %v", found)
	}
	if n, _ := found[0].Attributes.Number(object.AttrUses); n != 3 {
		t.Errorf("a search shows %d uses, want 3", n)
	}
}

// TestCountersOutliveTheProcess by the time, the last logout and Close; a kill
// takes what was counted since.
func TestCountersOutliveTheProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	_, other := w.newKey(s)
	use := func(id object.ID, n int) {
		for range n {
			_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
			must(t, err)
		}
	}
	expect := func(when string, want uint64) {
		t.Helper()
		if got := w.uses(s, id); got != want {
			t.Errorf("%s: %d uses, want %d", when, got, want)
		}
	}
	use(id, 2)
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	expect("after a stop", 2)
	use(id, 3)
	must(t, w.saveUses())
	use(id, 1)
	w.crash()
	s = w.session(object.RoleCryptoOfficer)
	expect("after a kill", 5)
	use(id, 1)
	use(other, 1)
	s.Close() // the keeper is told to hurry
	waitFor(t, func() bool { return !w.dirty() })
	w.crash()
	s = w.session(object.RoleCryptoOfficer)
	expect("after a logout and a kill", 6)
	if got := w.uses(s, other); got != 1 {
		t.Errorf("the other key: %d uses, want 1", got)
	}

	// With a destroyed key goes its counter, from the store, too.
	must(t, s.Destroy(t.Context(), newOp(), id))
	must(t, s.Destroy(t.Context(), newOp(), other))
	must(t, w.saveUses())
	if n := w.useRecords(); n != 0 {
		t.Errorf("%d records of counters after their keys were destroyed", n)
	}
}

func (w *world) dirty() bool {
	for _, p := range w.partitions {
		p.uses.saving.Lock() // not while they are being written
		defer p.uses.saving.Unlock()
		for i := range p.uses.dirty {
			if p.uses.dirty[i].Load() {
				return true
			}
		}
	}
	return false
}

func (w *world) useRecords() int {
	n := 0
	must(w.t, w.store.View(func(tx *store.Tx) error {
		n = 0
		for _, err := range tx.Records(kindUses) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	}))
	return n
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 1000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("waited for 10 seconds")
}

// TestIdleCountersWriteNothing, and counting is no change of the partition.
func TestIdleCountersWriteNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	must(t, w.saveUses())
	state := func() (commit, sequence uint64) {
		must(t, w.store.View(func(tx *store.Tx) error {
			var err error
			sequence, err = tx.Sequence(s.p.id)
			return err
		}))
		return w.store.Commit(), sequence
	}
	commit, sequence := state()
	for range 3 {
		must(t, w.saveUses())
	}
	if now, _ := state(); now != commit {
		t.Errorf("%d commits although no key was used", now-commit)
	}
	_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)
	must(t, w.saveUses())
	must(t, w.saveUses())
	now, after := state()
	if now != commit+1 {
		t.Errorf("%d commits for one use, want 1", now-commit)
	}
	if after != sequence {
		t.Errorf("the change sequence moved from %d to %d", sequence, after)
	}
	if n := w.useRecords(); n != 1 {
		t.Errorf("%d records were written, want the one of the key's shard", n)
	}
}

// TestCountersThatCannotBeWritten are written later, and keys work meanwhile.
func TestCountersThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	p := s.p
	_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)
	must(t, w.store.Close())
	if err := p.uses.save(w.store, p.id); err == nil {
		t.Fatal("counters were written to a closed store")
	}
	if _, err = recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32)); err != nil {
		t.Errorf("a use while counters cannot be written: %v", err)
	}
	w.openStore()
	w.HSM.store = w.store
	must(t, w.saveUses())
	w.crash()
	if got := w.uses(w.session(object.RoleCryptoOfficer), id); got != 2 {
		t.Errorf("%d uses, want 2", got)
	}
}

// TestKeeperWritesFromTimeToTime, with nobody logging out.
func TestKeeperWritesFromTimeToTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)
	close(w.keeper.stop)
	<-w.keeper.stopped
	w.keeper.start(w.HSM, time.Millisecond)
	waitFor(t, func() bool { return w.useRecords() == 1 })
}

// TestDeletedPartitionLeavesNoCounters, also when the keeper comes late.
func TestDeletedPartitionLeavesNoCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(object.RoleCryptoOfficer)
	_, id := w.newKey(s)
	use := func() {
		_, err := recorded(s).Sign(t.Context(), newOp(), id, ecdsa256, make([]byte, 32))
		must(t, err)
	}
	use()
	must(t, w.saveUses())
	use()
	must(t, w.officer().DeletePartition(t.Context(), "p"))
	must(t, s.p.uses.save(w.store, s.p.id))
	if n := w.useRecords(); n != 0 {
		t.Errorf("%d records of counters are left", n)
	}
}

func TestMalformedCounters(t *testing.T) {
	t.Parallel()
	a, b, elsewhere := useCount{object.ID{1}, 1}, useCount{object.ID{1, 1}, 2}, useCount{object.ID{2}, 1}
	good := appendUses(nil, []useCount{a, b})
	if counts, err := decodeUses(1, good); err != nil || len(counts) != 2 || counts[1] != b {
		t.Fatalf("what was encoded: %v, %v", counts, err)
	}
	for name, raw := range map[string][]byte{
		"short":         good[1:],
		"out of order":  appendUses(nil, []useCount{b, a}),
		"twice":         appendUses(nil, []useCount{a, a}),
		"of zero":       appendUses(nil, []useCount{{object.ID{1}, 0}}),
		"another shard": appendUses(nil, []useCount{elsewhere}),
	} {
		if _, err := decodeUses(1, raw); !errors.Is(err, errUses) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecodeUses(f *testing.F) {
	f.Add(uint8(1), appendUses(nil, []useCount{{object.ID{1}, 1}, {object.ID{65}, 2}}))
	f.Add(uint8(0), []byte{})
	f.Fuzz(func(t *testing.T, shard uint8, in []byte) {
		counts, err := decodeUses(int(shard)%shards, in)
		if err != nil {
			return
		}
		if again := appendUses(nil, counts); !bytes.Equal(again, in) {
			t.Errorf("%x decodes to %v, which encodes to %x", in, counts, again)
		}
	})
}
