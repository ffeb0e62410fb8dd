package partition

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"slices"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"
)

// CloneIn takes in the package that answers an offer of this session, whole or
// not at all, and says what became of each object, by ascending ID. An object
// that this partition would not have made is refused by itself.
func (s *Session) CloneIn(ctx context.Context, op object.OperationID, raw []byte) ([]object.CloneResult, error) {
	event := s.event(actCloneIn, op)
	if err := permit(s.as(), actCloneIn, nil); err != nil {
		return nil, s.refuse(event, err)
	}
	pkg, o, from, err := s.acceptable(raw)
	if pkg != nil {
		event.Detail = fmt.Sprintf("from partition %s of HSM %s", printed(pkg.Source.Serial), pkg.Source.HSM)
	}
	if err != nil {
		return nil, s.refuseClone(ctx, event, err)
	}
	event.Detail = fmt.Sprintf("from partition %s of HSM %s", pkg.Source.Serial, from.Name)
	items, secrets, err := s.unpack(pkg, o)
	if err != nil {
		return nil, s.refuseClone(ctx, event, err)
	}
	defer clear(secrets)
	intends := event
	intends.Kind, intends.Outcome, intends.Detail = audit.Change, intent, fmt.Sprintf("%s: %d objects", event.Detail, len(items))
	if err := s.h.begin(ctx, intends); err != nil {
		return nil, err
	}
	results, err := s.p.takeIn(s.h, items)
	if err != nil {
		event.Kind, event.Outcome, event.Detail = audit.Change, outcome(err), join(event.Detail, detail(err))
		return nil, s.h.conclude(ctx, event, err)
	}
	if err := s.recordClone(ctx, event, recordsOf(results)); err != nil {
		return nil, object.Errorf(object.ErrAuditFailed, "it was done, and that could not be recorded; compare the partitions before doing it again: %v", err)
	}
	return results, nil
}

// acceptable says whether a package answers an offer of the session, and comes
// from whom it says. What it could read of one that does not, it returns too.
func (s *Session) acceptable(raw []byte) (*replica.Package, *offer, *peer, error) {
	pkg, err := replica.DecodePackage(raw)
	if err != nil {
		return nil, nil, nil, object.Errorf(object.ErrDataInvalid, "%v", err)
	}
	_, id, err := s.h.HSMIdentity()
	if err != nil {
		return pkg, nil, nil, err
	}
	if want := (replica.Place{HSM: id, Serial: s.p.serial}); pkg.Target != want {
		return pkg, nil, nil, object.Errorf(object.ErrDataInvalid, "the package is for partition %s of HSM %v, and this is partition %s of HSM %v", pkg.Target.Serial, pkg.Target.HSM, s.p.serial, id)
	}
	from, err := s.h.listed(s.p, pkg.Source.HSM, pkg.Source.Serial)
	if err != nil {
		return pkg, nil, nil, err
	}
	if !pkg.Verify(from.key) {
		return pkg, nil, nil, object.Errorf(object.ErrSignatureInvalid, "the package was not signed by HSM %s, or was changed on its way", from.Name)
	}
	if err := s.h.checkDomain(pkg.Domain, from.Name); err != nil {
		return pkg, nil, nil, err
	}
	o, err := s.p.offers.find(s, pkg.Way, s.h.now())
	return pkg, o, from, err
}

// unpack uses the offer up and opens the package. What it returns lies in
// secrets, which is the caller's to clear.
func (s *Session) unpack(pkg *replica.Package, o *offer) (items []replica.Item, secrets []byte, err error) {
	recipient, err := s.p.offers.take(o)
	if err != nil {
		return nil, nil, err
	}
	inner, ok := pkg.Open(recipient)
	if !ok {
		return nil, nil, object.Errorf(object.ErrEncryptedData, "the package was not sealed to the offer's key")
	}
	key, err := s.h.cloneKey()
	if err != nil {
		return nil, nil, err
	}
	defer clear(key[:])
	plaintext, ok := store.Unseal(key, pkg.Bound(), inner)
	if !ok {
		return nil, nil, object.Errorf(object.ErrEncryptedData, "the package was not sealed with the domain's secret: whoever made it is not of this domain")
	}
	if items, err = replica.DecodeBatch(plaintext); err != nil {
		clear(plaintext)
		return nil, nil, object.Errorf(object.ErrDataInvalid, "%v", err)
	}
	return items, plaintext, nil
}

// taking is one transaction that takes items in. It may begin again.
type taking struct {
	h   *HSM
	p   *partition
	mac hash.Hash // of the domain's digest key
	// refusals are what CheckWhole said of items that were not here.
	checked  map[object.ID]bool
	refusals map[object.ID]error

	// What was there, what is by now, and what was taken.
	there          contents
	objects, bytes int
	charges        map[object.ID]int // of those that were taken; 0 for destroyed ones
	results        []object.CloneResult
	written        []*replica.Item
}

// takeIn merges items into the partition, in one transaction.
func (p *partition) takeIn(h *HSM, items []replica.Item) ([]object.CloneResult, error) {
	key, err := h.digestKey()
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	t := &taking{h: h, p: p, mac: hmac.New(sha256.New, key[:])}
	t.check(items)
	// New objects keep their handles where they can: the low ones come first.
	byHandle := make([]*replica.Item, len(items))
	for i := range items {
		byHandle[i] = &items[i]
	}
	slices.SortStableFunc(byHandle, func(a, b *replica.Item) int { return cmp.Compare(a.Handle, b.Handle) })
	err = p.commit(h, func() error {
		t.there = p.contents
		return nil
	}, func(tx *store.Tx, key *store.PartitionKey) error {
		t.begin()
		for _, it := range byHandle {
			if err := t.take(tx, key, it); err != nil {
				return err
			}
		}
		return nil
	}, t.show)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t.results, func(a, b object.CloneResult) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return t.results, nil
}

// check looks at what may be new here, before anything is held up by it: it
// parses every key.
func (t *taking) check(items []replica.Item) {
	t.checked, t.refusals = map[object.ID]bool{}, map[object.ID]error{}
	for i := range items {
		it := &items[i]
		if _, err := t.p.lookup(it.ID); err != nil && !it.Deleted {
			t.whole(it)
		}
	}
}

func (t *taking) whole(it *replica.Item) error {
	if !t.checked[it.ID] {
		t.checked[it.ID] = true
		t.refusals[it.ID] = t.h.policy.CheckWhole(it.Attributes, it.Secret)
	}
	return t.refusals[it.ID]
}

// begin begins, or begins again. Nobody changes what is there meanwhile: all
// changes go through partition.commit.
func (t *taking) begin() {
	t.objects, t.bytes, t.charges = len(t.there.objects), t.there.bytes, map[object.ID]int{}
	t.results, t.written = nil, nil
}

// charge is what an object that is here by now is charged; 0 for none.
func (t *taking) charge(id object.ID) int {
	if size, taken := t.charges[id]; taken {
		return size
	}
	if e := t.there.objects[id]; e != nil {
		return e.charge
	}
	return 0
}

// take merges one item. What it returns is an error of the store; a refusal is
// a result.
func (t *taking) take(tx *store.Tx, key *store.PartitionKey, theirs *replica.Item) error {
	mine, err := tx.Item(t.p.id, key, theirs.ID)
	if errors.Is(err, store.ErrNotFound) {
		mine = nil
	} else if err != nil {
		return err
	} else {
		defer clear(mine.Secret)
	}
	m, err := t.merge(mine, theirs)
	var refusal *object.Error
	if errors.As(err, &refusal) {
		t.results = append(t.results, object.CloneResult{ID: theirs.ID, Outcome: object.CloneRefused, Code: refusal.Code, Detail: refusal.Detail})
		return nil
	} else if err != nil {
		return err
	}
	result := object.CloneResult{ID: theirs.ID, Outcome: m.Outcome}
	if m.Outcome == object.CloneMerged {
		result.Detail = conflict(mine, theirs, m.Theirs)
	}
	t.results = append(t.results, result)
	if !m.Changed {
		return nil
	}
	return t.write(tx, key, mine, theirs, &m)
}

// merge decides by the rules what becomes of an item, and refuses what the
// partition would not have made itself.
func (t *taking) merge(mine, theirs *replica.Item) (replica.Merged, error) {
	m, err := replica.Merge(t.state(mine), t.state(theirs))
	if err != nil || theirs.Deleted || m.Outcome == object.CloneDead {
		return m, err
	}
	if mine == nil {
		if err := t.whole(theirs); err != nil {
			return m, err
		}
		if err := t.p.admit(theirs.Attributes); err != nil {
			return m, err
		}
	} else if !sameObject(mine, theirs) {
		return m, object.Errorf(object.ErrDataInvalid, "another object is here under the same ID: what no change changes of it is not the same; destroy one of them")
	} else if err := theirs.Attributes.CheckWhole(); err != nil {
		return m, err
	}
	if err := checkDates(theirs.Attributes); err != nil {
		return m, err
	}
	if m.Theirs {
		return m, t.fits(theirs)
	}
	return m, nil
}

func (t *taking) state(it *replica.Item) *replica.State {
	switch {
	case it == nil:
		return nil
	case it.Deleted:
		return &replica.State{Deleted: true}
	}
	return &replica.State{History: it.History, Content: contentOf(t.mac, it)}
}

// sameObject reports whether two are one object, as far as nothing changes it.
func sameObject(a, b *replica.Item) bool {
	return slices.EqualFunc(a.Attributes.Fixed(), b.Attributes.Fixed(), func(x, y object.Attribute) bool {
		return x.Type == y.Type && string(x.Value) == string(y.Value)
	}) && subtle.ConstantTimeCompare(a.Secret, b.Secret) == 1
}

// fits counts an object that comes, and refuses what would make the partition
// larger than it may be.
func (t *taking) fits(it *replica.Item) error {
	size, before := charge(it.Attributes), t.charge(it.ID)
	if before == 0 && t.objects >= t.h.maxObjects {
		return object.Errorf(object.ErrBusy, "partition %s holds %d objects, and at most %d fit; delete some first", t.p.label, t.objects, t.h.maxObjects)
	}
	if size > before && t.bytes+size-before > t.h.maxBytes {
		return object.Errorf(object.ErrBusy, "the objects of partition %s have %d bytes, %d more were to come, and at most %d fit; delete some first", t.p.label, t.bytes, size-before, t.h.maxBytes)
	}
	if before == 0 {
		t.objects++
	}
	t.bytes += size - before
	t.charges[it.ID] = size
	return nil
}

// write writes what the rules made of an item.
func (t *taking) write(tx *store.Tx, key *store.PartitionKey, mine, theirs *replica.Item, m *replica.Merged) error {
	out := *theirs
	if !m.Theirs {
		out = *mine
	}
	if m.Deleted {
		if size := t.charge(out.ID); size > 0 {
			t.charges[out.ID] = 0
			t.objects--
			t.bytes -= size
		}
	}
	out.History = m.History
	if err := tx.PutItem(t.p.id, key, &out); err != nil {
		return err
	}
	out.Secret = nil
	t.written = append(t.written, &out)
	return nil
}

// show lets memory follow the store. It needs the partition's mu.
func (t *taking) show() {
	for _, it := range t.written {
		if it.Deleted {
			t.p.remove(it.ID)
			t.p.uses.forget(it.ID)
			continue
		}
		t.p.insert(newEntry(&object.Object{ID: it.ID, Handle: it.Handle, Attributes: it.Attributes}, &t.p.uses))
	}
}

// conflict names both versions of an object that was changed apart, and which
// of them stays.
func conflict(mine, theirs *replica.Item, took bool) string {
	stays := mine
	if took {
		stays = theirs
	}
	text := func(it *replica.Item) string {
		return fmt.Sprintf("version %d by replica %v (label %.64q)", it.Stamp.Count, it.Stamp.Replica, it.Attributes.Text(object.AttrLabel))
	}
	return fmt.Sprintf("it was changed on both sides: here %s, there %s; version %d by replica %v stays", text(mine), text(theirs), stays.Stamp.Count, stays.Stamp.Replica)
}

func recordsOf(results []object.CloneResult) []travelling {
	items := make([]travelling, len(results))
	for i, r := range results {
		items[i] = travelling{r.ID, audit.OK, join(r.Outcome.String(), r.Detail)}
		if r.Outcome == object.CloneRefused {
			items[i].outcome, items[i].detail = r.Code.String(), r.Detail
		}
	}
	return items
}
