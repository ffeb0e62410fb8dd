// Package verify judges the certificate chain that a server presented: whether
// a client that trusts the configured roots would accept it for the name it
// asked for, and if not, everything that is wrong with it.
//
// Paths are built and checked by crypto/x509 (RFC 5280, section 6): from the
// leaf over the certificates that the server sent to a trusted root, with the
// server-authentication usage, name constraints and basic constraints. Names
// follow RFC 6125: subject alternative names alone, IP addresses only by IP
// names. What crypto/x509 does not say apart is found by checks of our own,
// each independent of the others, so that a chain which is both expired and
// for another name is reported as both; see the order in faults.go. On top of
// it, RSA keys below 2048 bits count as no proof, and a chain that leads to
// one of the gateway's own authorities is refused even where that authority
// is a trusted root: a server that shows one is the gateway itself, or a thief.
//
// Revocation is not looked at, and every verdict says so.
package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"moongate/internal/gw/flow"
)

// notChecked is Verdict.Revocation until revocation is looked at.
const notChecked = "not-checked"

// Options is what a Verifier goes by. The zero value trusts the system's roots.
type Options struct {
	// Roots are trusted; nil is the system's pool. It is not changed.
	Roots *x509.CertPool
	// Extra are trusted too: the configuration's own roots.
	Extra []*x509.Certificate
	// Own are the gateway's authorities, never trusted in a server's chain.
	// They are recognised by their public keys, under whatever certificate.
	Own []*x509.Certificate

	// Clock tells the time; nil is time.Now.
	Clock func() time.Time
	// CacheSize is how many verdicts are kept; 0 is 4096, below 0 none.
	CacheSize int
	// CacheTTL is for how long a verdict is kept at most; 0 is 5 minutes. No
	// verdict outlives a date in the certificates that it is about.
	CacheTTL time.Duration
}

const (
	defaultCacheSize = 4096
	defaultCacheTTL  = 5 * time.Minute
)

// Verifier judges chains. It is safe for concurrent use.
type Verifier struct {
	roots *x509.CertPool
	own   []*x509.Certificate
	clock func() time.Time
	ttl   time.Duration

	mu    sync.Mutex
	cache *lru.LRU[cacheKey, judgement] // guarded by mu; nil where there is none
}

// cacheKey is the SHA-256 of the name and the chain as they were presented.
type cacheKey [sha256.Size]byte

// judgement is a verdict and the time for which it holds, both ends included.
type judgement struct {
	verdict     *flow.Verdict
	from, until time.Time
}

// New returns a Verifier. It fails when the system's roots cannot be read.
func New(o Options) (*Verifier, error) {
	v := &Verifier{own: o.Own, clock: o.Clock, ttl: o.CacheTTL}
	if v.clock == nil {
		v.clock = time.Now
	}
	if v.ttl <= 0 {
		v.ttl = defaultCacheTTL
	}
	if o.Roots != nil {
		v.roots = o.Roots.Clone()
	} else {
		system, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("reading the system's trusted roots: %w", err)
		}
		v.roots = system
	}
	for _, root := range o.Extra {
		v.roots.AddCert(root)
	}
	size := o.CacheSize
	if size == 0 {
		size = defaultCacheSize
	}
	if size > 0 {
		cache, err := lru.NewLRU[cacheKey, judgement](size, nil)
		if err != nil {
			return nil, fmt.Errorf("making the verdict cache: %w", err)
		}
		v.cache = cache
	}
	return v, nil
}

// Verify judges a chain, leaf first, as the server of the name presented it.
// The name is a host name or an IP address. The verdict may be shared with
// other callers and must not be changed.
func (v *Verifier) Verify(name string, chain []*x509.Certificate) *flow.Verdict {
	name = strings.TrimSuffix(name, ".")
	now := v.clock()
	key := keyOf(name, chain)
	if verdict := v.cached(key, now); verdict != nil {
		return verdict
	}
	j := v.judge(name, chain, now)
	if limit := now.Add(v.ttl); j.until.After(limit) {
		j.until = limit
	}
	v.keep(key, j)
	return j.verdict
}

func (v *Verifier) cached(key cacheKey, now time.Time) *flow.Verdict {
	if v.cache == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	j, found := v.cache.Get(key)
	if !found || now.Before(j.from) || now.After(j.until) {
		return nil
	}
	return j.verdict
}

func (v *Verifier) keep(key cacheKey, j judgement) {
	if v.cache == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cache.Add(key, j)
}

// keyOf hashes the name and the chain, each part with its length in front, so
// that no two inputs have the same bytes.
func keyOf(name string, chain []*x509.Certificate) cacheKey {
	h := sha256.New()
	var length [4]byte
	part := func(b []byte) {
		binary.BigEndian.PutUint32(length[:], uint32(len(b)))
		h.Write(length[:])
		h.Write(b)
	}
	part([]byte(name))
	for _, c := range chain {
		part(c.Raw)
	}
	return cacheKey(h.Sum(nil))
}
