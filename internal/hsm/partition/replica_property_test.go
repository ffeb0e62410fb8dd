package partition

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"testing"
	"time"

	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The command line may say otherwise: -rapid.checks=1000 -rapid.seed=0, which is
// another seed each time.
func init() {
	for name, value := range map[string]string{"rapid.checks": "20", "rapid.seed": "1", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// TestReplicasConverge runs random histories on partitions of real HSMs, and
// holds what they say beside a model that knows no versions: it knows of each
// object in each partition which changes have reached it. What becomes of every
// object of every clone is foretold by that.
func TestReplicasConverge(t *testing.T) {
	t.Parallel()
	hsms := newMembers(t, 4)
	officers := make([]*Officer, len(hsms))
	for i, w := range hsms {
		officers[i] = w.officer()
	}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		h := &history{rt: rt, t: t, label: fmt.Sprintf("run%d", run)}
		for i := range rapid.IntRange(2, len(hsms)).Draw(rt, "members") {
			h.join(hsms[i], officers[i])
		}
		defer h.end()
		h.listEachOther()
		for range rapid.IntRange(15, 45).Draw(rt, "steps") {
			h.step()
		}
		h.converge()
	})
}

// history is one run.
type history struct {
	rt      *rapid.T
	t       *testing.T
	label   string // of each partition
	members []*member
	events  int
	flight  []*flight
}

// member is a partition, with what the model knows of it.
type member struct {
	*world
	officer *Officer
	s       *Session
	model
	backup []byte
	saved  model
}

// model is what a partition holds: of each object the changes that are in it,
// and its label; nil for one that is destroyed.
type model map[object.ID]*known

type known struct {
	changes map[int]bool
	label   string
}

func (m model) clone() model {
	out := model{}
	for id, k := range m {
		if out[id] = k; k != nil {
			out[id] = &known{maps.Clone(k.changes), k.label}
		}
	}
	return out
}

// flight is a package on its way.
type flight struct {
	to    *member
	s     *Session
	bytes []byte
	model // what is in it
}

func (h *history) must(err error) {
	h.rt.Helper()
	if err != nil {
		h.rt.Fatal(err)
	}
}

func (h *history) join(w *world, o *Officer) {
	ctx := h.t.Context()
	h.must(o.CreatePartition(ctx, h.label))
	h.must(o.InitCryptoOfficer(ctx, h.label, coPassword))
	h.must(o.AssignPartition(ctx, "c", h.label))
	m := &member{world: w, officer: o, model: model{}}
	h.members = append(h.members, m)
	h.login(m)
}

func (h *history) login(m *member) {
	a, err := m.Attach(h.t.Context(), m.fingerprint, home)
	h.must(err)
	m.s, err = a.OpenSession(h.label)
	h.must(err)
	h.must(m.s.Login(h.t.Context(), newOp(), object.RoleCryptoOfficer, coPassword))
}

func (h *history) listEachOther() {
	for _, a := range h.members {
		for _, b := range h.members {
			if a != b {
				h.must(a.s.SetPeer(h.t.Context(), newOp(), b.hsmID(), b.s.p.serial, true))
			}
		}
	}
}

func (h *history) end() {
	for _, m := range h.members {
		m.s.Close()
		h.must(m.officer.DeletePartition(h.t.Context(), h.label))
	}
}

func (h *history) member(name string) *member {
	return h.members[rapid.IntRange(0, len(h.members)-1).Draw(h.rt, name)]
}

// of draws an object that is there in a partition, in the order of its changes.
func (h *history) of(m *member) (object.ID, bool) {
	var there []object.ID
	for _, state := range changesOf(h.t, m.s) {
		if !state.Deleted {
			there = append(there, state.ID)
		}
	}
	if len(there) == 0 {
		return object.ID{}, false
	}
	return there[rapid.IntRange(0, len(there)-1).Draw(h.rt, "object")], true
}

func (h *history) step() {
	ctx := h.t.Context()
	m := h.member("member")
	act := rapid.SampledFrom([]string{"make", "change", "change", "change", "destroy", "clone", "clone", "clone", "clone", "send", "deliver", "deliver", "back up", "restore", "restore"}).Draw(h.rt, "act")
	if len(m.model) >= 3 && act == "make" { // few objects, and much that becomes of them
		act = "change"
	}
	switch act {
	case "make":
		_, id, err := m.s.Generate(ctx, newOp(), aes, nil, object.New(object.Number(object.AttrValueLen, 32), object.Text(object.AttrLabel, h.name())))
		h.must(err)
		m.model[id] = &known{map[int]bool{h.events: true}, h.lastName()}
	case "change":
		h.change(m)
	case "destroy":
		if id, there := h.of(m); there {
			h.must(m.s.Destroy(ctx, newOp(), id))
			m.model[id] = nil
		}
	case "clone":
		if f := h.send(m, h.member("to")); f != nil {
			h.deliver(f)
		}
	case "send": // and it may never arrive
		if f := h.send(m, h.member("to")); f != nil {
			h.flight = append(h.flight, f)
		}
	case "deliver": // late, or once more
		if len(h.flight) > 0 {
			h.deliver(h.flight[rapid.IntRange(0, len(h.flight)-1).Draw(h.rt, "package")])
		}
	case "back up":
		var b bytes.Buffer
		h.must(m.officer.Backup(ctx, &b, h.label))
		m.backup, m.saved = b.Bytes(), m.model.clone()
	case "restore":
		h.restore(m)
	}
}

func (h *history) change(m *member) {
	if id, there := h.of(m); there {
		h.must(m.s.SetAttributes(h.t.Context(), newOp(), id, object.New(object.Text(object.AttrLabel, h.name()))))
		m.model[id].changes[h.events] = true
		m.model[id].label = h.lastName()
	}
}

func (h *history) name() string     { h.events++; return h.lastName() }
func (h *history) lastName() string { return fmt.Sprintf("change %d", h.events) }

// restore puts a partition back: what the backup holds is as it was, what was
// destroyed since and is not in it stays destroyed, and all else is gone.
func (h *history) restore(m *member) {
	if m.backup == nil {
		return
	}
	_, err := m.officer.Restore(h.t.Context(), bytes.NewReader(m.backup), true)
	h.must(err)
	fresh := m.saved.clone()
	for id, k := range m.model {
		if _, there := fresh[id]; k == nil && !there {
			fresh[id] = nil
		}
	}
	m.model = fresh
	m.s.Close()
	h.login(m)
	if rapid.Bool().Draw(h.rt, "go on") {
		h.change(m)
	}
}

// send makes a package of all that a partition holds; nil where that is nothing.
func (h *history) send(from, to *member) *flight {
	if from == to {
		return nil
	}
	var ids []object.ID
	for _, state := range changesOf(h.t, from.s) {
		ids = append(ids, state.ID)
	}
	if len(ids) != len(from.model) {
		h.rt.Fatalf("%d objects and tombstones, want %d", len(ids), len(from.model))
	}
	if len(ids) == 0 {
		return nil
	}
	offer, err := to.s.OfferClone(h.t.Context(), newOp(), from.hsmID(), from.s.p.serial)
	h.must(err)
	pkg, included, err := from.s.CloneOut(h.t.Context(), newOp(), offer, ids)
	h.must(err)
	if len(included) != len(ids) {
		h.rt.Fatalf("%d of %d objects in the package", len(included), len(ids))
	}
	return &flight{to: to, s: to.s, bytes: pkg, model: from.model.clone()}
}

// deliver gives a package to its target, and compares what becomes of every
// object with what must.
func (h *history) deliver(f *flight) {
	results, err := f.to.s.CloneIn(h.t.Context(), newOp(), f.bytes)
	if f.model == nil || f.s != f.to.s {
		// It was taken before, or its session ended with a restore.
		if object.CodeOf(err) != object.ErrActionProhibited {
			h.rt.Fatalf("a package that answers no offer: %v", err)
		}
		return
	}
	h.must(err)
	if len(results) != len(f.model) {
		h.rt.Fatalf("%d results of %d objects", len(results), len(f.model))
	}
	for _, r := range results {
		want := f.to.model.take(r.ID, f.model[r.ID])
		if r.Outcome != want {
			h.rt.Fatalf("object %v: %v (%s), want %v", r.ID, r.Outcome, r.Detail, want)
		}
		if (r.Detail != "") != (r.Outcome == object.CloneMerged) {
			h.rt.Fatalf("object %v: %v says %q", r.ID, r.Outcome, r.Detail)
		}
	}
	h.labels(f.to, f.model)
	f.model = nil
}

// take says what must become of an object, and does it.
func (m model) take(id object.ID, theirs *known) object.CloneOutcome {
	mine, there := m[id]
	switch {
	case there && mine == nil && theirs == nil:
		return object.CloneUnchanged
	case theirs == nil:
		m[id] = nil
		return object.CloneDestroyed
	case there && mine == nil:
		return object.CloneDead
	case !there:
		m[id] = &known{maps.Clone(theirs.changes), theirs.label}
		return object.CloneAdded
	}
	older, newer := covered(mine.changes, theirs.changes), covered(theirs.changes, mine.changes)
	maps.Copy(mine.changes, theirs.changes)
	switch {
	case newer:
		return object.CloneUnchanged
	case older:
		mine.label = theirs.label
		return object.CloneUpdated
	}
	mine.label = "" // either
	return object.CloneMerged
}

// covered reports whether all of a is in b.
func covered(a, b map[int]bool) bool {
	for change := range a {
		if !b[change] {
			return false
		}
	}
	return true
}

// labels compares what is there with the model.
func (h *history) labels(m *member, came model) {
	found, _, err := m.s.Find(h.t.Context(), newOp(), nil, []object.AttributeType{object.AttrLabel}, 0, 1000)
	h.must(err)
	live := 0
	for _, f := range found {
		k := m.model[f.ID]
		if k == nil {
			h.rt.Fatalf("object %v is there, and was destroyed", f.ID)
		}
		label := f.Attributes.Text(object.AttrLabel)
		if k.label == "" {
			k.label = label
		}
		if k.label != label {
			h.rt.Fatalf("object %v has the label %q, want %q", f.ID, label, k.label)
		}
		live++
	}
	for _, k := range m.model {
		if k != nil {
			live--
		}
	}
	if live != 0 {
		h.rt.Fatalf("%d objects more than there must be", live)
	}
}

// converge gives everything to the first partition, and from there to all.
func (h *history) converge() {
	dead := map[object.ID]bool{}
	for _, m := range h.members {
		for id, k := range m.model {
			dead[id] = dead[id] || k == nil
		}
	}
	give := func(from, to *member) {
		if f := h.send(from, to); f != nil {
			h.deliver(f)
		}
	}
	for _, m := range h.members[1:] {
		give(m, h.members[0])
	}
	for _, m := range h.members[1:] {
		give(h.members[0], m)
	}
	first := h.members[0]
	want, digest := h.states(first), digestOf(h.t, first.s)
	for _, m := range h.members {
		if diff := cmp.Diff(want, h.states(m)); diff != "" {
			h.rt.Fatalf("states (-first +other):\n%s", diff)
		}
		if d := digestOf(h.t, m.s); d.Sum != digest.Sum || d.Objects != digest.Objects || d.Tombstones != digest.Tombstones {
			h.rt.Fatalf("digests %+v and %+v", digest, d)
		}
		for _, state := range changesOf(h.t, m.s) {
			if state.Deleted != dead[state.ID] {
				h.rt.Fatalf("object %v: destroyed is %v, want %v", state.ID, state.Deleted, dead[state.ID])
			}
		}
	}
}

// states are a partition's, but for what is its own.
func (h *history) states(m *member) map[object.ID]object.ObjectState {
	out := map[object.ID]object.ObjectState{}
	for _, state := range changesOf(h.t, m.s) {
		state.Sequence, state.At = 0, time.Time{}
		out[state.ID] = state
	}
	return out
}
