package server

import (
	"context"
	"errors"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Replicator is a Session on a partition that may have replicas on other HSMs.
// The ops of a session that is none (a foreign token's) are refused with
// ErrNotSupported. docs/replication.md has the rules; to the server offers and
// packages are bytes.
type Replicator interface {
	// Replica describes the partition as a replica, peers ascending as
	// object.Peer.Compare has it; it needs no login.
	Replica(ctx context.Context, op object.OperationID) (object.Replica, error)
	// Group returns the record of the group that the partition is in, the zero
	// Group where it is in none. SetGroup puts one in its place, or the zero
	// Group for none: ErrExists where the epoch of the one before is not expect.
	Group(ctx context.Context, op object.OperationID) (object.Group, error)
	SetGroup(ctx context.Context, op object.OperationID, expect uint64, g object.Group) error
	Digest(ctx context.Context, op object.OperationID) (object.ReplicaDigest, error)
	// Changes returns at most limit states of objects and tombstones, ascending
	// by Sequence and beginning after the change after; more says that there
	// are others.
	Changes(ctx context.Context, op object.OperationID, after uint64, limit int) (states []object.ObjectState, more bool, err error)
	// OfferClone makes an offer that the partition with the serial number on
	// the HSM may answer, once and for a short time. How many there are at
	// once is bounded.
	OfferClone(ctx context.Context, op object.OperationID, from object.HSMID, serial string) ([]byte, error)
	// CloneOut answers an offer with a package of objects: those of ids, which
	// are ascending, or as many of them as fit. It returns which, ascending.
	CloneOut(ctx context.Context, op object.OperationID, offer []byte, ids []object.ID) (pkg []byte, in []object.ID, err error)
	// CloneIn takes a package in, whole or not at all, and says of each object
	// what became of it, ascending by ID.
	CloneIn(ctx context.Context, op object.OperationID, pkg []byte) ([]object.CloneResult, error)
	// SetPeer lists a partition of another HSM as one to clone with, or takes
	// it off the list.
	SetPeer(ctx context.Context, op object.OperationID, hsm object.HSMID, serial string, listed bool) error
}

// replicate is what a client asks of a partition as a replica.
func (c *conn) replicate(ctx context.Context, r *request) (answer, error) {
	op := r.head.Operation
	switch r.head.Op {
	case wire.OpReplica, wire.OpGroup, wire.OpDigest:
		return c.describe(ctx, r)
	case wire.OpSetGroup:
		var m wire.SetGroupRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			return done, s.SetGroup(ctx, op, m.Expect, m.Group)
		})
	case wire.OpChanges:
		var m wire.ChangesRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			states, more, err := s.Changes(ctx, op, m.After, int(m.Limit))
			a := &wire.ChangesAnswer{States: states, More: more}
			a.Fit()
			return a, err
		})
	case wire.OpOfferClone:
		var m wire.OfferRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			offer, err := s.OfferClone(ctx, op, m.HSM, m.Serial)
			return &wire.OfferAnswer{Offer: offer}, err
		})
	case wire.OpCloneOut:
		var m wire.CloneOutRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			pkg, in, err := s.CloneOut(ctx, op, m.Offer, m.IDs)
			c.server.metrics.clonedOut(len(in))
			return &wire.CloneOutAnswer{Package: pkg, IDs: in}, err
		})
	case wire.OpCloneIn:
		var m wire.CloneInRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			results, err := s.CloneIn(ctx, op, m.Package)
			c.server.metrics.clonedIn(results)
			return &wire.CloneInAnswer{Results: results}, err
		})
	case wire.OpSetPeer:
		var m wire.SetPeerRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		return c.asReplica(m.Session, func(s Replicator) (answer, error) {
			return done, s.SetPeer(ctx, op, m.HSM, m.Serial, m.Listed)
		})
	}
	return nil, errors.New("no act of replication") // perform names them all
}

// describe is Replica, Group and Digest.
func (c *conn) describe(ctx context.Context, r *request) (answer, error) {
	var m wire.SessionRequest
	if err := decode(&m, r.body); err != nil {
		return nil, err
	}
	op := r.head.Operation
	return c.asReplica(m.Session, func(s Replicator) (answer, error) {
		switch r.head.Op {
		case wire.OpReplica:
			replica, err := s.Replica(ctx, op)
			return &wire.ReplicaAnswer{Replica: replica}, err
		case wire.OpGroup:
			group, err := s.Group(ctx, op)
			return &wire.GroupAnswer{Group: group}, err
		}
		digest, err := s.Digest(ctx, op)
		return &wire.DigestAnswer{Digest: digest}, err
	})
}

// asReplica is with, for a session that is a Replicator.
func (c *conn) asReplica(id uint32, f func(Replicator) (answer, error)) (answer, error) {
	return c.with(id, func(s Session) (answer, error) {
		replicator, is := s.(Replicator)
		if !is {
			return nil, object.Errorf(object.ErrNotSupported, "this HSM does not replicate partitions")
		}
		return f(replicator)
	})
}
