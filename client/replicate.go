package client

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// What a partition says of itself to those that replicate it, and how objects
// go from one HSM to another: the client carries an offer and a package, which
// it can neither read nor change. docs/replication.md has the rules, and
// client/ha makes a group of HSMs out of these calls.

// Replica describes the partition as a replica: its HSM's identity, its domain
// and the partitions that it clones with. It needs no login. Repeatable.
func (c *Client) Replica(ctx context.Context) (Replica, error) {
	var a wire.ReplicaAnswer
	err := c.ask(ctx, wire.OpReplica, sessionBody, &a)
	return a.Replica, err
}

// Group returns the record of the group that the partition is in; its Epoch is
// 0 where it is in none. Repeatable.
func (c *Client) Group(ctx context.Context) (GroupRecord, error) {
	var a wire.GroupAnswer
	err := c.ask(ctx, wire.OpGroup, sessionBody, &a)
	return a.Group, err
}

// SetGroup puts a record in the place of the one with the epoch expect, 0 where
// there is none; the zero GroupRecord takes it away. ErrExists where the epoch
// is another by now. As the Crypto Officer; not repeatable.
func (c *Client) SetGroup(ctx context.Context, expect uint64, g GroupRecord) error {
	return c.act(ctx, wire.OpSetGroup, func(b []byte, session uint32) []byte {
		return (&wire.SetGroupRequest{Session: session, Expect: expect, Group: g}).Append(b)
	})
}

// Digest says in few bytes what the partition holds: two partitions of one
// domain with the same Sum hold the same. Repeatable.
func (c *Client) Digest(ctx context.Context) (ReplicaDigest, error) {
	var a wire.DigestAnswer
	err := c.ask(ctx, wire.OpDigest, sessionBody, &a)
	return a.Digest, err
}

// Changes iterates over the states of the partition's objects and tombstones in
// the order of their last changes, beginning after the change after (0: all; a
// ReplicaDigest's Sequence: those since). It fetches a page at a time: what
// changes meanwhile may be seen twice, with its new state last. An error ends
// it. Repeatable.
func (c *Client) Changes(ctx context.Context, after uint64) iter.Seq2[ObjectState, error] {
	return func(yield func(ObjectState, error) bool) {
		for more := true; more; {
			var page []ObjectState
			var err error
			if page, more, err = c.ChangesPage(ctx, after, object.MaxChanges); err != nil {
				yield(ObjectState{}, err)
				return
			}
			for _, state := range page {
				after = state.Sequence
				if !yield(state, nil) {
					return
				}
			}
		}
	}
}

// ChangesPage is one page of Changes: at most limit states (1 to 1024), fewer
// where they do not fit an answer, and whether there are more after the last.
func (c *Client) ChangesPage(ctx context.Context, after uint64, limit int) ([]ObjectState, bool, error) {
	if limit < 1 || limit > object.MaxChanges {
		return nil, false, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "a page of %d changes, expected 1 to %d", limit, object.MaxChanges))
	}
	var a wire.ChangesAnswer
	err := c.ask(ctx, wire.OpChanges, func(b []byte, session uint32) []byte {
		return (&wire.ChangesRequest{Session: session, After: after, Limit: uint32(limit)}).Append(b)
	}, &a)
	if err != nil {
		return nil, false, err
	}
	if len(a.States) > limit || len(a.States) > 0 && a.States[0].Sequence <= after {
		return nil, false, stageError(StageRequest, fmt.Errorf("a page of changes that is not the one after %d", after))
	}
	return a.States, a.More, nil
}

// OfferClone has the partition make an offer to take a clone from the partition
// with the serial number on the HSM from, which must be on its list of peers.
// The offer is good once and for a minute. As the Crypto Officer; repeatable.
func (c *Client) OfferClone(ctx context.Context, from HSMID, serial string) ([]byte, error) {
	var a wire.OfferAnswer
	err := c.ask(ctx, wire.OpOfferClone, func(b []byte, session uint32) []byte {
		return (&wire.OfferRequest{Session: session, HSM: from, Serial: serial}).Append(b)
	}, &a)
	return a.Offer, err
}

// CloneOut has the partition answer an offer of another with the objects and
// tombstones ids, 1 to MaxClone. It returns the package for the other's
// CloneIn, and which are in it: all, or as many as fit. As the Crypto Officer;
// repeatable. Without a deadline in ctx it may take ten times CallTimeout, as
// CloneIn may.
func (c *Client) CloneOut(ctx context.Context, offer []byte, ids []ID) (pkg []byte, in []ID, err error) {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
	ids = slices.Compact(ids)
	if len(ids) == 0 || len(ids) > MaxClone {
		return nil, nil, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "a clone of %d objects, expected 1 to %d", len(ids), MaxClone))
	}
	if len(offer) > object.MaxOffer {
		return nil, nil, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "an offer of %d bytes, at most %d", len(offer), object.MaxOffer))
	}
	var a wire.CloneOutAnswer
	err = c.askWithin(ctx, generateFactor*c.config.CallTimeout, wire.OpCloneOut, func(b []byte, session uint32) []byte {
		return (&wire.CloneOutRequest{Session: session, Offer: offer, IDs: ids}).Append(b)
	}, &a)
	return a.Package, a.IDs, err
}

// CloneIn hands the partition the package that answers its offer. All of its
// objects are taken in at once, or none; the results say what became of each,
// ascending by ID. As the Crypto Officer; not repeatable, for an offer is good
// once.
func (c *Client) CloneIn(ctx context.Context, pkg []byte) ([]CloneResult, error) {
	if len(pkg) > object.MaxPackage {
		return nil, stageError(StageRequest, object.Errorf(ErrArgumentsBad, "a package of %d bytes, at most %d", len(pkg), object.MaxPackage))
	}
	var a wire.CloneInAnswer
	err := c.askWithin(ctx, generateFactor*c.config.CallTimeout, wire.OpCloneIn, func(b []byte, session uint32) []byte {
		return (&wire.CloneInRequest{Session: session, Package: pkg}).Append(b)
	}, &a)
	return a.Results, err
}

// SetPeer puts the partition with the serial number on hsm on the list of those
// that this one clones with, both ways, or takes it off. The HSM must be pinned
// by this one's Security Officer. As the partition's owner: its Partition
// Security Officer or its Crypto Officer. Not repeatable.
func (c *Client) SetPeer(ctx context.Context, hsm HSMID, serial string, listed bool) error {
	return c.act(ctx, wire.OpSetPeer, func(b []byte, session uint32) []byte {
		return (&wire.SetPeerRequest{Session: session, HSM: hsm, Serial: serial, Listed: listed}).Append(b)
	})
}

// ask sends a request and decodes its answer.
func (c *Client) ask(ctx context.Context, op wire.Op, fill body, a interface{ Decode([]byte) error }) error {
	return c.askWithin(ctx, c.config.CallTimeout, op, fill, a)
}

func (c *Client) askWithin(ctx context.Context, limit time.Duration, op wire.Op, fill body, a interface{ Decode([]byte) error }) error {
	body, err := c.callWithin(ctx, limit, op, fill)
	if err != nil {
		return err
	}
	if err := a.Decode(body); err != nil {
		return stageError(StageRequest, err)
	}
	return nil
}
