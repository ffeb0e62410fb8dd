package mint

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
)

// cacheKey is what a leaf depends on. Trust and the presented chain are parts
// of it, so that a leaf made for a verified chain is never presented for
// another.
type cacheKey struct {
	name      string
	chain     [sha256.Size]byte // of all certificates that the server presented
	trust     bool
	authority string
	kind      leafKind
}

// cache keeps the leaves that were used last. It is not safe for concurrent
// use; its owner's lock guards it.
type cache struct {
	leaves *lru.LRU[cacheKey, *leaf]
	// names has the keys in leaves, by name.
	names map[string]map[cacheKey]*leaf
}

func newCache(size int) (*cache, error) {
	c := &cache{names: map[string]map[cacheKey]*leaf{}}
	leaves, err := lru.NewLRU(size, c.forget)
	if err != nil {
		return nil, fmt.Errorf("making the cache of leaves: %w", err)
	}
	c.leaves = leaves
	return c, nil
}

func (c *cache) get(key cacheKey) *leaf {
	l, _ := c.leaves.Get(key)
	return l
}

func (c *cache) add(key cacheKey, l *leaf) {
	c.leaves.Add(key, l)
	if c.names[key.name] == nil {
		c.names[key.name] = map[cacheKey]*leaf{}
	}
	c.names[key.name][key] = l
}

// forget keeps names in step with leaves.
func (c *cache) forget(key cacheKey, _ *leaf) {
	delete(c.names[key.name], key)
	if len(c.names[key.name]) == 0 {
		delete(c.names, key.name)
	}
}

// usable reports whether any leaf is kept for the name that can be presented.
func (c *cache) usable(name string, now time.Time) bool {
	for _, l := range c.names[name] {
		if l.usable(now) {
			return true
		}
	}
	return false
}

// chainHash hashes a chain, each certificate with its length in front.
func chainHash(chain []*x509.Certificate) [sha256.Size]byte {
	h := sha256.New()
	var length [4]byte
	for _, c := range chain {
		binary.BigEndian.PutUint32(length[:], uint32(len(c.Raw)))
		h.Write(length[:])
		h.Write(c.Raw)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
