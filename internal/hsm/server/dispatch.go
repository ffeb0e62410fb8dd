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
	heavy             // seconds of computing: RSA keys are found by trying
	paces
)

func paceOf(op wire.Op) pace {
	switch op {
	case wire.OpSign, wire.OpEncrypt, wire.OpDecrypt, wire.OpGet, wire.OpRandom:
		return quick
	case wire.OpGenerate:
		return heavy
	}
	return slow
}

// answerBound is the most that an answer may hold, charged to a connection's
// budget before the request runs.
func answerBound(op wire.Op) int {
	switch op {
	case wire.OpFind, wire.OpGet:
		return wire.MaxFrame
	case wire.OpRandom:
		return wire.MaxRandom
	case wire.OpWrap:
		return wire.MaxWrapped
	}
	return 0 // no more than the request, or little
}

// perform decodes one request's body and calls the backend.
func (c *conn) perform(ctx context.Context, head wire.Request, body []byte) (answer, error) {
	switch head.Op {
	case wire.OpListPartitions:
		return c.listPartitions(ctx, body)
	case wire.OpOpenSession:
		return c.openSession(ctx, body)
	case wire.OpCloseSession:
		var m wire.SessionRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return done, c.sessions.remove(m.Session)
	case wire.OpLogin:
		return c.login(ctx, head.Operation, body)
	case wire.OpLogout:
		var m wire.SessionRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			return done, s.Logout(ctx, head.Operation)
		})
	case wire.OpGenerate:
		return c.generate(ctx, head.Operation, body)
	case wire.OpStore:
		var m wire.StoreRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			id, err := s.Store(ctx, head.Operation, m.Template)
			return &wire.IDAnswer{ID: id}, err
		})
	case wire.OpFind:
		return c.find(ctx, head.Operation, body)
	case wire.OpGet:
		var m wire.GetRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			t, err := s.Attributes(ctx, head.Operation, m.ID, m.Want)
			return &wire.GetAnswer{Template: t}, err
		})
	case wire.OpSet:
		var m wire.SetRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			return done, s.SetAttributes(ctx, head.Operation, m.ID, m.Template)
		})
	case wire.OpDestroy:
		var m wire.DestroyRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			return done, s.Destroy(ctx, head.Operation, m.ID)
		})
	case wire.OpSign, wire.OpEncrypt, wire.OpDecrypt:
		return c.use(ctx, head, body)
	case wire.OpWrap:
		var m wire.WrapRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			data, err := s.Wrap(ctx, head.Operation, m.Wrapping, m.Target, m.Mechanism)
			return &wire.DataAnswer{Data: data}, err
		})
	case wire.OpUnwrap:
		var m wire.UnwrapRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			id, err := s.Unwrap(ctx, head.Operation, m.ID, m.Mechanism, m.Wrapped, m.Template)
			return &wire.IDAnswer{ID: id}, err
		})
	case wire.OpRandom:
		var m wire.RandomRequest
		if err := m.Decode(body); err != nil {
			return nil, asMalformed(err)
		}
		return c.with(m.Session, func(s Session) (answer, error) {
			data, err := s.Random(ctx, head.Operation, int(m.N))
			return &wire.DataAnswer{Data: data}, err
		})
	case wire.OpHello:
		return nil, malformed{errors.New("a second Hello")}
	}
	return nil, object.Errorf(object.ErrNotSupported, "%v is not supported by this HSM", head.Op)
}

// asMalformed tells a body that breaks the protocol, which ends the
// connection, from a template that is well formed but asks for what there is
// not, which is refused.
func asMalformed(err error) error {
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

func (c *conn) listPartitions(ctx context.Context, body []byte) (answer, error) {
	if err := done.Decode(body); err != nil {
		return nil, asMalformed(err)
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
	if err := m.Decode(body); err != nil {
		return nil, asMalformed(err)
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

func (c *conn) login(ctx context.Context, op object.OperationID, body []byte) (answer, error) {
	var m wire.LoginRequest
	defer clear(body)
	if err := m.Decode(body); err != nil {
		return nil, asMalformed(err)
	}
	return c.with(m.Session, func(s Session) (answer, error) {
		return done, s.Login(ctx, op, m.Role, m.Password)
	})
}

func (c *conn) generate(ctx context.Context, op object.OperationID, body []byte) (answer, error) {
	var m wire.GenerateRequest
	if err := m.Decode(body); err != nil {
		return nil, asMalformed(err)
	}
	return c.with(m.Session, func(s Session) (answer, error) {
		public, private, err := s.Generate(ctx, op, m.Mechanism, m.Public, m.Private)
		return &wire.GenerateAnswer{Public: public, Private: private}, err
	})
}

func (c *conn) find(ctx context.Context, op object.OperationID, body []byte) (answer, error) {
	var m wire.FindRequest
	if err := m.Decode(body); err != nil {
		return nil, asMalformed(err)
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

func (c *conn) use(ctx context.Context, head wire.Request, body []byte) (answer, error) {
	var m wire.UseRequest
	if err := m.Decode(head.Op, body); err != nil {
		return nil, asMalformed(err)
	}
	s, err := c.sessions.use(m.Session)
	if err != nil {
		return nil, err
	}
	defer c.sessions.release(s)
	var data []byte
	switch head.Op {
	case wire.OpSign:
		data, err = s.Sign(ctx, head.Operation, m.ID, m.Mechanism, m.Data)
	case wire.OpEncrypt:
		data, err = s.Encrypt(ctx, head.Operation, m.ID, m.Mechanism, m.Data)
	case wire.OpDecrypt:
		data, err = s.Decrypt(ctx, head.Operation, m.ID, m.Mechanism, m.Data)
	}
	if err != nil {
		return nil, err
	}
	return &wire.DataAnswer{Data: data}, nil
}
