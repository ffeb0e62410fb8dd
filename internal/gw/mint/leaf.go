package mint

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
)

// maxProtocols is how many configurations a leaf keeps, one for each ALPN
// protocol that a server chose; others are made and forgotten.
const maxProtocols = 8

// leaf is a minted certificate, ready to be presented.
type leaf struct {
	authority  string
	cert       tls.Certificate
	minVersion uint16
	maxVersion uint16
	// until is the last moment at which it may be presented.
	until time.Time
	// renewAt, in Unix nanoseconds, is when another one should be made.
	renewAt atomic.Int64

	mu sync.Mutex
	// configs are by ALPN protocol; guarded by mu. Each has session ticket
	// keys of its own, which crypto/tls makes and rotates, so that a session
	// can be resumed under the same leaf and protocol and nowhere else.
	configs map[string]*tls.Config
}

// create prepares, checks and signs a leaf.
func (m *Mint) create(ctx context.Context, key cacheKey, req *flow.CertifyRequest, a *authority) (*leaf, error) {
	now := m.clock()
	own, err := m.leafKeys.get(key.kind)
	if err != nil {
		return nil, certifyFailure(err)
	}
	template := prepare(req, a.cert, own, now)
	if err := check(template, req, a.cert, now); err != nil {
		return nil, certifyFailure(fmt.Errorf("certificate %q does not sign: %w", a.entry.Name, err))
	}
	private, err := a.entry.Key(ctx)
	if err != nil {
		return nil, hsmFailure(err)
	}
	bound := &signer{Signer: private.Bind(ctx)}
	// CreateCertificate verifies the signature that it was given.
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.private.Public(), bound)
	switch {
	case bound.err != nil:
		return nil, hsmFailure(fmt.Errorf("signing a leaf with the key of certificate %q: %w", a.entry.Name, bound.err))
	case err != nil:
		return nil, certifyFailure(fmt.Errorf("signing a leaf with the key of certificate %q: %w", a.entry.Name, err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, certifyFailure(fmt.Errorf("reading a leaf that was signed: %w", err))
	}
	if err := a.accept(cert, req, now); err != nil {
		return nil, certifyFailure(fmt.Errorf("verifying a leaf that was signed: %w", err))
	}
	l := &leaf{
		authority:  a.entry.Name,
		cert:       tls.Certificate{Certificate: append([][]byte{der}, a.above...), PrivateKey: own.private, Leaf: cert},
		minVersion: m.minVersion,
		maxVersion: m.maxVersion,
		until:      cert.NotAfter,
		configs:    map[string]*tls.Config{},
	}
	renewAt := now.Add(freshFor)
	l.renewAt.Store(renewAt.UnixNano())
	if now.After(l.until) {
		l.until = renewAt // mirrors a certificate that has expired
	}
	return l, nil
}

// accept verifies a signed leaf as a client would; one that is not trusted is
// not what a client would accept, but must be its authority's.
func (a *authority) accept(cert *x509.Certificate, req *flow.CertifyRequest, now time.Time) error {
	if !req.Trust {
		return cert.CheckSignatureFrom(a.cert)
	}
	_, err := cert.Verify(x509.VerifyOptions{
		DNSName:     canonical(req.Name),
		Roots:       a.root,
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// fresh reports whether the leaf can be presented without another thought.
func (l *leaf) fresh(now time.Time) bool {
	return l.usable(now) && now.UnixNano() < l.renewAt.Load()
}

// usable reports whether the leaf can be presented at all.
func (l *leaf) usable(now time.Time) bool { return !now.After(l.until) }

// postpone puts off making another leaf, which just did not work.
func (l *leaf) postpone(until time.Time) { l.renewAt.Store(until.UnixNano()) }

// present returns the leaf for a connection whose server chose the protocol.
func (l *leaf) present(protocol string, cached bool) *flow.Presented {
	return &flow.Presented{
		Config:    l.config(protocol),
		Leaf:      l.cert.Leaf,
		Authority: l.authority,
		Cached:    cached,
	}
}

func (l *leaf) config(protocol string) *tls.Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	if config := l.configs[protocol]; config != nil {
		return config
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{l.cert},
		MinVersion:   l.minVersion,
		MaxVersion:   l.maxVersion,
		// The server sized its records; to cut the first 128 KiB of each burst
		// into packets again would cost a write for each.
		DynamicRecordSizingDisabled: true,
	}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	if len(l.configs) < maxProtocols {
		l.configs[protocol] = config
	}
	return config
}
