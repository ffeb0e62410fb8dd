package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/e2e/memsearch"
	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/p11/p11test"
)

// TestProveToken searches the memory of a gateway under load for a CA key that
// is on a software token: it is in the process of the token's module, and not in
// the gateway.
func TestProveToken(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("reading another process's memory takes root: run this as root")
	}
	store, faults, token := newToken(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	importKey(t, store, key, "c0")
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost", "*.load.test"}))
	s := &setting{t: t, w: world.T(t), ca: ca}
	s.gateway = s.w.TokenGateway(token, world.GatewaySettings{
		TrustedRoots: []*x509.Certificate{ca.Root},
		Allowed:      []string{origin.Address},
		ForwardTrust: corporateCA(t, token),
	})
	if !key.PublicKey.Equal(s.gateway.Certificates["forward-trust"].PublicKey) {
		t.Fatal("the CA's key is not the one that was imported")
	}

	// Each of these names has the CA sign a leaf.
	must(t, s.handshake(origin.Address, "first.load.test"))
	stop := make(chan struct{})
	var load sync.WaitGroup
	var failed atomic.Int64
	for i := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if s.handshake(origin.Address, fmt.Sprintf("host-%d-%d.load.test", i, n)) != nil {
					failed.Add(1)
				}
			}
		})
	}
	secrets, err := memsearch.Secrets("forward-trust", key)
	must(t, err)
	searcher := memsearch.New(secrets)
	finds, searched, err := searcher.Process(s.gateway.PID())
	close(stop)
	load.Wait()
	must(t, err)
	t.Logf("gateway (process %d): %d MB searched, %d finds", s.gateway.PID(), searched>>20, len(finds))
	for _, f := range finds {
		t.Errorf("the gateway's memory holds %s at %#x", f.Secret, f.Address)
	}
	if searched < 1<<20 {
		t.Errorf("only %d bytes of the gateway were searched", searched)
	}
	if failed.Load() != 0 {
		t.Errorf("%d handshakes failed", failed.Load())
	}

	// The module wipes the key after each signature. It is held up in one, when it
	// has the key: the same search finds it there.
	helper, err := s.gateway.Helper()
	must(t, err)
	faults.Set(t, "hang")
	load.Go(func() { _ = s.handshake(origin.Address, "held.load.test") })
	seen := 0
	for begin := time.Now(); seen == 0 && time.Since(begin) < 20*time.Second; {
		finds, _, err := searcher.Process(helper)
		must(t, err)
		seen = len(finds)
	}
	faults.Set(t, "")
	load.Wait()
	t.Logf("moongate-p11 (process %d): %d finds", helper, seen)
	if seen == 0 {
		t.Error("the key was not found in the memory of the module's process: the search does not work")
	}
	if !t.Failed() {
		t.Log("VERDICT: the gateway signs with a key on a software token that is not in its memory")
	}
}

// importKey brings a key to the token that the test knows.
func importKey(t *testing.T, store *p11test.Store, key *rsa.PrivateKey, id string) {
	t.Helper()
	dir := t.TempDir()
	private, public := filepath.Join(dir, "private.der"), filepath.Join(dir, "public.der")
	must(t, os.WriteFile(private, x509.MarshalPKCS1PrivateKey(key), 0o600))
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	must(t, os.WriteFile(public, spki, 0o600))
	store.Tool(t, tokenLabel, "--write-object", private, "--type", "privkey", "--id", id, "--label", "corporate CA", "--usage-sign")
	store.Tool(t, tokenLabel, "--write-object", public, "--type", "pubkey", "--id", id, "--label", "corporate CA")
}
