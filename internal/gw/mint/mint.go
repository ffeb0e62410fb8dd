// Package mint makes the certificates that a forward proxy presents in the
// servers' stead: it is the flow.Certifier of connections to anywhere.
//
// A leaf is made in three steps. Prepare: a template mirrors the server's leaf
// (template.go), with one of the gateway's own keys, which live in memory, are
// never an authority's, and are replaced every hour (leafkey.go). Check: what
// would be signed is held against the rules for such leaves (check.go). Sign:
// an authority signs it on the HSM (authority.go), and the result must verify.
// A server whose chain was verified is mirrored under the forward-trust
// authority, any other under forward-untrust, which no client trusts: one
// expression in Mint.choose decides.
//
// Leaves are kept by name, presented chain, trust, authority and kind of key
// (cache.go), and are good for an hour; while the HSM is away they go on until
// their own end. Connections that need the same leaf at once share one
// signature (flight.go).
package mint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"moongate/internal/gw/flow"
)

// Options is how a Mint works. Trust is required; zero values elsewhere mean
// the defaults.
type Options struct {
	// Trust signs for servers whose chain was verified.
	Trust Authorities
	// Untrust signs for the others. Without it they cannot be presented.
	Untrust Authorities

	// MinVersion is the lowest TLS version offered to clients; 0 is TLS 1.2.
	MinVersion uint16
	// MaxVersion is the highest; 0 is the highest there is.
	MaxVersion uint16
	// CacheSize is how many leaves are kept; 0 is 16384.
	CacheSize int
	// SignTimeout bounds the key operations for one leaf; 0 is 5 s.
	SignTimeout time.Duration
	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// Running counts the signatures under way, which go on when nobody waits
	// for them any more; nil is a count of the Mint's own, for Close. Whoever
	// gives one waits for it, when no connection uses the Mint any more.
	Running *sync.WaitGroup
}

const (
	defaultCacheSize   = 16384
	defaultSignTimeout = 5 * time.Second
	// awayTimeout is how long a connection waits for an HSM that is known to
	// be away: as long as it may take to connect again.
	awayTimeout = time.Second
	// freshFor is for how long a leaf is presented before another one is made.
	freshFor = time.Hour
	// retryAfter is the pause after a leaf could not be replaced.
	retryAfter = time.Minute
)

// Mint is a flow.Certifier. Close it when no connection uses it any more.
type Mint struct {
	trust, untrust authorities
	minVersion     uint16
	maxVersion     uint16
	signTimeout    time.Duration
	clock          func() time.Time
	leafKeys       *leafKeys

	mu      sync.Mutex
	leaves  *cache               // guarded by mu
	flights map[cacheKey]*flight // guarded by mu
	// running counts the goroutines of flights; Add only under mu.
	running *sync.WaitGroup
}

var _ flow.Certifier = (*Mint)(nil)

// New returns a Mint. It refuses authorities that cannot do their work, and a
// key that would be both trusted and untrusted. It asks no key for anything.
func New(o Options) (*Mint, error) {
	m := &Mint{
		minVersion:  o.MinVersion,
		maxVersion:  o.MaxVersion,
		signTimeout: o.SignTimeout,
		clock:       o.Clock,
		flights:     map[cacheKey]*flight{},
		running:     o.Running,
	}
	if m.running == nil {
		m.running = new(sync.WaitGroup)
	}
	if m.minVersion == 0 {
		m.minVersion = tls.VersionTLS12
	}
	if m.maxVersion != 0 && m.maxVersion < m.minVersion {
		return nil, fmt.Errorf("the highest TLS version, %s, is below the lowest, %s",
			tls.VersionName(m.maxVersion), tls.VersionName(m.minVersion))
	}
	if m.signTimeout <= 0 {
		m.signTimeout = defaultSignTimeout
	}
	if m.clock == nil {
		m.clock = time.Now
	}
	m.leafKeys = &leafKeys{clock: m.clock}

	var err error
	if m.trust, err = newAuthorities("forward-trust", o.Trust); err != nil {
		return nil, err
	}
	if m.untrust, err = newAuthorities("forward-untrust", o.Untrust); err != nil {
		return nil, err
	}
	if len(m.trust) == 0 {
		return nil, errors.New("no forward-trust certificate is configured")
	}
	if err := m.trust.disjoint(m.untrust); err != nil {
		return nil, err
	}
	size := o.CacheSize
	if size <= 0 {
		size = defaultCacheSize
	}
	if m.leaves, err = newCache(size); err != nil {
		return nil, err
	}
	return m, nil
}

// Close waits for the signatures that are under way, SignTimeout at most.
func (m *Mint) Close() { m.running.Wait() }

// Certify returns the leaf for a server, from memory or newly signed.
func (m *Mint) Certify(ctx context.Context, req *flow.CertifyRequest) (*flow.Presented, error) {
	if len(req.Upstream) == 0 {
		return nil, certifyFailure(errors.New("the server presented no certificate to mirror"))
	}
	authority, err := m.choose(req)
	if err != nil {
		return nil, err
	}
	key := cacheKey{
		name:      canonical(req.Name),
		chain:     chainHash(req.Upstream),
		trust:     req.Trust,
		authority: authority.entry.Name,
		kind:      m.leafKindFor(&req.Hello),
	}
	held := m.held(key)
	now := m.clock()
	if held != nil && held.fresh(now) {
		return held.present(req.Protocol, true), nil
	}
	away := authority.entry.Ready() != nil
	if away && held != nil && held.usable(now) {
		return held.present(req.Protocol, true), nil
	}
	timeout := m.signTimeout
	if away {
		timeout = min(timeout, awayTimeout)
	}
	made, led, err := m.join(ctx, key, timeout, func(ctx context.Context) (*leaf, error) {
		return m.create(ctx, key, req, authority)
	})
	if err == nil {
		return made.present(req.Protocol, !led), nil
	}
	failure := flow.FailureOf(err, flow.StageCertify)
	if failure.Stage == flow.StageHSM && held != nil && held.usable(now) {
		held.postpone(now.Add(retryAfter))
		return held.present(req.Protocol, true), nil
	}
	return nil, failure
}

// Ready reports why no leaf can be presented for the name now: nil when one is
// kept for it, or a key is at hand to sign one.
func (m *Mint) Ready(name string) error {
	m.mu.Lock()
	kept := m.leaves.usable(canonical(name), m.clock())
	m.mu.Unlock()
	if kept {
		return nil
	}
	if err := m.trust[0].entry.Ready(); err != nil {
		return hsmFailure(err)
	}
	return nil
}

func (m *Mint) held(key cacheKey) *leaf {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaves.get(key)
}

// canonical is a name as cache keys have it: names compare without case, and
// a final dot says nothing.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

func hsmFailure(err error) *flow.Failure {
	return &flow.Failure{Stage: flow.StageHSM, Alert: flow.AlertInternalError, Err: err}
}

func certifyFailure(err error) *flow.Failure {
	return &flow.Failure{Stage: flow.StageCertify, Alert: flow.AlertInternalError, Err: err}
}
