package partition

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

const (
	// offerLife is how long a source has to answer an offer.
	offerLife = time.Minute
	// maxOffers bounds the offers of one partition that wait, and keptOffers
	// those that are over, which are kept to say what became of them.
	maxOffers  = 64
	keptOffers = 256
)

// offers are the offers of a partition, in memory: after a restart there are
// none.
type offers struct {
	mu   sync.Mutex
	list []*offer // oldest first
}

type offer struct {
	replica.Way
	session *Session
	// recipient is nil once the offer was answered, or its session is over.
	recipient *replica.Recipient
	expires   time.Time
}

func (o *offer) waits(now time.Time) bool { return o.recipient != nil && now.Before(o.expires) }

func (l *offers) add(o *offer, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := 0
	for _, there := range l.list {
		if there.waits(now) {
			waiting++
		} else {
			there.recipient = nil
		}
	}
	if waiting >= maxOffers {
		return object.Errorf(object.ErrBusy, "%d offers wait to be answered, and no more may; each is forgotten after %v", waiting, offerLife)
	}
	if len(l.list) >= keptOffers {
		i := slices.IndexFunc(l.list, func(there *offer) bool { return !there.waits(now) })
		l.list = slices.Delete(l.list, i, i+1)
	}
	l.list = append(l.list, o)
	return nil
}

// forget ends the offers of a session.
func (l *offers) forget(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(o *offer) bool { return o.session == s })
}

// find returns the offer that a package answers, where it may still be.
func (l *offers) find(s *Session, way replica.Way, now time.Time) (*offer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.list, func(o *offer) bool { return o.Nonce == way.Nonce })
	if i < 0 {
		return nil, object.Errorf(object.ErrActionProhibited, "no such offer is known here: it is another HSM's, or of before a restart, or its session is over; make a new offer, and clone again")
	}
	o := l.list[i]
	switch {
	case o.session != s:
		return nil, object.Errorf(object.ErrActionProhibited, "the offer was made by another session; each takes the answers to its own")
	case o.Way != way:
		return nil, object.Errorf(object.ErrDataInvalid, "the package answers another offer than the one whose number it has: that was to partition %s of HSM %v", o.Source.Serial, o.Source.HSM)
	case o.recipient == nil:
		return nil, errOfferUsed
	case !now.Before(o.expires):
		return nil, object.Errorf(object.ErrActionProhibited, "the offer expired: it was good for %v; make a new one, and clone again", offerLife)
	}
	return o, nil
}

var errOfferUsed = object.Errorf(object.ErrActionProhibited, "the offer was used: each is good for one package; make a new one, and clone again")

// take uses an offer up.
func (l *offers) take(o *offer) (*replica.Recipient, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.recipient == nil {
		return nil, errOfferUsed
	}
	r := o.recipient
	o.recipient = nil
	return r, nil
}

// refuseClone records a refusal durably and returns it.
func (s *Session) refuseClone(ctx context.Context, event audit.Event, refusal error) error {
	event.Kind, event.Outcome, event.Detail = audit.Denied, outcome(refusal), join(event.Detail, detail(refusal))
	s.h.log.Warn("clone refused", "action", event.Action, "partition", s.p.label, "client", s.client, "from", s.remote, "err", refusal)
	if err := s.h.journal.AppendDurable(context.WithoutCancel(ctx), event); err != nil {
		return unrecorded(err)
	}
	return refusal
}

// domainNumber is the domain's identity as messages hold it.
func (h *HSM) domainNumber() (n [16]byte, err error) {
	text, err := h.DomainIdentity()
	if err != nil {
		return n, err
	}
	if _, err := hex.Decode(n[:], []byte(text)); err != nil {
		return n, fmt.Errorf("reading the domain's identity: %w", err)
	}
	return n, nil
}

// OfferClone makes an offer to take objects from a partition of another HSM:
// that one alone can answer it, once, within a minute, while this session lasts.
func (s *Session) OfferClone(ctx context.Context, op object.OperationID, from object.HSMID, serial string) ([]byte, error) {
	event := s.event(actOfferClone, op)
	if err := permit(s.as(), actOfferClone, nil); err != nil {
		return nil, s.refuse(event, err)
	}
	event.Detail = fmt.Sprintf("from partition %s of HSM %v", printed(serial), from)
	if _, err := s.h.listed(s.p, from, serial); err != nil {
		return nil, s.refuseClone(ctx, event, err)
	}
	me, err := s.h.identity()
	if err != nil {
		return nil, err
	}
	o := &offer{session: s, expires: s.h.now().Add(offerLife)}
	o.Source, o.Target = replica.Place{HSM: from, Serial: serial}, replica.Place{HSM: me.id, Serial: s.p.serial}
	rand.Read(o.Nonce[:]) // never fails: the program ends instead
	if o.Domain, err = s.h.domainNumber(); err != nil {
		return nil, err
	}
	if o.recipient, err = replica.NewRecipient(); err != nil {
		return nil, err
	}
	out, err := (&replica.Offer{Way: o.Way, Public: o.recipient.Public()}).Sign(me.key)
	if err != nil {
		return nil, err
	}
	if err := s.p.offers.add(o, s.h.now()); err != nil {
		return nil, s.refuseClone(ctx, event, err)
	}
	return out, nil
}
