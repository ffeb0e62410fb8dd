package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// TestContentsAgreeWithAPlainList: whatever is inserted, replaced and removed,
// a search finds what going through a list finds.
func TestContentsAgreeWithAPlainList(t *testing.T) {
	t.Parallel()
	var c contents
	c.unlock(new(store.PartitionKey))
	var uses usage
	random := rand.New(rand.NewPCG(1, 2))
	type plain struct {
		handle uint64
		attrs  object.Template
	}
	list := map[object.ID]plain{}
	var ids []object.ID
	attributes := func() object.Template {
		return object.Defaults(object.ClassSecretKey).Merge(object.New(
			object.Text(object.AttrLabel, fmt.Sprint("label ", random.IntN(5))), object.Bytes(object.AttrID, []byte{byte(random.IntN(5))})))
	}
	check := func() {
		t.Helper()
		for _, pattern := range []object.Template{
			nil,
			object.New(object.Text(object.AttrLabel, "label 1")),
			object.New(object.Bytes(object.AttrID, []byte{2})),
			object.New(object.Text(object.AttrLabel, "label 1"), object.Bytes(object.AttrID, []byte{2})),
			object.New(object.Number(object.AttrClass, uint64(object.ClassSecretKey)), object.Text(object.AttrLabel, "label 3")),
			object.New(object.Text(object.AttrLabel, "no such")),
			object.New(object.Number(object.AttrHandle, 7)),
		} {
			after, limit := uint64(random.IntN(80)), 1+random.IntN(20)
			var want []uint64
			size := 0
			for _, o := range list {
				if attrs := o.attrs.With(object.Number(object.AttrHandle, o.handle)); attrs.Matches(pattern) && o.handle > after {
					want = append(want, o.handle)
				}
			}
			slices.Sort(want)
			wantMore := len(want) > limit
			want = want[:min(limit, len(want))]
			found, more := c.find(pattern, after, limit)
			var got []uint64
			for _, e := range found {
				got = append(got, e.handle)
				size += e.charge
			}
			if !slices.Equal(got, want) || more != wantMore {
				t.Fatalf("%v after %d, %d at most: %v (more: %v), want %v (%v)", pattern, after, limit, got, more, want, wantMore)
			}
		}
		bytes := 0
		for _, e := range c.objects {
			bytes += e.charge
		}
		if len(c.objects) != len(list) || len(c.order) != len(list) || c.bytes != bytes {
			t.Fatalf("%d objects, %d places, %d bytes; want %d objects of %d bytes", len(c.objects), len(c.order), c.bytes, len(list), bytes)
		}
	}
	insert := func(id object.ID, o plain) {
		list[id] = o
		c.insert(newEntry(&object.Object{ID: id, Handle: o.handle, Attributes: o.attrs}, &uses))
	}
	for _, handle := range random.Perm(60) {
		id := object.NewID()
		ids = append(ids, id)
		insert(id, plain{uint64(handle) + 1, attributes()})
	}
	check()
	for range 300 {
		id := ids[random.IntN(len(ids))]
		o, there := list[id]
		switch {
		case there && random.IntN(3) == 0:
			delete(list, id)
			c.remove(id)
		case there:
			insert(id, plain{o.handle, attributes()})
		default:
			c.remove(id) // of what is not there
		}
		check()
	}
}

// TestEntriesKeepNothingOfARequest, whose buffer is used again.
func TestEntriesKeepNothingOfARequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	label := []byte("before")
	_, id, err := s.Generate(ctx, newOp(), ec, p256, object.New(object.Attribute{Type: object.AttrLabel, Value: label}))
	must(t, err)
	check := func(want string) {
		t.Helper()
		copy(label, "xxxxxx")
		attrs, err := s.Attributes(ctx, newOp(), id, nil)
		must(t, err)
		if got := attrs.Text(object.AttrLabel); got != want {
			t.Errorf("label is %q, want %q", got, want)
		}
		found, _, err := s.Find(ctx, newOp(), object.New(object.Text(object.AttrLabel, want)), nil, 0, 10)
		must(t, err)
		if len(found) != 1 {
			t.Errorf("%d objects found by the label %q", len(found), want)
		}
	}
	check("before")
	copy(label, "after!")
	must(t, s.SetAttributes(ctx, newOp(), id, object.New(object.Attribute{Type: object.AttrLabel, Value: label})))
	check("after!")
}

// TestChangedLabelKeepsTheParsedKey: parsing an RSA key is the dear part of its
// first use.
func TestChangedLabelKeepsTheParsedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s, ctx := w.session(object.RoleCryptoOfficer), t.Context()
	_, id := w.newKey(s)
	_, err := recorded(s).Sign(ctx, newOp(), id, ecdsa256, make([]byte, 32))
	must(t, err)
	before := s.p.objects[id].key.Load()
	must(t, s.SetAttributes(ctx, newOp(), id, object.New(object.Text(object.AttrLabel, "n"))))
	if after := s.p.objects[id].key.Load(); after == nil || after != before {
		t.Error("the key is parsed again after a change of its label")
	}
}
