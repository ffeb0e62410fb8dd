package partition

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
)

// The domain's secret goes to another HSM in three steps, each by the Security
// Officer of one of the two, who have pinned each other: the one that is to have
// it asks, the other one seals it to the asker's fresh key, the first one opens
// it. Whoever carries the two messages can read neither, and change neither.

const (
	// requestLife is how long a request waits for its answer.
	requestLife = time.Hour
	// maxRequests bounds those that wait; a new one takes the oldest's place.
	maxRequests = 8
)

// requests are those of this HSM, in memory: after a restart there are none.
type requests struct {
	mu   sync.Mutex
	list []*domainRequest // oldest first
}

type domainRequest struct {
	epoch     uint64 // of the HSM: a zeroization ends it
	to        object.HSMID
	nonce     [32]byte
	recipient *replica.Recipient
	expires   time.Time
}

// RequestDomain makes a request to a pinned HSM for its domain, which this HSM
// is to join. It must hold no partition by then (ErrExists). It is good for an
// hour, until the HSM is restarted, and for one answer.
func (o *Officer) RequestDomain(ctx context.Context, name string) (out []byte, err error) {
	h := o.h
	err = o.act(ctx, "domain.request", name, func() error {
		to, err := h.peerNamed(name)
		if err != nil {
			return err
		}
		if err := h.checkEmpty(); err != nil {
			return err
		}
		me, err := h.identity()
		if err != nil {
			return err
		}
		r := &domainRequest{epoch: o.epoch, to: to.ID, expires: h.now().Add(requestLife)}
		rand.Read(r.nonce[:]) // never fails: the program ends instead
		if r.recipient, err = replica.NewRecipient(); err != nil {
			return err
		}
		out, err = (&replica.Request{From: me.id, To: to.ID, Nonce: r.nonce, Public: r.recipient.Public()}).Sign(me.key)
		if err != nil {
			return err
		}
		h.requests.mu.Lock()
		defer h.requests.mu.Unlock()
		if len(h.requests.list) >= maxRequests {
			h.requests.list = h.requests.list[1:]
		}
		h.requests.list = append(h.requests.list, r)
		return nil
	})
	return out, err
}

// checkEmpty refuses to change the domain of an HSM that holds partitions.
func (h *HSM) checkEmpty() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.checkEmptyLocked()
}

// checkEmptyLocked needs mu.
func (h *HSM) checkEmptyLocked() error {
	if n := len(h.partitions); n > 0 {
		return object.Errorf(object.ErrExists, "the HSM holds %d partitions; only one that holds none can become another domain's", n)
	}
	return nil
}

// ShareDomain answers a pinned HSM's request with this HSM's domain secret,
// sealed to the key in the request. Whoever administers that HSM can read from
// then on every backup of the domain together with its passwords, and clone
// where partitions' owners list it.
func (o *Officer) ShareDomain(ctx context.Context, name string, request []byte) (out []byte, err error) {
	h := o.h
	err = o.act(ctx, "domain.share", name, func() error {
		with, err := h.peerNamed(name)
		if err != nil {
			return err
		}
		q, err := replica.DecodeRequest(request)
		if err != nil {
			return object.Errorf(object.ErrDataInvalid, "%v", err)
		}
		me, err := h.identity()
		if err != nil {
			return err
		}
		switch {
		case q.From != with.ID:
			return object.Errorf(object.ErrDataInvalid, "the request is of HSM %v, and %s is HSM %v", q.From, name, with.ID)
		case q.To != me.id:
			return object.Errorf(object.ErrDataInvalid, "the request is to HSM %v, and this is HSM %v", q.To, me.id)
		case !q.Verify(with.key):
			return object.Errorf(object.ErrSignatureInvalid, "the request was not signed by HSM %s, or was changed on its way", name)
		}
		secret, err := h.domain()
		if err != nil {
			return fmt.Errorf("reading the domain secret: %w", err)
		}
		defer clear(secret)
		number, err := h.domainNumber()
		if err != nil {
			return err
		}
		answer, err := q.Answer(number, secret)
		if err != nil {
			return object.Errorf(object.ErrDataInvalid, "the request's key is no key: %v", err)
		}
		out, err = answer.Sign(me.key)
		return err
	})
	return out, err
}

// JoinDomain makes this HSM one of the domain that another one shared in answer
// to its request. It must hold no partition (ErrExists). Backups of the domain
// that it had before open no more.
func (o *Officer) JoinDomain(ctx context.Context, name string, sealed []byte) error {
	h := o.h
	return o.exclusively(ctx, "domain.join", name, func() error {
		from, err := h.peerNamed(name)
		if err != nil {
			return err
		}
		share, err := replica.DecodeShare(sealed)
		if err != nil {
			return object.Errorf(object.ErrDataInvalid, "%v", err)
		}
		r, err := h.answered(o.epoch, from, share)
		if err != nil {
			return err
		}
		if err := h.checkEmptyLocked(); err != nil {
			return err
		}
		secret, ok := share.Open(r.recipient)
		defer clear(secret)
		if !ok {
			return object.Errorf(object.ErrEncryptedData, "the domain was not sealed to the request's key")
		}
		if identity, err := domainIdentity(secret); err != nil || identity != hex.EncodeToString(share.Domain[:]) {
			return object.Errorf(object.ErrDataInvalid, "the message does not hold the domain that it names")
		}
		if err := h.updateHSM(func(record *hsmRecord) { record.Domain = secret }); err != nil {
			return err
		}
		h.requests.forget(r)
		return nil
	})
}

// answered returns the request that a share answers, if its signature and its
// request are right.
func (h *HSM) answered(epoch uint64, from *peer, share *replica.Share) (*domainRequest, error) {
	_, id, err := h.identityOf()
	if err != nil {
		return nil, err
	}
	switch {
	case share.From != from.ID:
		return nil, object.Errorf(object.ErrDataInvalid, "the message is of HSM %v, and %s is HSM %v", share.From, from.Name, from.ID)
	case share.To != id:
		return nil, object.Errorf(object.ErrDataInvalid, "the message is to HSM %v, and this is HSM %v", share.To, id)
	case !share.Verify(from.key):
		return nil, object.Errorf(object.ErrSignatureInvalid, "the message was not signed by HSM %s, or was changed on its way", from.Name)
	}
	h.requests.mu.Lock()
	defer h.requests.mu.Unlock()
	for _, r := range h.requests.list {
		switch {
		case r.epoch != epoch || r.nonce != share.Nonce || r.to != from.ID:
		case !h.now().Before(r.expires):
			return nil, object.Errorf(object.ErrActionProhibited, "the request expired: it was good for %v; make another with `hsm domain request`", requestLife)
		default:
			return r, nil
		}
	}
	return nil, object.Errorf(object.ErrActionProhibited, "no request waits for this answer: it was used, is of before a restart, or %d later ones took its place; make another with `hsm domain request`", maxRequests)
}

func (q *requests) forget(gone *domainRequest) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, r := range q.list {
		if r == gone {
			q.list = append(q.list[:i:i], q.list[i+1:]...)
			return
		}
	}
}
