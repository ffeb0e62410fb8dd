package server

import (
	"context"
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// answer is a message that is ready to be encoded.
type answer interface{ Append(b []byte) []byte }

var done = &wire.Empty{}

// malformed is the error of a body that no client of ours sends.
type malformed struct{ error }

// pace is how long a request may take, and by that the pool that it runs in:
// what is slow must not hold up signatures.
type pace int

const (
	quick pace = iota // a signature, at most
	slow              // a password's derivation, a sync to disk, a search
	heavy             // seconds of computing: RSA keys are found by trying, and many keys cloned
	paces
)

var paceNames = [paces]string{"quick", "slow", "heavy"}

func (p pace) String() string { return paceNames[p] }

// A clone of a few objects is a change on disk like others, one of hundreds
// computes for long. Sizes of a request's body: about a dozen RSA keys that
// come in, and beside the offer 150 objects that go out.
const (
	smallCloneIn  = 32 << 10
	smallCloneOut = 4 << 10
)

// paceOf goes by a request's op and the size of its body.
func paceOf(op wire.Op, size int) pace {
	switch op {
	case wire.OpSign, wire.OpVerify, wire.OpEncrypt, wire.OpDecrypt, wire.OpGet, wire.OpRandom:
		return quick
	case wire.OpGenerate:
		return heavy
	case wire.OpCloneIn:
		if size > smallCloneIn {
			return heavy
		}
	case wire.OpCloneOut:
		if size > smallCloneOut {
			return heavy
		}
	}
	return slow
}

// holdsPassword reports whether a request's body is wiped after its use.
func holdsPassword(op wire.Op) bool {
	switch op {
	case wire.OpLogin, wire.OpInitPartition, wire.OpInitRole, wire.OpResetRole, wire.OpChangePassword:
		return true
	}
	return false
}

// perform decodes the request's body and calls the backend.
func (c *conn) perform(ctx context.Context, r *request) (answer, error) {
	if holdsPassword(r.head.Op) {
		defer clear(r.body)
	}
	op, body := r.head.Operation, r.body
	switch r.head.Op {
	case wire.OpListPartitions:
		return c.listPartitions(ctx, body)
	case wire.OpOpenSession:
		return c.openSession(ctx, body)
	case wire.OpCloseSession:
		var m wire.SessionRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return done, c.sessions.remove(m.Session)
	case wire.OpLogin:
		var m wire.PasswordRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.Login(ctx, op, m.Role, m.Password) })
	case wire.OpLogout:
		var m wire.SessionRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.Logout(ctx, op) })
	case wire.OpStore:
		var m wire.StoreRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			id, err := s.Store(ctx, op, m.Template)
			return &wire.IDAnswer{ID: id}, err
		})
	case wire.OpFind:
		return c.find(ctx, op, body)
	case wire.OpGet:
		var m wire.GetRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			t, err := s.Attributes(ctx, op, m.ID, m.Want)
			return &wire.GetAnswer{Template: t}, err
		})
	case wire.OpSet:
		var m wire.SetRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.SetAttributes(ctx, op, m.ID, m.Template) })
	case wire.OpDestroy:
		var m wire.DestroyRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.do(m.Session, func(s Session) error { return s.Destroy(ctx, op, m.ID) })
	case wire.OpRandom:
		var m wire.RandomRequest
		if err := decode(&m, body); err != nil {
			return nil, err
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			data, err := s.Random(ctx, op, int(m.N))
			return &wire.DataAnswer{Data: data}, err
		})
	case wire.OpGenerate, wire.OpSign, wire.OpEncrypt, wire.OpDecrypt, wire.OpWrap, wire.OpUnwrap, wire.OpVerify, wire.OpDerive:
		return c.useKey(ctx, r)
	case wire.OpAuditCheckpoint, wire.OpAuditProof:
		return c.audit(ctx, r)
	case wire.OpStatus, wire.OpInitPartition, wire.OpInitRole, wire.OpResetRole, wire.OpUnlockRole,
		wire.OpChangePassword, wire.OpSetPolicy, wire.OpDeactivate:
		return c.administer(ctx, r)
	case wire.OpReplica, wire.OpGroup, wire.OpSetGroup, wire.OpDigest, wire.OpChanges,
		wire.OpOfferClone, wire.OpCloneOut, wire.OpCloneIn, wire.OpSetPeer:
		return c.replicate(ctx, r)
	case wire.OpHello:
		return nil, malformed{errors.New("a second Hello")}
	}
	return nil, object.Errorf(object.ErrNotSupported, "%v is not supported by this HSM", r.head.Op)
}

// decode reads a body. It tells one that breaks the protocol, which ends the
// connection, from a template that is well formed but asks for what there is
// not, which is refused.
func decode(m interface{ Decode([]byte) error }, body []byte) error {
	return asMalformed(m.Decode(body))
}

func asMalformed(err error) error {
	if err == nil {
		return nil
	}
	if _, refused := errors.AsType[*object.Error](err); refused {
		return err
	}
	return malformed{err}
}

// with calls f with a session.
func (c *conn) with(id uint32, f func(Session) (answer, error)) (answer, error) {
	s, err := c.sessions.use(id)
	if err != nil {
		return nil, err
	}
	defer c.sessions.release(s)
	return f(s.Session)
}

// do is with, for what has no more to answer than that it was done.
func (c *conn) do(id uint32, f func(Session) error) (answer, error) {
	return c.with(id, func(s Session) (answer, error) { return done, f(s) })
}

func (c *conn) listPartitions(ctx context.Context, body []byte) (answer, error) {
	if err := decode(done, body); err != nil {
		return nil, err
	}
	list, err := c.client.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	if len(list) > wire.MaxPartitions {
		return nil, fmt.Errorf("%d partitions, at most %d fit an answer", len(list), wire.MaxPartitions)
	}
	return &wire.PartitionsAnswer{Partitions: list}, nil
}

func (c *conn) openSession(ctx context.Context, body []byte) (answer, error) {
	var m wire.OpenSessionRequest
	if err := decode(&m, body); err != nil {
		return nil, err
	}
	s, err := c.client.OpenSession(ctx, m.Partition)
	if err != nil {
		return nil, err
	}
	id, err := c.sessions.add(s)
	if err != nil {
		s.Close()
		return nil, err
	}
	return &wire.OpenSessionAnswer{Session: id, Partition: s.Info()}, nil
}

func (c *conn) find(ctx context.Context, op object.OperationID, body []byte) (answer, error) {
	var m wire.FindRequest
	if err := decode(&m, body); err != nil {
		return nil, err
	}
	return c.with(m.Session, func(s Session) (answer, error) {
		found, more, err := s.Find(ctx, op, m.Pattern, m.Want, m.After, int(m.Limit))
		if err != nil {
			return nil, err
		}
		a := &wire.FindAnswer{Objects: found, More: more}
		if !a.Fit() {
			return nil, object.Errorf(object.ErrDataLength, "object %v does not fit a frame; ask for fewer attributes", found[0].ID)
		}
		return a, nil
	})
}
