package p11

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
)

// catalogue is what is known of the token's objects.
type catalogue struct {
	token *Token
	now   atomic.Pointer[listing]

	mu      sync.Mutex
	flight  *flight              // the listing that is being made; nil for none; guarded by mu
	numbers map[object.ID]uint64 // our handles, for this process's life; guarded by mu
}

// flight is the making of a listing, which many wait for.
type flight struct {
	began time.Time
	done  chan struct{} // closed when err is set
	err   error
}

// listing is the catalogue at one time; it does not change.
type listing struct {
	era   *era
	made  time.Time
	list  []*entry // by number
	byID  map[object.ID]*entry
	known map[uint]*entry // by handle, those that are shown and those that are not
}

// entry is one object.
type entry struct {
	id         object.ID
	number     uint64 // MGA_HANDLE
	handle     uint   // the module's
	attributes object.Template
	public     crypto.PublicKey // of keys; nil where it is not known
	always     bool             // it wants the PIN for each use (CKA_ALWAYS_AUTHENTICATE)
	read       time.Time
}

// rereadAfter is how old what was read of an object may be: labels and
// identifiers can be changed by other programs.
const rereadAfter = time.Minute

func newCatalogue(t *Token) *catalogue {
	return &catalogue{token: t, numbers: map[object.ID]uint64{}}
}

// current returns a listing of the era of now whose making began at the given
// time or later. Many that wait for one share it. It is made to its end whoever
// gives up waiting: a large token may take longer than any of them has.
func (c *catalogue) current(ctx context.Context, since time.Time) (*listing, error) {
	for {
		if l := c.now.Load(); l != nil && !l.era.isLost() && !l.made.Before(since) {
			return l, nil
		}
		f := c.join()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.err != nil && !f.began.Before(since) {
			return nil, f.err
		}
	}
}

// join returns the flight that is under way, or starts one.
func (c *catalogue) join() *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil {
		return c.flight
	}
	f := &flight{began: time.Now(), done: make(chan struct{})}
	c.flight = f
	c.token.wg.Go(func() {
		l, err := run(context.Background(), c.token, call[*listing]{
			name: "listing the objects", limit: c.token.options.GenerateLimit,
			do: func(e *era, session uint) (*listing, error) { return c.make(e, session) },
		})
		if err == nil {
			c.now.Store(l)
		} else {
			f.err = refusal("listing the token's objects", err)
		}
		c.mu.Lock()
		c.flight = nil
		c.mu.Unlock()
		close(f.done)
	})
	return f
}

// make reads the token: the handles of all objects, and the attributes of those
// that are not known, or not well enough.
func (c *catalogue) make(e *era, session uint) (*listing, error) {
	began := time.Now()
	// The whole may take long, each step may not.
	step := func() (end func()) { return c.token.watch.begin("listing the objects", c.token.options.HangLimit) }
	end := step()
	handles, err := c.token.module.Objects(session)
	end()
	if err != nil {
		return nil, err
	}
	slices.Sort(handles)
	l := &listing{era: e, made: began, byID: map[object.ID]*entry{}, known: map[uint]*entry{}}
	before := c.now.Load()
	for _, handle := range handles {
		if before != nil && before.era == e {
			if old := before.known[handle]; old != nil && began.Sub(old.read) < rereadAfter {
				l.known[handle] = old
				continue
			}
		}
		end := step()
		n, err := c.readObject(session, handle)
		end()
		switch code, _ := errors.AsType[CKR](err); {
		case code == ckrObjectHandleInvalid:
			continue // it was destroyed meanwhile
		case err != nil:
			return nil, err
		}
		l.known[handle] = n
	}
	c.link(l)
	for _, handle := range handles {
		if n := l.known[handle]; n != nil && n.id != (object.ID{}) && l.byID[n.id] == nil {
			l.byID[n.id] = n
			l.list = append(l.list, n)
		}
	}
	slices.SortFunc(l.list, func(a, b *entry) int { return cmp.Compare(a.number, b.number) })
	return l, nil
}

// readObject reads one object. One of a class that we have no word for has no
// id.
func (c *catalogue) readObject(session, handle uint) (*entry, error) {
	m := c.token.module
	n := &entry{handle: handle, read: time.Now()}
	t, err := read(m, session, handle, readAlways)
	if err != nil {
		return nil, err
	}
	more, shown := readOf[t.Class()]
	if !shown {
		return n, nil
	}
	rest, err := read(m, session, handle, more)
	if err != nil {
		return nil, err
	}
	t = object.New(object.Bool(object.AttrToken, true), object.Text(object.AttrLabel, ""), object.Bytes(object.AttrID, nil)).Merge(t).Merge(rest)
	if class := t.Class(); class == object.ClassPublicKey || class == object.ClassPrivateKey {
		keyType, _ := t.KeyType()
		of := map[object.KeyType][]object.AttributeType{object.KeyRSA: readRSA, object.KeyEC: readEC}[keyType]
		material, err := read(m, session, handle, of)
		if err != nil {
			return nil, err
		}
		if n.public, err = publicOf(t.Merge(material)); err != nil {
			c.token.log.Warn("an object's public key is not understood", "label", t.Text(object.AttrLabel), "error", err)
		}
		if n.always, err = alwaysAuthenticate(m, session, handle, t.Class()); err != nil {
			return nil, err
		}
		if curve, given := material.Get(object.AttrECParams); given {
			t = t.With(object.Bytes(object.AttrECParams, curve))
		}
	}
	n.attributes = t
	return n, nil
}

// alwaysAuthenticate reports whether a key wants the PIN for each use. A session
// that is logged in is not enough for it, and looks as if it were not.
func alwaysAuthenticate(m Module, session, handle uint, class object.Class) (bool, error) {
	if class != object.ClassPrivateKey {
		return false, nil
	}
	values, err := m.Attributes(session, handle, []uint{attrAlwaysAuthenticate})
	return err == nil && len(values[0]) == 1 && values[0][0] != 0, err
}

// link completes what was read: an EC private key seldom tells its public one,
// which is that of the public key, or the certificate, with the same CKA_ID. An
// entry of an earlier listing is complete already, unless its other half has
// come since.
func (c *catalogue) link(l *listing) {
	halves := map[string]crypto.PublicKey{} // by CKA_ID; nil where several differ
	for _, n := range l.known {
		id, _ := n.attributes.Get(object.AttrID)
		public := n.public
		if len(id) == 0 || n.attributes.Class() == object.ClassPrivateKey {
			continue
		}
		if n.attributes.Class() == object.ClassCertificate {
			der, _ := n.attributes.Get(object.AttrValue)
			if certificate, err := x509.ParseCertificate(der); err == nil {
				public = certificate.PublicKey
			}
		}
		if public == nil {
			continue
		}
		if other, twice := halves[string(id)]; twice && !same(other, public) {
			public = nil
		}
		halves[string(id)] = public
	}
	for _, handle := range slices.Sorted(maps.Keys(l.known)) {
		n := l.known[handle]
		class := n.attributes.Class()
		if class == 0 {
			continue
		}
		id, _ := n.attributes.Get(object.AttrID)
		complete := n.id != (object.ID{}) && (n.public != nil || class != object.ClassPrivateKey || halves[string(id)] == nil)
		if complete {
			continue
		}
		n = &entry{handle: n.handle, attributes: n.attributes, public: n.public, always: n.always, read: n.read}
		if n.public == nil && class == object.ClassPrivateKey && len(id) > 0 {
			n.public = ofType(halves[string(id)], n.attributes)
		}
		if n.public != nil {
			if described, err := describe(n.attributes, class, n.public); err == nil {
				n.attributes = described
			}
		}
		n.id = identity(n.attributes)
		n.number = c.number(n.id)
		n.attributes = n.attributes.With(object.Number(object.AttrHandle, n.number))
		l.known[handle] = n
	}
}

// same reports whether two public keys are one.
func same(a, b crypto.PublicKey) bool {
	k, is := a.(interface{ Equal(crypto.PublicKey) bool })
	return is && k.Equal(b)
}

// ofType returns the public key where it can be that of the private key with
// the attributes.
func ofType(public crypto.PublicKey, private object.Template) crypto.PublicKey {
	if public == nil {
		return nil
	}
	described, err := describe(nil, object.ClassPrivateKey, public)
	if err != nil {
		return nil
	}
	keyType, _ := private.KeyType()
	_, isRSA := described.Get(object.AttrModulus)
	if isRSA != (keyType == object.KeyRSA) {
		return nil
	}
	if curve, given := private.Get(object.AttrECParams); given && !isRSA && !bytes.Equal(curve, curveOf(public)) {
		return nil
	}
	return public
}

// number is our handle of an object: counted up as objects are seen.
func (c *catalogue) number(id object.ID) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, known := c.numbers[id]
	if !known {
		n = uint64(len(c.numbers)) + 1
		c.numbers[id] = n
	}
	return n
}

// object returns an object for use: its entry and the era that its handle is
// good for.
func (c *catalogue) object(ctx context.Context, id object.ID) (*entry, *era, error) {
	if l := c.now.Load(); l != nil && !l.era.isLost() {
		if n := l.byID[id]; n != nil {
			return n, l.era, nil
		}
	}
	l, err := c.current(ctx, time.Now())
	if err != nil {
		return nil, nil, err
	}
	n := l.byID[id]
	if n == nil {
		return nil, nil, object.Errorf(object.ErrKeyHandle, "the token holds no object %v", id)
	}
	return n, l.era, nil
}
