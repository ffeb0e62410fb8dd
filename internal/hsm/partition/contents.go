package partition

import (
	"cmp"
	"crypto/subtle"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// contents are what a partition holds in memory while it is unlocked: its key,
// and every object's attributes. The partition's mu guards it.
type contents struct {
	key     *store.PartitionKey
	objects map[object.ID]*entry
	order   []place // by handle
	// bytes is what the objects are charged together, see charge.
	bytes int
	// seed is of the hashes in order.
	seed maphash.Seed
	// states has a lock of its own; it is another one after each unlocking.
	states *states
}

// place is an entry in the order of handles, with what people search for most,
// so that a search reads one array and few objects.
type place struct {
	handle    uint64
	label, id uint64 // hashes of CKA_LABEL and CKA_ID
	class     uint32 // the low half of CKA_CLASS
	keyType   uint32 // the low half of CKA_KEY_TYPE, of a key
	*entry
}

// entry is an object of an unlocked partition. A change of the object replaces
// it; only its key comes later, when it is first used.
type entry struct {
	id     object.ID
	handle uint64
	attrs  object.Template
	traits
	charge int
	uses   *counter // nil for an object that is not counted

	parsing sync.Mutex // held while the key is read and parsed
	key     atomic.Pointer[mech.Key]
}

// newEntry makes the memory of an object; uses counts where there is something
// to count. It keeps nothing of o, whose attributes may alias a request.
func newEntry(o *object.Object, uses *usage) *entry {
	attrs := o.Attributes.With(object.Number(object.AttrHandle, o.Handle))
	size := 0
	for _, a := range attrs {
		size += len(a.Value)
	}
	values := make([]byte, 0, size)
	for i, a := range attrs {
		from := len(values)
		values = append(values, a.Value...)
		attrs[i].Value = values[from:len(values):len(values)]
	}
	e := &entry{id: o.ID, handle: o.Handle, attrs: attrs, traits: traitsOf(attrs), charge: charge(attrs)}
	if counted(attrs.Class()) {
		e.uses = uses.counter(o.ID)
	}
	return e
}

// show returns the attributes that are asked for, all where none is named; how
// often the key was used is counted beside them.
func (e *entry) show(want []object.AttributeType) object.Template {
	shown := e.attrs.Select(want)
	if e.uses != nil && (len(want) == 0 || slices.Contains(want, object.AttrUses)) {
		shown = shown.With(object.Number(object.AttrUses, e.uses.Load()))
	}
	return shown
}

// matches is Template.Matches of everything that show shows.
func (e *entry) matches(pattern object.Template) bool {
	if e.uses != nil && pattern.Has(object.AttrUses) {
		return e.show(nil).Matches(pattern)
	}
	return e.attrs.Matches(pattern)
}

// unlock begins with no objects.
func (c *contents) unlock(key *store.PartitionKey) {
	*c = contents{key: key, objects: map[object.ID]*entry{}, seed: maphash.MakeSeed(), states: newStates()}
}

// wipe forgets everything. Parsed keys become garbage: Go gives no means to
// wipe them.
func (c *contents) wipe() {
	if c.key != nil {
		clear(c.key[:])
	}
	*c = contents{}
}

// at finds a handle's place, or where it belongs.
func (c *contents) at(handle uint64) (int, bool) {
	return slices.BinarySearchFunc(c.order, handle, func(p place, handle uint64) int { return cmp.Compare(p.handle, handle) })
}

func (c *contents) hash(t object.Template, typ object.AttributeType) uint64 {
	value, _ := t.Get(typ)
	return maphash.Bytes(c.seed, value)
}

func (c *contents) place(e *entry) place {
	keyType, _ := e.attrs.KeyType()
	return place{
		handle: e.handle, label: c.hash(e.attrs, object.AttrLabel), id: c.hash(e.attrs, object.AttrID),
		class: uint32(e.attrs.Class()), keyType: uint32(keyType), entry: e,
	}
}

// insert adds an entry or replaces the one that is there: by a change, or
// because a partition that fell asleep and woke up between a change's commit
// and its showing has read the object already. What a change may change is not
// in the parsed key, so that stays.
func (c *contents) insert(e *entry) {
	p := c.place(e)
	i, there := c.at(e.handle)
	if there {
		old := c.order[i].entry
		e.key.CompareAndSwap(nil, old.key.Load())
		c.bytes -= old.charge
		c.order[i] = p
	} else {
		c.order = slices.Insert(c.order, i, p)
	}
	c.objects[e.id] = e
	c.bytes += e.charge
}

func (c *contents) remove(id object.ID) {
	e := c.objects[id]
	if e == nil {
		return
	}
	delete(c.objects, id)
	c.bytes -= e.charge
	if i, there := c.at(e.handle); there {
		c.order = slices.Delete(c.order, i, i+1)
	}
}

// find returns at most limit entries that match, by handle, from the first
// after the handle after; more says that there are others.
func (c *contents) find(pattern object.Template, after uint64, limit int) (found []*entry, more bool) {
	var from int
	if after > 0 {
		var there bool
		if from, there = c.at(after); there {
			from++
		}
	}
	want := c.place(&entry{attrs: pattern})
	byLabel, byID := pattern.Has(object.AttrLabel), pattern.Has(object.AttrID)
	byClass, byType := pattern.Has(object.AttrClass), pattern.Has(object.AttrKeyType)
	for i := from; i < len(c.order); i++ {
		p := &c.order[i]
		if byLabel && p.label != want.label || byID && p.id != want.id ||
			byClass && p.class != want.class || byType && p.keyType != want.keyType || !p.matches(pattern) {
			continue
		}
		if len(found) == limit {
			return found, true
		}
		found = append(found, p.entry)
	}
	return found, false
}

// counted reports whether uses of the class's keys are counted: of those that
// nobody outside of the HSM can use.
func counted(class object.Class) bool {
	return class == object.ClassPrivateKey || class == object.ClassSecretKey
}

// charge is how many bytes an object counts for against a partition's quota:
// its attributes, and room for its secret as the attributes tell its size.
func charge(attrs object.Template) int {
	size := 0
	for _, a := range attrs {
		size += 8 + len(a.Value)
	}
	if bits, ok := attrs.Number(object.AttrModulusBits); ok && attrs.Class() == object.ClassPrivateKey {
		return size + 5*int(bits)/8 // RFC 8017, appendix A.1.2: n, d, and five of half the size
	}
	if n, ok := attrs.Number(object.AttrValueLen); ok {
		return size + int(n)
	}
	if counted(attrs.Class()) {
		return size + 256 // an EC key in PKCS #8
	}
	return size
}

// sameKey compares two partition keys in constant time.
func sameKey(a, b *store.PartitionKey) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
