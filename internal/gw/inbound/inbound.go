// Package inbound presents the certificates of a protected server in its
// stead: it is the flow.Certifier of a listener, or a rule, for inbound
// inspection. Nothing is minted: the certificates are the server's own, from
// the configuration, and their keys are on the HSM, which signs in each full
// handshake (TLS 1.2 and 1.3), or, where it is allowed, decrypts the premaster
// secret of an RSA key exchange (RFC 5246, section 7.4.7.1).
//
// What a handshake needs is prebuilt. The key is bound to the handshake's
// context when it is used, with a deadline: an HSM that hangs ends the
// handshake, and not the other way round. crypto/tls turns a key's error into
// text, so the cause goes to the context's flow.Meter, as the choice between
// several certificates does.
package inbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/flow"
)

// Options is how an Inbound works. Certificates are required; zero values
// elsewhere mean the defaults.
type Options struct {
	// Certificates are those of the protected server, ECDSA and RSA.
	Certificates []*certstore.Entry

	// MinVersion is the lowest TLS version offered to clients; 0 is TLS 1.2.
	MinVersion uint16
	// MaxVersion is the highest; 0 is the highest there is.
	MaxVersion uint16
	// RSAKeyExchange allows TLS 1.2 clients without ECDHE. It has no forward
	// secrecy. Without it the RSA key never decrypts.
	RSAKeyExchange bool
	// SignTimeout bounds a handshake's key operation; 0 is 5 s.
	SignTimeout time.Duration
}

const (
	defaultSignTimeout = 5 * time.Second
	// awayTimeout is how long a handshake waits for an HSM that is known to be
	// away: as long as it may take to connect again.
	awayTimeout = time.Second
	// maxProtocols is how many ALPN protocols are kept configurations for.
	maxProtocols = 8
)

// Inbound is a flow.Certifier.
type Inbound struct {
	certificates []*certificate // ECDSA first
	minVersion   uint16
	maxVersion   uint16
	cipherSuites []uint16 // nil is crypto/tls's default

	mu sync.Mutex
	// configs are by ALPN protocol; guarded by mu. Each has session ticket
	// keys of its own, which crypto/tls makes and rotates.
	configs map[string]*tls.Config
}

var _ flow.Certifier = (*Inbound)(nil)

// certificate is one of the server's, without a private key.
type certificate struct {
	entry *certstore.Entry
	tls   tls.Certificate
	use   use
}

// use is how a certificate's key may be used.
type use struct {
	timeout time.Duration
	decrypt bool
}

// New returns an Inbound. It asks no key for anything.
func New(o Options) (*Inbound, error) {
	if len(o.Certificates) == 0 {
		return nil, errors.New("no certificate is configured")
	}
	i := &Inbound{minVersion: o.MinVersion, maxVersion: o.MaxVersion, configs: map[string]*tls.Config{}}
	if i.minVersion == 0 {
		i.minVersion = tls.VersionTLS12
	}
	if i.maxVersion != 0 && i.maxVersion < i.minVersion {
		return nil, fmt.Errorf("the highest TLS version, %s, is below the lowest, %s",
			tls.VersionName(i.maxVersion), tls.VersionName(i.minVersion))
	}
	if o.RSAKeyExchange {
		i.cipherSuites = withRSAKeyExchange()
	}
	timeout := o.SignTimeout
	if timeout <= 0 {
		timeout = defaultSignTimeout
	}
	for _, entry := range o.Certificates {
		c := &certificate{
			entry: entry,
			tls:   tls.Certificate{Certificate: entry.Presented(), Leaf: entry.Leaf()},
			use:   use{timeout: timeout},
		}
		switch entry.Leaf().PublicKey.(type) {
		case *rsa.PublicKey:
			c.use.decrypt = o.RSAKeyExchange
		case *ecdsa.PublicKey:
		default:
			return nil, fmt.Errorf("certificate %q: its key is %s, expected RSA or ECDSA", entry.Name, flow.DescribeKey(entry.Leaf().PublicKey))
		}
		i.certificates = append(i.certificates, c)
	}
	// A signature costs an HSM a twentieth with ECDSA.
	slices.SortStableFunc(i.certificates, func(a, b *certificate) int { return a.rank() - b.rank() })
	return i, nil
}

func (c *certificate) rank() int {
	if _, isECDSA := c.entry.Leaf().PublicKey.(*ecdsa.PublicKey); isECDSA {
		return 0
	}
	return 1
}

// withRSAKeyExchange returns crypto/tls's default suites of TLS 1.2 and those
// with RSA key exchange. crypto/tls goes by its own order, in which they come
// last, and offers them when they are named, whatever GODEBUG says.
func withRSAKeyExchange() []uint16 {
	var list []uint16
	for _, suite := range tls.CipherSuites() {
		list = append(list, suite.ID)
	}
	return append(list,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	)
}

// Certify returns the configuration for the protocol that the server chose.
// It uses no key: the handshake does.
func (i *Inbound) Certify(_ context.Context, req *flow.CertifyRequest) (*flow.Presented, error) {
	p := &flow.Presented{Config: i.config(req.Protocol)}
	if len(i.certificates) == 1 {
		p.Authority = i.certificates[0].entry.Name
		p.Leaf = i.certificates[0].entry.Leaf()
	}
	return p, nil
}

// Ready reports why handshakes cannot have a key now. Those that resume a
// session need none and would work, but nobody knows before which those are.
func (i *Inbound) Ready(string) error {
	var first error
	for _, c := range i.certificates {
		err := c.entry.Ready()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return hsmFailure(first)
}

func (i *Inbound) config(protocol string) *tls.Config {
	i.mu.Lock()
	defer i.mu.Unlock()
	if config := i.configs[protocol]; config != nil {
		return config
	}
	config := &tls.Config{
		GetCertificate: i.getCertificate,
		MinVersion:     i.minVersion,
		MaxVersion:     i.maxVersion,
		CipherSuites:   i.cipherSuites,
		// The server sized its records; to cut the first 128 KiB of each burst
		// into packets again would cost a write for each.
		DynamicRecordSizingDisabled: true,
	}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	if len(i.configs) < maxProtocols {
		i.configs[protocol] = config
	}
	return config
}

// getCertificate chooses the first certificate that the client can use, for
// the name that it asked for or, if none is for that, for any: the client then
// decides, as it would with the server itself.
func (i *Inbound) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	nameless := *hello
	nameless.ServerName = ""
	for _, asked := range []*tls.ClientHelloInfo{hello, &nameless} {
		for _, c := range i.certificates {
			if bound := c.bind(hello.Context()); asked.SupportsCertificate(bound) == nil {
				return c.present(hello.Context(), bound), nil
			}
		}
	}
	// crypto/tls says better than we can what the client lacks.
	last := i.certificates[len(i.certificates)-1]
	return last.present(hello.Context(), last.bind(hello.Context())), nil
}

// bind returns the certificate with its key under a handshake's context.
func (c *certificate) bind(ctx context.Context) *tls.Certificate {
	bound := c.tls
	key := boundKey{ctx: ctx, entry: c.entry, timeout: c.use.timeout}
	if c.use.decrypt {
		bound.PrivateKey = boundDecrypter{key}
	} else {
		bound.PrivateKey = key
	}
	return &bound
}

func (c *certificate) present(ctx context.Context, bound *tls.Certificate) *tls.Certificate {
	flow.MeterFrom(ctx).Present(c.entry.Name, c.entry.Leaf())
	return bound
}

func hsmFailure(err error) *flow.Failure {
	return &flow.Failure{Stage: flow.StageHSM, Alert: flow.AlertInternalError, Err: err}
}
