package certstore

import (
	"context"
	"crypto"
	"fmt"

	"moongate/internal/gw/keys"
)

// errNoKey: the configuration says of no private key.
var errNoKey = fmt.Errorf("the configuration has none: %w", keys.ErrNotFound)

// noKeys is the provider of certificates that have no private key.
type noKeys struct{}

func (noKeys) Key(context.Context, crypto.PublicKey) (keys.Key, error) { return nil, errNoKey }

func (noKeys) Status() keys.Status {
	return keys.Status{Stage: "key", Cause: "the certificate has no private key: import it, or set private-key-on-hsm to yes if the HSM has it"}
}
