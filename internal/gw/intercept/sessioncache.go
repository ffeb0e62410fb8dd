package intercept

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"moongate/internal/gw/policy"
)

// sessionCacheSize bounds the TLS sessions kept for servers.
const sessionCacheSize = 8192

// sessions keeps TLS sessions with servers for resumption (RFC 8446, section
// 2.2). A session is used again only for the same address, name, protocols and
// bounds: what it stands for was negotiated under them. Its chain is judged
// anew on each connection.
type sessions struct {
	lru *lru.Cache[string, *tls.ClientSessionState]
}

func newSessions() (*sessions, error) {
	cache, err := lru.New[string, *tls.ClientSessionState](sessionCacheSize)
	if err != nil {
		return nil, fmt.Errorf("making the session cache: %w", err)
	}
	return &sessions{lru: cache}, nil
}

// scopedSessions is the cache of one connection: a single entry of the whole,
// whatever key crypto/tls asks with.
type scopedSessions struct {
	all *sessions
	key string
}

func (s *sessions) scope(server netip.AddrPort, name string, alpn []string, profile *policy.Profile) *scopedSessions {
	var key strings.Builder
	fmt.Fprintf(&key, "%v %s %x %x %t %t", server, name, profile.MinVersion, profile.MaxVersion, profile.RSAKeyExchange, profile.NoECDHE)
	for _, p := range alpn {
		fmt.Fprintf(&key, " %x", p) // in hexadecimal: a protocol's name is any bytes
	}
	return &scopedSessions{all: s, key: key.String()}
}

func (s *scopedSessions) Get(string) (*tls.ClientSessionState, bool) { return s.all.lru.Get(s.key) }

func (s *scopedSessions) Put(_ string, state *tls.ClientSessionState) {
	if state == nil {
		s.all.lru.Remove(s.key)
		return
	}
	s.all.lru.Add(s.key, state)
}
