package flow

import (
	"context"
	"crypto/rand"
	"crypto/x509"
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
// took, and keeps what else only a handshake's callbacks know: which
// certificate was chosen, and why a key did not work. It travels in the
// context, since a handshake's key operations happen deep inside crypto/tls,
// which turns their errors into text.
type Meter struct {
	ID        ID
	calls     atomic.Int64
	nanos     atomic.Int64
	failure   atomic.Pointer[Failure]
	presented atomic.Pointer[Presented]
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

// Fail keeps why a key operation of this flow did not work. The first one
// stays: it is what ended the handshake.
func (m *Meter) Fail(f *Failure) { m.failure.CompareAndSwap(nil, f) }

// Failure returns what Fail kept; nil if every key operation worked.
func (m *Meter) Failure() *Failure { return m.failure.Load() }

// Present keeps which of several certificates a handshake chose: the name that
// the configuration gives it, and itself.
func (m *Meter) Present(authority string, leaf *x509.Certificate) {
	m.presented.Store(&Presented{Authority: authority, Leaf: leaf})
}

// Presented returns what Present kept last; an empty name and nil if the
// handshake did not come to choose.
func (m *Meter) Presented() (authority string, leaf *x509.Certificate) {
	p := m.presented.Load()
	if p == nil {
		return "", nil
	}
	return p.Authority, p.Leaf
}
