package origin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"moongate/bench/testca"
)

// MaxNames bounds one prepared run.
const MaxNames = 1 << 17

// certificates holds the origin's certificates by server name. All names of
// one key type share a key: making keys is not what is measured.
type certificates struct {
	authority *testca.Authority
	ec, rsa   crypto.Signer

	mu       sync.RWMutex
	prepared map[string][]byte // DER; guarded by mu; replaced by prepare
	kept     map[string][]byte // DER; guarded by mu; the few names outside prepared runs
}

func newCertificates() (*certificates, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the authority's key: %w", err)
	}
	authority, err := testca.New("bench origin CA", caKey)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the P-256 key: %w", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating the RSA key: %w", err)
	}
	return &certificates{authority: authority, ec: ec, rsa: rsaKey, kept: map[string][]byte{}}, nil
}

func (c *certificates) keyFor(name string) crypto.Signer {
	if strings.HasSuffix(name, RSASuffix) {
		return c.rsa
	}
	return c.ec
}

// prepare issues for the names and forgets the run before.
func (c *certificates) prepare(names Names) error {
	if names.Count < 1 || names.Count > MaxNames || !ours(names.Pattern) {
		return fmt.Errorf("%d names like %q: out of range", names.Count, names.Pattern)
	}
	ders := make([][]byte, names.Count)
	var group errgroup.Group
	group.SetLimit(4)
	for i := range ders {
		group.Go(func() error {
			name := names.At(i)
			der, err := c.authority.Issue(c.keyFor(name).Public(), name)
			ders[i] = der
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	prepared := make(map[string][]byte, len(ders))
	for i, der := range ders {
		prepared[names.At(i)] = der
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prepared = prepared
	return nil
}

// get is tls.Config.GetCertificate.
func (c *certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := hello.ServerName
	if !ours(name) {
		return nil, fmt.Errorf("no certificate for %q", name)
	}
	der, err := c.lookup(name)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.keyFor(name)}, nil
}

func (c *certificates) lookup(name string) ([]byte, error) {
	c.mu.RLock()
	der := c.prepared[name]
	if der == nil {
		der = c.kept[name]
	}
	c.mu.RUnlock()
	if der != nil {
		return der, nil
	}
	der, err := c.authority.Issue(c.keyFor(name).Public(), name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if earlier := c.kept[name]; earlier != nil {
		return earlier, nil // every client of a name must see one certificate
	}
	if len(c.kept) >= MaxNames {
		return nil, fmt.Errorf("more than %d names", MaxNames)
	}
	c.kept[name] = der
	return der, nil
}
