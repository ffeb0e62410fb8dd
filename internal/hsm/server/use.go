package server

import (
	"context"

	"moongate/internal/hsm/wire"
)

// useKey is what a mechanism is named for. The mechanism is kept for the
// operation's count.
func (c *conn) useKey(ctx context.Context, r *request) (answer, error) {
	op := r.head.Operation
	switch r.head.Op {
	case wire.OpGenerate:
		var m wire.GenerateRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		r.mechanism = m.Mechanism.Type
		return c.with(m.Session, func(s Session) (answer, error) {
			public, private, err := s.Generate(ctx, op, m.Mechanism, m.Public, m.Private)
			return &wire.GenerateAnswer{Public: public, Private: private}, err
		})
	case wire.OpVerify:
		var m wire.VerifyRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		r.mechanism = m.Mechanism.Type
		return c.do(m.Session, func(s Session) error {
			return s.Verify(ctx, op, m.ID, m.Mechanism, m.Data, m.Signature)
		})
	case wire.OpDerive:
		var m wire.DeriveRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		r.mechanism = m.Mechanism.Type
		return c.with(m.Session, func(s Session) (answer, error) {
			id, err := s.Derive(ctx, op, m.Base, m.Mechanism, m.Template)
			return &wire.IDAnswer{ID: id}, err
		})
	case wire.OpWrap:
		var m wire.WrapRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		r.mechanism = m.Mechanism.Type
		return c.with(m.Session, func(s Session) (answer, error) {
			data, err := s.Wrap(ctx, op, m.Wrapping, m.Target, m.Mechanism)
			return &wire.DataAnswer{Data: data}, err
		})
	case wire.OpUnwrap:
		var m wire.UnwrapRequest
		if err := decode(&m, r.body); err != nil {
			return nil, err
		}
		r.mechanism = m.Mechanism.Type
		return c.with(m.Session, func(s Session) (answer, error) {
			id, err := s.Unwrap(ctx, op, m.ID, m.Mechanism, m.Wrapped, m.Template)
			return &wire.IDAnswer{ID: id}, err
		})
	}
	return c.transform(ctx, r)
}

// transform is Sign, Encrypt and Decrypt: bytes to bytes.
func (c *conn) transform(ctx context.Context, r *request) (answer, error) {
	var m wire.UseRequest
	if err := asMalformed(m.Decode(r.head.Op, r.body)); err != nil {
		return nil, err
	}
	r.mechanism = m.Mechanism.Type
	s, err := c.sessions.use(m.Session)
	if err != nil {
		return nil, err
	}
	defer c.sessions.release(s)
	var data []byte
	switch op := r.head.Operation; r.head.Op {
	case wire.OpSign:
		data, r.receipt, err = s.Sign(ctx, op, m.ID, m.Mechanism, m.Data)
	case wire.OpEncrypt:
		data, r.receipt, err = s.Encrypt(ctx, op, m.ID, m.Mechanism, m.Data)
	case wire.OpDecrypt:
		data, r.receipt, err = s.Decrypt(ctx, op, m.ID, m.Mechanism, m.Data)
	}
	if err != nil {
		return nil, err
	}
	return &wire.DataAnswer{Data: data}, nil
}
