package plane

import (
	"moongate/internal/gw/config"
	"moongate/internal/gw/mint"
)

// Leaf is a minted certificate that is kept.
type Leaf = mint.Kept

// Leaves returns the minted certificates that are kept, those that were used
// last first.
func (p *Plane) Leaves() []Leaf {
	if g := p.generation(); g != nil && g.mint != nil {
		return g.mint.Kept()
	}
	return nil
}

// Exclusions returns the names that are not decrypted, as they are configured.
func (p *Plane) Exclusions() []config.Exclusion {
	if g := p.generation(); g != nil {
		return g.snapshot.Exclusions
	}
	return nil
}

// ServerSessions is how many TLS sessions with servers are kept, to be resumed,
// by listener.
type ServerSessions struct {
	Listener string // the kind and the configuration's name
	Address  string
	Kept     int
	Limit    int
}

// ServerSessions tells of the TLS sessions with servers that are kept.
func (p *Plane) ServerSessions() []ServerSessions {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]ServerSessions, len(p.services))
	for i, s := range p.services {
		kept, limit := s.kept()
		list[i] = ServerSessions{Listener: s.name, Address: s.listener.Addr().String(), Kept: kept, Limit: limit}
	}
	return list
}
