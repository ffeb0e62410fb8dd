// Package login is what the logins of both appliances, the HSM's and the
// gateway's, have in common and neither should have its own way of: how guessing
// is slowed down, and which SSH public keys may open an account.
package login

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// How guessing is slowed down. Wrong passwords are counted for an account from
// one address, and for one address whatever the account; never for an account
// alone, or a stranger could keep its owner out. After the free ones each
// further attempt has to wait twice as long.
const (
	freeOfPair    = 2
	freeOfAddress = 10
	firstDelay    = time.Second
	maxDelay      = 15 * time.Minute
	// patience is how long an attempt is kept waiting; one that would have to
	// wait longer is refused unchecked (DelayedError).
	patience = 4 * time.Second
	// memory is how long a wrong password counts.
	memory = 24 * time.Hour
	// remembered bounds each table; the entry longest untouched goes first.
	// Each costs whoever wants another one gone a slow derivation.
	remembered = 8192
	// maxName bounds what a stranger's name takes in memory, in bytes.
	maxName = 64
)

// DelayedError refuses an attempt that would have to wait too long, without
// looking at its password. It says nothing of whether there is such an account.
type DelayedError struct{ Wait time.Duration }

func (e *DelayedError) Error() string {
	return fmt.Sprintf("too many wrong passwords from this address; wait %v", (e.Wait + time.Second - 1).Truncate(time.Second))
}

// Delays slow down who guesses passwords. They are in this process alone: a
// restart forgets them. Make one with NewDelays.
type Delays struct {
	mu        sync.Mutex
	pairs     *simplelru.LRU[pair, *guesses]         // guarded by mu
	addresses *simplelru.LRU[netip.Prefix, *guesses] // guarded by mu
}

type pair struct {
	name string
	from netip.Prefix
}

type guesses struct {
	failures int
	last     time.Time
	until    time.Time // no attempt before
}

// NewDelays returns delays of nobody yet.
func NewDelays() *Delays {
	pairs, err := simplelru.NewLRU[pair, *guesses](remembered, nil)
	if err != nil {
		panic("login: " + err.Error()) // the size is positive
	}
	addresses, err := simplelru.NewLRU[netip.Prefix, *guesses](remembered, nil)
	if err != nil {
		panic("login: " + err.Error())
	}
	return &Delays{pairs: pairs, addresses: addresses}
}

// Network is what one guesser has for nothing: an IPv4 address, or the /64
// that any IPv6 host chooses its addresses from.
func Network(from netip.Addr) netip.Prefix {
	from = from.Unmap().WithZone("")
	bits := 64
	if from.Is4() {
		bits = 32
	}
	p, err := from.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all: those share one
	}
	return p
}

func clip(name string) string { return name[:min(len(name), maxName)] }

// Begin counts an attempt as a failure before it is looked at, and returns how
// long it has to wait; or refuses it without counting it, by a *DelayedError.
func (d *Delays) Begin(name string, from netip.Addr, now time.Time) (time.Duration, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	where := Network(from)
	p := entry(d.pairs, pair{clip(name), where}, now)
	a := entry(d.addresses, where, now)
	wait := max(0, p.until.Sub(now), a.until.Sub(now))
	if wait > patience {
		return 0, &DelayedError{wait}
	}
	at := now.Add(wait)
	p.count(at, freeOfPair)
	a.count(at, freeOfAddress)
	return wait, nil
}

// Succeed takes back what Begin counted, and all the earlier ones of the pair.
func (d *Delays) Succeed(name string, from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	where := Network(from)
	d.pairs.Remove(pair{clip(name), where})
	if a, ok := d.addresses.Get(where); ok && a.failures > 0 {
		a.failures--
		a.until = a.last
	}
}

// Forget drops the account's delays, and those of the addresses behind them.
func (d *Delays) Forget(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pairs.Keys() {
		if p.name == clip(name) {
			d.pairs.Remove(p)
			d.addresses.Remove(p.from)
		}
	}
}

func entry[K comparable](table *simplelru.LRU[K, *guesses], key K, now time.Time) *guesses {
	g, ok := table.Get(key)
	if !ok || now.Sub(g.last) > memory {
		g = &guesses{}
		table.Add(key, g)
	}
	return g
}

func (g *guesses) count(at time.Time, free int) {
	g.failures++
	g.last, g.until = at, at
	if over := g.failures - free; over > 0 {
		// 2^10 s is more than maxDelay.
		g.until = at.Add(min(maxDelay, firstDelay<<min(over-1, 10)))
	}
}
