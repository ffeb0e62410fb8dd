package partition

import (
	"context"

	"moongate/internal/hsm/object"
)

// Verify checks a signature or a MAC.
func (s *Session) Verify(_ context.Context, op object.OperationID, id object.ID, m object.Mechanism, data, signature []byte) error {
	return errNotYet
}

// Derive makes a secret key of another key.
func (s *Session) Derive(ctx context.Context, op object.OperationID, base object.ID, m object.Mechanism, t object.Template) (object.ID, error) {
	return object.ID{}, errNotYet
}
