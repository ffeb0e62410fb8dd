package ha

import (
	"context"
	"errors"
	"sync"

	"moongate/client"
)

// Reset ends all connections and makes them anew, and waits until each was
// tried. It succeeds when one stands; the others return as they can.
func (g *Group) Reset(ctx context.Context) error {
	return g.each(ctx, func(ctx context.Context, c *client.Client) error { return c.Reset(ctx) })
}

// Relogin logs in to all members with a new password, or with the configured
// functions again where password is nil. It succeeds when one did; the others'
// states say why they did not.
func (g *Group) Relogin(ctx context.Context, password func() ([]byte, error)) error {
	if password != nil {
		for _, m := range g.all() {
			m.mu.Lock()
			m.config.Password = password
			m.mu.Unlock()
		}
	}
	return g.each(ctx, func(ctx context.Context, c *client.Client) error { return c.Relogin(ctx, password) })
}

// Recover tries every member at once that is not live: connections are made
// anew, members that were refused or kept away are looked at again. It waits
// until each has been tried, and synchronizes what came back where the role
// may. The error names those that are still away.
func (g *Group) Recover(ctx context.Context) error {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	var tried sync.WaitGroup
	for _, m := range g.all() {
		if s := m.state(); s == Live || s == Removed {
			continue
		}
		m.again()
		tried.Go(func() { m.tried(ctx) })
	}
	tried.Wait()
	var away []error
	for _, m := range g.all() {
		if s := m.state(); s != Live && s != Behind && s != Removed {
			away = append(away, MemberError{m.name, m.away()})
		}
	}
	g.wakeKeeper()
	return errors.Join(away...)
}

// again has run try the member now.
func (m *member) again() {
	if s := m.state(); s == Lost || s == Refused {
		m.mu.Lock()
		m.status.Retries = 0
		m.mu.Unlock()
		m.set(Connecting, "", "")
	}
	wake(m.recover)
}

// tried waits until an attempt has ended, for good or bad.
func (m *member) tried(ctx context.Context) {
	for {
		changed := m.g.change()
		s := m.snapshot()
		if s.State != Connecting && s.State != Suspect || s.Retries > 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// each does something at all members at once. The error is that of all of them,
// where none succeeded.
func (g *Group) each(ctx context.Context, f func(context.Context, *client.Client) error) error {
	members := g.all()
	failures := make([]error, len(members))
	var done sync.WaitGroup
	for i, m := range members {
		done.Go(func() {
			c := m.client.Load()
			if c == nil {
				failures[i] = m.away()
				return
			}
			failures[i] = f(ctx, c)
		})
	}
	done.Wait()
	e := &CallError{}
	for i, m := range members {
		if failures[i] == nil {
			return nil
		}
		e.Members = append(e.Members, MemberError{m.name, failures[i]})
	}
	return e
}
