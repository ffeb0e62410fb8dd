package partition

import (
	"context"

	"moongate/internal/hsm/object"
)

// recorded is a session whose uses are on record when they return: for tests
// that do not care how the server waits for that.
func recorded(s *Session) recordedSession { return recordedSession{s} }

type recordedSession struct{ s *Session }

func (r recordedSession) Sign(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, error) {
	return written(r.s.Sign(ctx, op, id, m, digest))
}

func (r recordedSession) Encrypt(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, error) {
	return written(r.s.Encrypt(ctx, op, id, m, data))
}

func (r recordedSession) Decrypt(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, error) {
	return written(r.s.Decrypt(ctx, op, id, m, data))
}

func written(out []byte, r object.Receipt, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if err := r.Written(); err != nil {
		return nil, err
	}
	return out, nil
}
