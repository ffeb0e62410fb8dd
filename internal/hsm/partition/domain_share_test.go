package partition

import (
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// TestDomainIsHandedOver: the HSM that joined opens the other's backups and
// clones with it, after a restart too.
func TestDomainIsHandedOver(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	a, b := m[0], m[1]
	is := func(w *world) string {
		t.Helper()
		identity, err := w.DomainIdentity()
		must(t, err)
		return identity
	}
	if is(a) != is(b) {
		t.Errorf("domains %s and %s", is(a), is(b))
	}
	backup := a.backup("p")
	must(t, b.officer().DeletePartition(t.Context(), "p"))
	_, err := b.restore(backup, false)
	must(t, err)
	b.restart()
	if is(a) != is(b) {
		t.Errorf("after a restart: domains %s and %s", is(a), is(b))
	}
}

// TestDomainIsHandedToNobodyElse: each of both sides refuses whatever is not
// the other's own message, in time and once.
func TestDomainIsHandedToNobodyElse(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b, r := newEmptyWorld(t), newEmptyWorld(t), newRogue(t)
	request := func(from, to *world) []byte {
		t.Helper()
		raw, err := from.officer().RequestDomain(ctx, to.peerName())
		must(t, err)
		return raw
	}
	_, err := b.officer().RequestDomain(ctx, "a")
	b.refused("who is asked is not pinned", err, object.ErrObjectNotFound, "no peer is called", "domain.request")
	a.pin(b)
	b.pin(a)
	must(t, a.officer().AddPeer(ctx, "rogue", r.certificate))
	must(t, b.officer().AddPeer(ctx, "rogue", r.certificate))

	share := func(what, with string, request []byte, code object.Code, reason string) {
		t.Helper()
		out, err := a.officer().ShareDomain(ctx, with, request)
		if out != nil {
			t.Errorf("%s: a domain came out", what)
		}
		a.refused(what, err, code, reason, "domain.share")
	}
	good := request(b, a)
	changed := append([]byte(nil), good...)
	changed[200] ^= 1 // in its public key
	share("changed on its way", b.peerName(), changed, object.ErrSignatureInvalid, "was not signed by HSM")
	share("of another than is named", "rogue", good, object.ErrDataInvalid, "the request is of HSM")
	share("of who is not pinned", "stranger", good, object.ErrObjectNotFound, "no peer is called")
	share("to another", "rogue", r.request(t, b.hsmID()), object.ErrDataInvalid, "the request is to HSM")
	share("no request", b.peerName(), []byte("a request"), object.ErrDataInvalid, "the request is malformed")
	forged := newRogue(t)
	forged.id = b.hsmID() // without its key
	share("in another's name", b.peerName(), forged.request(t, a.hsmID()), object.ErrSignatureInvalid, "was not signed by HSM")

	answer := func(request []byte) []byte {
		t.Helper()
		out, err := a.officer().ShareDomain(ctx, b.peerName(), request)
		must(t, err)
		return out
	}
	join := func(what, from string, share []byte, code object.Code, reason string) {
		t.Helper()
		before, err := b.DomainIdentity()
		must(t, err)
		b.refused(what, b.officer().JoinDomain(ctx, from, share), code, reason, "domain.join")
		if after, err := b.DomainIdentity(); err != nil || after != before {
			t.Errorf("%s: the domain is %s (%v), was %s", what, after, err, before)
		}
	}
	right := answer(good)
	changed = append([]byte(nil), right...)
	changed[len(changed)-90] ^= 1
	join("changed on its way", a.peerName(), changed, object.ErrSignatureInvalid, "was not signed by HSM")
	join("of another than is named", "rogue", right, object.ErrDataInvalid, "the message is of HSM")
	join("of who is not pinned", "stranger", right, object.ErrObjectNotFound, "no peer is called")
	join("no share", a.peerName(), []byte("a share"), object.ErrDataInvalid, "the share is malformed")
	// The rogue answers a request that was made to another.
	q, err := replica.DecodeRequest(good)
	must(t, err)
	rogueShare := func(edit func(*replica.Share)) []byte {
		t.Helper()
		s, err := q.Answer([16]byte{1}, make([]byte, domainSize))
		must(t, err)
		s.From = r.id
		if edit != nil {
			edit(s)
		}
		raw, err := s.Sign(r.key)
		must(t, err)
		return raw
	}
	join("an answer to another's request", "rogue", rogueShare(nil), object.ErrActionProhibited, "no request waits")
	join("to another", "rogue", rogueShare(func(s *replica.Share) { s.To = object.HSMID{1} }), object.ErrDataInvalid, "the message is to HSM")
	// And one that was made to it, with a domain that is not what it names.
	mine, err := b.officer().RequestDomain(ctx, "rogue")
	must(t, err)
	q, err = replica.DecodeRequest(mine)
	must(t, err)
	join("another domain than it names", "rogue", rogueShare(nil), object.ErrDataInvalid, "does not hold the domain that it names")

	must(t, b.officer().JoinDomain(ctx, a.peerName(), right))
	join("twice", a.peerName(), right, object.ErrActionProhibited, "no request waits")
	late := answer(request(b, a))
	b.clock.advance(requestLife)
	join("too late", a.peerName(), late, object.ErrActionProhibited, "the request expired")
	before := answer(request(b, a))
	b.restart()
	join("of before a restart", a.peerName(), before, object.ErrActionProhibited, "no request waits")
	first := answer(request(b, a))
	for range maxRequests {
		request(b, a)
	}
	join("after too many others", a.peerName(), first, object.ErrActionProhibited, "no request waits")
	last := answer(request(b, a))
	b.fill()
	join("with a partition", a.peerName(), last, object.ErrExists, "holds 1 partitions")
	_, err = b.officer().RequestDomain(ctx, a.peerName())
	b.refused("asking with a partition", err, object.ErrExists, "holds 1 partitions", "domain.request")
}
