package mint

import (
	"slices"
	"time"
)

// Kept is a leaf that a Mint keeps.
type Kept struct {
	Name      string // that clients asked for
	Authority string // the configuration's name of the certificate that signed it
	Trusted   bool
	Serial    string // hexadecimal
	NotAfter  time.Time
	// Renew is when another one is made for who asks then.
	Renew time.Time
}

// Kept returns the leaves that are kept, those that were used last first.
func (m *Mint) Kept() []Kept {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys := m.leaves.leaves.Keys()
	list := make([]Kept, 0, len(keys))
	for _, key := range keys {
		l, found := m.leaves.leaves.Peek(key)
		if !found {
			continue
		}
		cert := l.cert.Leaf
		list = append(list, Kept{
			Name: key.name, Authority: key.authority, Trusted: key.trust, Serial: cert.SerialNumber.Text(16),
			NotAfter: cert.NotAfter, Renew: time.Unix(0, l.renewAt.Load()),
		})
	}
	slices.Reverse(list)
	return list
}
