package keys

import (
	"context"
	"crypto"
	"fmt"
	"sync"
)

// Link is a Provider behind a connection that is somebody's to end.
type Link interface {
	Provider
	// Ready waits until keys can be used. Its error says why they cannot.
	Ready(ctx context.Context) error
	// Reset ends every session with the provider and opens new ones, and
	// waits until keys can be used again. Uses under way are begun anew there.
	Reset(ctx context.Context) error
	// Close ends the connection. Uses under way fail.
	Close() error
}

// Activated is what a Link may be that wants to know when it is the one that a
// Switch leads to.
type Activated interface {
	// Activate is called once the Switch leads here. It does not wait.
	Activate()
}

// Switch is a Provider that passes on to a Link, which can be replaced under
// way: a use of a key belongs to the link at which it began. It is safe for
// concurrent use.
type Switch struct {
	mu   sync.RWMutex
	link Link // guarded by mu; None until Set
}

// NewSwitch returns a Switch that leads to no HSM yet.
func NewSwitch() *Switch { return &Switch{link: None{}} }

// Set makes uses that begin from now on go to the link, and returns the one
// before, for its owner to close when its uses have ended. nil is None.
func (s *Switch) Set(link Link) (before Link) {
	if link == nil {
		link = None{}
	}
	s.mu.Lock()
	before, s.link = s.link, link
	s.mu.Unlock()
	if a, told := link.(Activated); told {
		a.Activate()
	}
	return before
}

func (s *Switch) current() Link {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.link
}

// Key asks the link of this moment.
func (s *Switch) Key(ctx context.Context, pub crypto.PublicKey) (Key, error) {
	return s.current().Key(ctx, pub)
}

// Status is that of the link of this moment.
func (s *Switch) Status() Status { return s.current().Status() }

// Ready waits for the link of this moment.
func (s *Switch) Ready(ctx context.Context) error { return s.current().Ready(ctx) }

// Reset resets the link of this moment.
func (s *Switch) Reset(ctx context.Context) error { return s.current().Reset(ctx) }

// None is the Link of a configuration without an HSM: it has no key, and
// nothing to end.
type None struct{}

// Key says that there is no HSM.
func (None) Key(context.Context, crypto.PublicKey) (Key, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnavailable, None{}.Status().Cause)
}

// Status says that there is no HSM.
func (None) Status() Status {
	return Status{Stage: "name", Cause: "no HSM is configured: deviceconfig/system/hsm-settings/provider names none"}
}

// Ready says that there is no HSM.
func (None) Ready(context.Context) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, None{}.Status().Cause)
}

// Reset has nothing to do.
func (None) Reset(context.Context) error { return nil }

// Close has nothing to do.
func (None) Close() error { return nil }
