package flow

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// ID names a flow; it is also the operation id of the HSM calls made for it,
// so that a record and the HSM's audit tell of the same thing by the same name.
type ID [16]byte

// NewID returns a random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails (crypto/rand, since Go 1.24)
	return id
}

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Meter counts the HSM calls that were made for one flow and the time they
// took. It travels in the context, since a handshake's key operations happen
// deep inside crypto/tls.
type Meter struct {
	ID    ID
	calls atomic.Int64
	nanos atomic.Int64
}

type meterKey struct{}

// WithMeter returns a context that carries m.
func WithMeter(ctx context.Context, m *Meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// MeterFrom returns the context's Meter; one that nobody reads where it has none.
func MeterFrom(ctx context.Context) *Meter {
	if m, ok := ctx.Value(meterKey{}).(*Meter); ok {
		return m
	}
	return &Meter{}
}

// Add counts one call that took d.
func (m *Meter) Add(d time.Duration) {
	m.calls.Add(1)
	m.nanos.Add(int64(d))
}

// Read returns the number of calls and their total time.
func (m *Meter) Read() (calls int64, total time.Duration) {
	return m.calls.Load(), time.Duration(m.nanos.Load())
}
