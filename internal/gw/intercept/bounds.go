package intercept

import (
	"crypto/tls"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"

	"moongate/internal/gw/policy"
)

// boundsCacheSize bounds the configurations that were made from others.
const boundsCacheSize = 1024

// bounds narrows a certifier's configurations to a profile's versions. A
// configuration that fits is used as it is; others are made once and kept,
// since session tickets belong to one.
type bounds struct {
	made *lru.Cache[boundsKey, *tls.Config]
}

type boundsKey struct {
	of       *tls.Config
	min, max uint16
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
	if low >= profile.MinVersion && high <= profile.MaxVersion && cfg.DynamicRecordSizingDisabled {
		return cfg
	}
	key := boundsKey{of: cfg, min: max(low, profile.MinVersion), max: min(high, profile.MaxVersion)}
	if made, ok := b.made.Get(key); ok {
		return made
	}
	narrow := cfg.Clone()
	narrow.MinVersion, narrow.MaxVersion = key.min, key.max
	// The server's records were sized by the server; to cut the first 128 KiB
	// of each burst into packets again would cost a write for each.
	narrow.DynamicRecordSizingDisabled = true
	if other, found, _ := b.made.PeekOrAdd(key, narrow); found {
		return other
	}
	return narrow
}
