package sshd

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// door counts the connections that there are, and says which may be.
type door struct {
	limits Limits

	mu      sync.Mutex
	pending []*visitor     // not logged in yet, the oldest first; guarded by mu
	users   map[string]int // connections of each account; guarded by mu
	inside  int            // connections of all accounts; guarded by mu
}

// visitor is a connection that has not logged in yet.
type visitor struct {
	conn net.Conn
	from netip.Prefix
}

func newDoor(l Limits) *door { return &door{limits: l, users: map[string]int{}} }

// network is what one peer has for nothing: an IPv4 address, or the /64 that
// any IPv6 host chooses its addresses from.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: those share one
	}
	return p
}

// knock lets a connection begin its login, or returns nil. Where there is no
// room, the oldest one of the network that has most is closed for it: a flood
// from few networks is in its own way first, not in the administrator's.
func (d *door) knock(conn net.Conn, addr netip.Addr) *visitor {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &visitor{conn, network(addr)}
	counts := map[netip.Prefix]int{}
	for _, p := range d.pending {
		counts[p.from]++
	}
	if counts[v.from] >= d.limits.PendingPerAddress {
		return nil
	}
	if len(d.pending) >= d.limits.Pending {
		oldest := -1
		for i, p := range d.pending {
			if oldest < 0 || counts[p.from] > counts[d.pending[oldest].from] {
				oldest = i
			}
		}
		if counts[d.pending[oldest].from] < counts[v.from]+1 {
			return nil
		}
		d.pending[oldest].conn.Close() // its own goroutine sees to the rest
		d.pending = slices.Delete(d.pending, oldest, oldest+1)
	}
	d.pending = append(d.pending, v)
	return v
}

// leave forgets a connection that has not logged in, or has.
func (d *door) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = slices.DeleteFunc(d.pending, func(p *visitor) bool { return p == v })
}

// enter counts an account's connection until exit, or says that there are too
// many.
func (d *door) enter(user string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inside >= d.limits.Connections || d.users[user] >= d.limits.ConnectionsPerUser {
		return false
	}
	d.inside++
	d.users[user]++
	return true
}

func (d *door) exit(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	if d.users[user]--; d.users[user] == 0 {
		delete(d.users, user)
	}
}
