package intercept

import (
	"crypto/tls"
	"fmt"
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// boundsCacheSize bounds the configurations that were made from others.
const boundsCacheSize = 1024

// bounds narrows a certifier's configurations to a profile's versions and
// cipher suites. A configuration that fits is used as it is; others are made
// once and kept, since session tickets belong to one.
type bounds struct {
	made *lru.Cache[boundsKey, *tls.Config]
}

type boundsKey struct {
	of         *tls.Config
	min, max   uint16
	rsa, ecdhe bool
}

func newBounds() (*bounds, error) {
	made, err := lru.New[boundsKey, *tls.Config](boundsCacheSize)
	if err != nil {
		return nil, fmt.Errorf("making the cache of configurations: %w", err)
	}
	return &bounds{made: made}, nil
}

func (b *bounds) apply(cfg *tls.Config, profile *policy.Profile) *tls.Config {
	low, high := cfg.MinVersion, cfg.MaxVersion
	if high == 0 {
		high = policy.TLS13
	}
	suites := cipherSuites(profile)
	if low >= profile.MinVersion && high <= profile.MaxVersion && cfg.DynamicRecordSizingDisabled && slices.Equal(cfg.CipherSuites, suites) {
		return cfg
	}
	key := boundsKey{of: cfg, min: max(low, profile.MinVersion), max: min(high, profile.MaxVersion),
		rsa: profile.RSAKeyExchange, ecdhe: !profile.NoECDHE}
	if made, ok := b.made.Get(key); ok {
		return made
	}
	narrow := cfg.Clone()
	narrow.MinVersion, narrow.MaxVersion = key.min, key.max
	narrow.CipherSuites = suites
	// The server's records were sized by the server; to cut the first 128 KiB
	// of each burst into packets again would cost a write for each.
	narrow.DynamicRecordSizingDisabled = true
	if other, found, _ := b.made.PeekOrAdd(key, narrow); found {
		return other
	}
	return narrow
}

// narrowed is a hello as the profile lets it be answered, so that the leaf that
// is made for it can be used: without ECDHE a client must be shown an RSA key,
// whatever else it knows.
func narrowed(hello *flow.Hello, profile *policy.Profile) flow.Hello {
	if !profile.NoECDHE {
		return *hello
	}
	narrow := *hello
	narrow.Versions = slices.DeleteFunc(slices.Clone(hello.Versions), func(v uint16) bool { return v > profile.MaxVersion })
	allowed := cipherSuites(profile)
	narrow.CipherSuites = slices.DeleteFunc(slices.Clone(hello.CipherSuites), func(id uint16) bool { return !slices.Contains(allowed, id) })
	return narrow
}
