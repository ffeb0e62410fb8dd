package partition

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"
)

// refused checks that an act was refused for its own reason, and that the audit
// log says so.
func (w *world) refused(what string, err error, code object.Code, reason string, act action) {
	w.t.Helper()
	if object.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), reason) {
		w.t.Errorf("%s: got %v, want %v because %q", what, err, code, reason)
	}
	last := w.lastRecord()
	if last.Kind != audit.Denied || last.Action != string(act) || last.Outcome != code.String() || !strings.Contains(last.Detail, reason) {
		w.t.Errorf("%s: the last record is %+v", what, last)
	}
}

// TestRogueTargetGetsNothing: an HSM that has every password, and all but one of
// the things that it needs besides, is sent nothing.
func TestRogueTargetGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	_, key := w.newKey(s)
	r := newRogue(t)
	ask := func(what string, offer []byte, code object.Code, reason string) {
		t.Helper()
		pkg, included, err := s.CloneOut(ctx, newOp(), offer, []object.ID{key})
		if pkg != nil || included != nil {
			t.Errorf("%s: %d bytes of %v came out", what, len(pkg), included)
		}
		w.refused(what, err, code, reason, actCloneOut)
	}
	ask("not pinned", r.offer(w, nil), object.ErrPolicy, "is not pinned")
	must(t, w.officer().AddPeer(ctx, "rogue", r.certificate))
	ask("pinned, not listed", r.offer(w, nil), object.ErrPolicy, "is not on the list of peers")
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", true))
	edited := func(edit func(o *replica.Offer)) []byte { return r.offer(w, edit) }
	ask("another partition of it", edited(func(o *replica.Offer) { o.Target.Serial = "1235" }), object.ErrPolicy, "is not on the list of peers")
	ask("another domain", edited(func(o *replica.Offer) { o.Domain[0] ^= 1 }), object.ErrPolicy, "of domain")
	ask("to another partition", edited(func(o *replica.Offer) { o.Source.Serial = "5" }), object.ErrDataInvalid, "the offer is to partition 5")
	ask("to another HSM", edited(func(o *replica.Offer) { o.Source.HSM = object.HSMID{7} }), object.ErrDataInvalid, "the offer is to partition")
	changed := r.offer(w, nil)
	changed[len(changed)-90] ^= 1 // in its public key
	ask("changed on its way", changed, object.ErrSignatureInvalid, "was not signed by HSM rogue")
	other := newRogue(t)
	ask("signed by another", other.offer(w, func(o *replica.Offer) { o.Target.HSM = r.id }), object.ErrSignatureInvalid, "was not signed by HSM rogue")
	ask("no offer", []byte("an offer"), object.ErrDataInvalid, "the offer is malformed")
	ask("too long", make([]byte, object.MaxOffer+1), object.ErrDataInvalid, "the offer is malformed")

	// Pinned, listed, with the right numbers of the right domain: only its
	// secret is missing, and by that the keys.
	pkg, included, err := s.CloneOut(ctx, newOp(), r.offer(w, nil), []object.ID{key})
	must(t, err)
	if len(included) != 1 || included[0] != key {
		t.Errorf("%v is included", included)
	}
	p, err := replica.DecodePackage(pkg)
	must(t, err)
	inner, ok := p.Open(r.recipient)
	if !ok {
		t.Fatal("the outer seal does not open")
	}
	if _, ok := store.Unseal(&[32]byte{}, p.Bound(), inner); ok {
		t.Error("the inner seal opens with a made-up key")
	}
	if bytes.Contains(inner, key[:]) {
		t.Error("the inner seal shows what is in it")
	}
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", false))
	ask("taken off the list", r.offer(w, nil), object.ErrPolicy, "is not on the list of peers")
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", true))
	must(t, w.officer().RemovePeer(ctx, "rogue"))
	ask("no peer any more", r.offer(w, nil), object.ErrPolicy, "is not pinned")
	must(t, w.officer().AddPeer(ctx, "rogue", r.certificate))
	ask("pinned again, and not listed", r.offer(w, nil), object.ErrPolicy, "is not on the list of peers")
}

// TestRogueSourceGivesNothing: packages that do not answer an offer of the
// session, or come from elsewhere than they say, change nothing.
func TestRogueSourceGivesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	good, bad := newRogue(t), newRogue(t) // good is listed, and has the domain's secret in what follows
	domain, err := w.cloneKey()
	must(t, err)
	o := w.officer()
	must(t, o.AddPeer(ctx, "good", good.certificate))
	must(t, s.SetPeer(ctx, newOp(), good.id, "1234", true))
	offered := func() []byte {
		t.Helper()
		offer, err := s.OfferClone(ctx, newOp(), good.id, "1234")
		must(t, err)
		return offer
	}
	item := &replica.Item{ID: object.NewID(), Deleted: true, At: time.Now()}
	take := func(what string, pkg []byte, code object.Code, reason string) {
		t.Helper()
		results, err := s.CloneIn(ctx, newOp(), pkg)
		if results != nil {
			t.Errorf("%s: %+v", what, results)
		}
		w.refused(what, err, code, reason, actCloneIn)
	}
	edited := func(edit func(p *replica.Package)) []byte { return good.pack(t, offered(), domain, edit, item) }
	take("from who is not pinned", bad.pack(t, offered(), domain, func(p *replica.Package) { p.Source.HSM = bad.id }, item), object.ErrPolicy, "is not pinned")
	must(t, o.AddPeer(ctx, "bad", bad.certificate))
	take("from who is not listed", bad.pack(t, offered(), domain, func(p *replica.Package) { p.Source.HSM = bad.id }, item), object.ErrPolicy, "is not on the list of peers")
	must(t, s.SetPeer(ctx, newOp(), bad.id, "1234", true))
	take("from another than was asked", bad.pack(t, offered(), domain, func(p *replica.Package) { p.Source.HSM = bad.id }, item), object.ErrDataInvalid, "answers another offer")
	take("signed by another", bad.pack(t, offered(), domain, nil, item), object.ErrSignatureInvalid, "was not signed by HSM good")
	take("for another partition", edited(func(p *replica.Package) { p.Target.Serial = "5" }), object.ErrDataInvalid, "the package is for partition 5")
	take("for another HSM", edited(func(p *replica.Package) { p.Target.HSM = object.HSMID{7} }), object.ErrDataInvalid, "the package is for partition")
	take("of another domain", edited(func(p *replica.Package) { p.Domain[3] ^= 1 }), object.ErrPolicy, "of domain")
	take("with another number", edited(func(p *replica.Package) { p.Nonce[3] ^= 1 }), object.ErrActionProhibited, "no such offer")
	changed := edited(nil)
	changed[len(changed)-90] ^= 1 // in its seal
	take("changed on its way", changed, object.ErrSignatureInvalid, "was not signed by HSM good")
	take("no package", []byte("a package"), object.ErrDataInvalid, "the package is malformed")
	take("too long", make([]byte, object.MaxPackage+1), object.ErrDataInvalid, "the package is malformed")
	take("without the domain's secret", good.pack(t, offered(), &[32]byte{1}, nil, item), object.ErrEncryptedData, "was not sealed with the domain's secret")
	// The seal of one offer in the package of another.
	first, err := replica.DecodePackage(edited(nil))
	must(t, err)
	take("with another's seal", edited(func(p *replica.Package) { p.Enc, p.Sealed = first.Enc, first.Sealed }), object.ErrEncryptedData, "was not sealed to the offer's key")
	offer, err := replica.DecodeOffer(offered())
	must(t, err)
	noBatch, err := good.answerWith(offer, domain, nil, []byte("no batch"))
	must(t, err)
	take("with no batch in it", noBatch, object.ErrDataInvalid, "the batch is malformed")

	stale := edited(nil)
	w.clock.advance(offerLife)
	take("too late", stale, object.ErrActionProhibited, "the offer expired")
	others := w.session(object.RoleCryptoOfficer)
	theirs, err := others.OfferClone(ctx, newOp(), good.id, "1234")
	must(t, err)
	pkg := good.pack(t, theirs, domain, nil, item)
	take("of another session", pkg, object.ErrActionProhibited, "by another session")
	if _, err := others.CloneIn(ctx, newOp(), pkg); err != nil {
		t.Errorf("by its own session: %v", err)
	}
	pkg = edited(nil)
	_, err = s.CloneIn(ctx, newOp(), pkg)
	must(t, err)
	take("twice", pkg, object.ErrActionProhibited, "the offer was used")
	closed := w.session(object.RoleCryptoOfficer)
	offerOfClosed, err := closed.OfferClone(ctx, newOp(), good.id, "1234")
	must(t, err)
	closed.Close()
	take("of a session that is over", good.pack(t, offerOfClosed, domain, nil, item), object.ErrActionProhibited, "no such offer")
	pkg = edited(nil)
	s.Close()
	w.restart()
	s = w.session(object.RoleCryptoOfficer)
	take("of before a restart", pkg, object.ErrActionProhibited, "no such offer")
	for _, state := range changesOf(t, s) {
		if state.ID != item.ID || !state.Deleted {
			t.Errorf("%+v was left behind", state)
		}
	}
	s.Close()
	s = w.session(object.RoleCryptoUser)
	take2, err := s.CloneIn(ctx, newOp(), pkg)
	if take2 != nil {
		t.Error("a Crypto User takes packages in")
	}
	w.refused("by a Crypto User", err, object.ErrUserType, "needs the Crypto Officer", actCloneIn)
}

// TestOffersAreBounded: nobody fills the memory with offers, and those that are
// over make room.
func TestOffersAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	r := newRogue(t)
	must(t, w.officer().AddPeer(ctx, "peer", r.certificate))
	must(t, s.SetPeer(ctx, newOp(), r.id, "1", true))
	for round := range 6 {
		for range maxOffers {
			_, err := s.OfferClone(ctx, newOp(), r.id, "1")
			must(t, err)
		}
		_, err := s.OfferClone(ctx, newOp(), r.id, "1")
		w.refused("one too many", err, object.ErrBusy, "wait to be answered", actOfferClone)
		w.clock.advance(offerLife)
		if n := len(s.p.offers.list); n > keptOffers {
			t.Errorf("%d offers are kept after %d rounds", n, round+1)
		}
	}
	_, err := s.OfferClone(ctx, newOp(), object.HSMID{1}, "1")
	w.refused("to nobody", err, object.ErrPolicy, "is not pinned", actOfferClone)
	s.Close()
	if n := len(s.p.offers.list); n != 0 {
		t.Errorf("%d offers outlive their session", n)
	}
}

// TestPeersObjectsObeyTheRules: what a member of the domain sends is taken only
// where this partition could have made it.
func TestPeersObjectsObeyTheRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, s := t.Context(), w.session(object.RoleCryptoOfficer)
	r := newRogue(t)
	domain, err := w.cloneKey()
	must(t, err)
	must(t, w.officer().AddPeer(ctx, "peer", r.certificate))
	must(t, s.SetPeer(ctx, newOp(), r.id, "1234", true))
	send := func(items ...*replica.Item) []object.CloneResult {
		t.Helper()
		offer, err := s.OfferClone(ctx, newOp(), r.id, "1234")
		must(t, err)
		results, err := s.CloneIn(ctx, newOp(), r.pack(t, offer, domain, nil, items...))
		must(t, err)
		return results
	}
	material := func(m object.Mechanism, public, private object.Template) *replica.Item {
		t.Helper()
		made, err := s.generate(m, public, private)
		must(t, err)
		return &replica.Item{ID: made[0].ID, Handle: 1, History: replica.First(object.ReplicaID{1}), Attributes: made[0].Attributes, Secret: made[0].Secret}
	}
	pair := func() *replica.Item { return material(ec, p256, nil) }
	cases := map[string]struct {
		item *replica.Item
		edit func(it *replica.Item)
		code object.Code
	}{
		"as it was made":         {pair(), func(*replica.Item) {}, object.OK},
		"an RSA key":             {material(rsaGen, rsa2048, nil), func(*replica.Item) {}, object.OK},
		"an AES key":             {material(aes, nil, secretTemplate(32)), func(*replica.Item) {}, object.OK},
		"another key's secret":   {pair(), func(it *replica.Item) { it.Secret = pair().Secret }, object.ErrDataInvalid},
		"no key's secret":        {pair(), func(it *replica.Item) { it.Secret = []byte("secret") }, object.ErrDataInvalid},
		"a longer secret":        {material(aes, nil, secretTemplate(32)), func(it *replica.Item) { it.Secret = make([]byte, 24) }, object.ErrDataInvalid},
		"of no class":            {pair(), func(it *replica.Item) { it.Attributes = it.Attributes.Without(object.AttrClass) }, object.ErrTemplateInconsist},
		"not sensitive":          {pair(), with(object.Bool(object.AttrSensitive, false)), object.ErrTemplateInconsist},
		"with two uses":          {pair(), with(object.Bool(object.AttrUnwrap, true)), object.ErrTemplateInconsist},
		"with a handle":          {pair(), with(object.Number(object.AttrHandle, 5)), object.ErrAttributeReadOnly},
		"with uses":              {pair(), with(object.Number(object.AttrUses, 5)), object.ErrAttributeReadOnly},
		"with a certificate's":   {pair(), with(object.Bytes(object.AttrValue, []byte("x"))), object.ErrTemplateInconsist},
		"of another type":        {pair(), with(object.Number(object.AttrKeyType, uint64(object.KeyRSA))), object.ErrDataInvalid},
		"with another's modulus": {pair(), with(object.Bytes(object.AttrModulus, []byte{1})), object.ErrTemplateInconsist},
		"extractable":            {pair(), with(object.Bool(object.AttrExtractable, true)), object.ErrPolicy},
		"dates the wrong way":    {pair(), with(object.Text(object.AttrStartDate, "20300101"), object.Text(object.AttrEndDate, "20200101")), object.ErrTemplateInconsist},
		"a certificate that is none": {&replica.Item{ID: object.NewID(), Handle: 1, History: replica.First(object.ReplicaID{1}),
			Attributes: object.Defaults(object.ClassCertificate).With(object.Bytes(object.AttrValue, []byte("x")))}, func(*replica.Item) {}, object.ErrAttributeValue},
	}
	for name, c := range cases {
		c.edit(c.item)
		results := send(c.item)
		if len(results) != 1 || results[0].Code != c.code || (results[0].Outcome == object.CloneAdded) != (c.code == object.OK) || (results[0].Detail == "") != (c.code == object.OK) {
			t.Errorf("%s: %+v, want %v", name, results, c.code)
		}
		if _, err := s.Attributes(ctx, newOp(), c.item.ID, nil); (err == nil) != (c.code == object.OK) {
			t.Errorf("%s: it is there: %v", name, err)
		}
		if last := w.lastRecord(); (last.Kind == audit.Change) != (c.code == object.OK) || last.Object != c.item.ID || last.Action != string(actCloneIn) {
			t.Errorf("%s: the last record is %+v", name, last)
		}
	}
	// Another object under the ID of one that is here, with a later stamp.
	_, key := w.newKey(s)
	other := pair()
	other.ID, other.Stamp.Count = key, 99
	if results := send(other); results[0].Code != object.ErrDataInvalid || !strings.Contains(results[0].Detail, "another object is here") {
		t.Errorf("another object under an ID: %+v", results)
	}
	// One that is refused leaves the others be, and what does not fit is refused.
	small, large := pair(), pair()
	large.Attributes = large.Attributes.With(object.Bytes(object.AttrSubject, make([]byte, 60<<10)))
	s.h.maxBytes = s.p.bytes + 4<<10
	first, second := small, large
	if bytes.Compare(small.ID[:], large.ID[:]) > 0 {
		first, second = large, small
	}
	for _, r := range send(first, second) {
		if want := map[object.ID]object.Code{small.ID: object.OK, large.ID: object.ErrBusy}[r.ID]; r.Code != want {
			t.Errorf("of two, one too large: %+v, want %v", r, want)
		}
	}
	s.h.maxObjects, s.h.maxBytes = len(s.p.objects), MaxBytes
	if results := send(pair()); results[0].Code != object.ErrBusy {
		t.Errorf("one too many: %+v", results)
	}
	s.h.maxObjects = MaxObjects
	// In FIPS mode, and where the partition's keys must be larger.
	edwards := material(object.Mechanism{Type: object.MechEdwardsGen}, nil, nil)
	montgomery := material(object.Mechanism{Type: object.MechMontgomeryGen}, nil, nil)
	s.h.policy.FIPS = true
	if results := send(montgomery); results[0].Code != object.ErrKeyType {
		t.Errorf("an X25519 key in FIPS mode: %+v", results)
	}
	s.h.policy.FIPS = false
	must(t, w.setPolicy(object.PolicyMinEC, 384))
	if results := send(edwards); results[0].Code != object.ErrPolicy {
		t.Errorf("a key that is too small for the partition: %+v", results)
	}
}

func with(attributes ...object.Attribute) func(*replica.Item) {
	return func(it *replica.Item) {
		for _, a := range attributes {
			it.Attributes = it.Attributes.With(a)
		}
	}
}

func (w *world) setPolicy(id object.PolicyID, value uint64) error {
	w.t.Helper()
	po, err := w.officer().Partition("p")
	must(w.t, err)
	return po.SetPolicy(w.t.Context(), object.PolicyValue{ID: id, Value: value})
}
