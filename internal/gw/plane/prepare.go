package plane

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// linkGrace is how long a link that was replaced stays open for the uses of
// keys that began on it: longer than any may take.
const linkGrace = 10 * time.Second

// ErrPreparing: one change at a time.
var ErrPreparing = errors.New("another change of the data plane is being prepared")

// Prepared is a change that is ready to be applied. Exactly one of Apply and
// Discard is called, once.
type Prepared struct {
	plane    *Plane
	next     *generation
	services []*service // of the next generation, in its order
	fresh    []*service // those among them that do not run yet
	link     keys.Link  // to a server that was not configured before; nil where nothing changes
	relink   bool       // link is to be set
}

// Prepare makes everything that the snapshot needs, and opens the sockets and
// the link that are not open yet. It asks no key for anything, so that it works
// while the HSM is away. With an error, which names what is at fault, nothing
// has changed and nothing is left open. Clients that reach a new socket wait
// until Apply.
func (p *Plane) Prepare(s *config.Snapshot) (*Prepared, error) {
	p.mu.Lock()
	if p.preparing {
		p.mu.Unlock()
		return nil, ErrPreparing
	}
	p.preparing = true
	before, old := p.current, p.services
	p.mu.Unlock()

	c := &Prepared{plane: p}
	err := c.prepare(s, before, old)
	if err != nil {
		c.Discard()
		return nil, err
	}
	return c, nil
}

func (c *Prepared) prepare(s *config.Snapshot, before *generation, old []*service) error {
	next, err := c.plane.compile(s, before)
	if err != nil {
		return err
	}
	c.next = next
	if err := distinct(next.places); err != nil {
		return err
	}
	leaving := slices.DeleteFunc(slices.Clone(old), func(s *service) bool {
		return slices.ContainsFunc(next.places, s.at)
	})
	for _, at := range next.places {
		if kept := find(old, at); kept != nil {
			c.services = append(c.services, kept)
			continue
		}
		listener, err := open(at.address, leaving)
		if err != nil {
			return fmt.Errorf("%s: %w", at.name, err)
		}
		service, err := c.plane.newService(at, listener)
		if err != nil {
			listener.Close()
			return fmt.Errorf("%s: %w", at.name, err)
		}
		c.services, c.fresh = append(c.services, service), append(c.fresh, service)
	}
	return c.openLink(s, before)
}

// distinct refuses two listeners at one address.
func distinct(places []place) error {
	taken := map[string]string{}
	for _, at := range places {
		if by := taken[at.address]; by != "" {
			return fmt.Errorf("%s: %s is the address of %s too", at.name, at.address, by)
		}
		taken[at.address] = at.name
	}
	return nil
}

// at reports whether a service is what goes on to serve a place: the kind and
// the address are what make it, whatever it is called.
func (s *service) at(p place) bool { return s.kind == p.kind && s.address == p.address }

func find(old []*service, at place) *service {
	for _, s := range old {
		if s.at(at) {
			return s
		}
	}
	return nil
}

// openLink opens the way to another HSM than before.
func (c *Prepared) openLink(s *config.Snapshot, before *generation) error {
	open := c.plane.options.OpenHSM
	if open == nil || before != nil && reflect.DeepEqual(before.snapshot.HSM, s.HSM) {
		return nil
	}
	if s.HSM != nil {
		link, err := open(s.HSM)
		if err != nil {
			return err
		}
		c.link = link
	}
	c.relink = true
	return nil
}

// Apply makes the change: the next connection is handled by it. Listeners that
// are not in it take no more, and what they took ends in its own time.
func (c *Prepared) Apply() {
	p := c.plane
	p.mu.Lock()
	defer p.mu.Unlock()
	p.preparing = false
	if c.relink {
		p.replaceLink(c.link)
	}
	p.hits.follow(c.next.snapshot)
	before := p.services
	p.services, p.current = c.services, c.next
	for i, s := range c.services {
		s.name = c.next.places[i].name
		s.runtime.Store(c.next.places[i].runtime)
	}
	if p.stage == running {
		for _, s := range c.fresh {
			p.start(s)
		}
	}
	for _, s := range before {
		if !slices.Contains(c.services, s) {
			s.retire()
			s.listener.Close()
		}
	}
	if p.stage == stopped {
		for _, s := range c.fresh {
			s.listener.Close()
		}
	}
}

// Discard forgets the change. What runs was never touched.
func (c *Prepared) Discard() {
	for _, s := range c.fresh {
		s.listener.Close()
	}
	if c.link != nil {
		if err := c.link.Close(); err != nil {
			c.plane.options.Logger.Warn("closing a link to the HSM that is not used", slog.Any("err", err))
		}
	}
	c.plane.mu.Lock()
	defer c.plane.mu.Unlock()
	c.plane.preparing = false
}

// replaceLink has keys come from another link, and closes the one before when
// the uses that began on it must have ended; mu is held by the caller.
func (p *Plane) replaceLink(link keys.Link) {
	before := p.options.HSM.Set(link)
	end := func() {
		if err := before.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			p.options.Logger.Warn("closing the link to the HSM that was", slog.Any("err", err))
		}
	}
	if p.stage != running {
		end()
		return
	}
	ctx := p.ctx
	p.group.Go(func() error {
		select {
		case <-time.After(linkGrace):
		case <-ctx.Done():
		}
		end()
		return nil
	})
}

// Check says why a snapshot cannot be prepared, as far as that can be told
// without opening a socket or a link.
func (p *Plane) Check(s *config.Snapshot) error {
	_, err := p.compile(s, p.generation())
	return err
}
