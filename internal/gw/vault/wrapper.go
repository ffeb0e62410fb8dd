package vault

import (
	"context"
	"errors"
	"time"
)

// Wrapper seals the master key under wrapping keys that never leave an HSM. It
// is safe for concurrent use. Where the HSM cannot be asked, its errors say why,
// in words for an administrator; none of them repeats what was to be sealed.
type Wrapper interface {
	// NewKey makes a wrapping key, on every member of a group that can be
	// reached, and returns its reference: 1 to MaxWrappingRef bytes of
	// [A-Za-z0-9._:-], the same on every member and at every later time.
	NewKey(ctx context.Context) (ref string, err error)
	// Wrap seals plain, at most 64 bytes, under a wrapping key. What it
	// returns has at most MaxWrapped bytes, and any member that holds the key
	// opens it. The error matches ErrNoWrappingKey where the HSM answered
	// that it holds no such key.
	Wrap(ctx context.Context, ref string, plain []byte) ([]byte, error)
	// Unwrap is the inverse of Wrap, for which any role suffices that may use
	// keys. Errors as of Wrap; what was changed does not open. The caller
	// clears what it returns.
	Unwrap(ctx context.Context, ref string, wrapped []byte) ([]byte, error)
	// Keys lists the wrapping keys that there are, of other gateways on the
	// same partition, too, oldest first.
	Keys(ctx context.Context) ([]WrappingKey, error)
}

// Bounds of what a Wrapper returns, in bytes.
const (
	MaxWrappingRef = 64
	MaxWrapped     = 256
)

// WrappingKey is a wrapping key on the HSM.
type WrappingKey struct {
	Ref     string
	Label   string
	Created time.Time // zero where the HSM does not say
	// Members are the names of the HSMs that are known to hold it, and Missing
	// those of the group's others: they lack it, or cannot be asked now.
	Members, Missing []string
}

// ErrNoWrappingKey: the HSM answers, and does not hold the wrapping key.
var ErrNoWrappingKey = errors.New("the HSM does not hold the wrapping key")
