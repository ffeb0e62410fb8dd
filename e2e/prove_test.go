package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"moongate/e2e/hsmkeys"
	"moongate/e2e/memsearch"
	"moongate/e2e/peers"
	"moongate/e2e/world"
)

// TestProve searches the memory of the gateway under load for every CA's and
// server's private key: none of it is there, in no form. The same search finds
// every one of the keys in the HSM's memory, so that the search is known to
// work, and a key planted in a third process too.
func TestProve(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("reading another process's memory takes root: run this as root")
	}
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost", "app.test"}))
	rsaOrigin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost"}))
	stranger := peers.NewOrigin(t, server(t, newCA(t), "ec", []string{"localhost"}))
	strangerRSA := peers.NewOrigin(t, server(t, newCA(t), "rsa", []string{"localhost"}))
	s := start(t, ca, world.GatewaySettings{
		Allowed:        []string{"127.0.0.0/8"},
		Inbound:        []world.Site{{Name: "app", Server: origin.Address, ServerName: "app.test", Hosts: []string{"app.test"}}},
		InboundProfile: map[string]string{"ssl-protocol-settings/keyxchg-algo-rsa": "yes"},
	})
	cas := s.bundle("app-rsa", "app-ecdsa")

	// Every key is used: the trust and untrust CAs of both kinds, and the
	// protected server's keys to sign and to decrypt.
	for _, o := range []*peers.Origin{origin, rsaOrigin} {
		resp, err := s.trusting().Get("https://" + local("localhost", o.Address) + "/")
		must(t, err)
		resp.Body.Close()
	}
	for _, o := range []*peers.Origin{stranger, strangerRSA} {
		resp, err := s.client("forward-untrust", "forward-untrust-ecdsa").Get("https://" + local("localhost", o.Address) + "/")
		must(t, err)
		resp.Body.Close()
	}
	useInbound := func(args string) {
		t.Helper()
		out := command(t, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -quiet -no_ign_eof -ign_eof -connect "+s.gateway.Inbound["app"]+
			" -servername app.test -CAfile "+cas+" "+args)
		if !strings.Contains(out, "200 OK") {
			t.Fatalf("openssl %s: %s", args, out)
		}
	}
	useInbound("-tls1_3 -sigalgs ECDSA+SHA256")
	useInbound("-tls1_2 -cipher AES128-GCM-SHA256")

	// Load goes on while memory is searched.
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("host-%d-%d.test", i, n)
				_ = s.handshake(origin.Address, name) // a wrong name: the untrust CA signs
				_ = s.tryInbound("app")
			}
		})
	}
	defer load.Wait()
	defer close(stop)

	keys, err := hsmkeys.Read(s.hsm.Dir, t.TempDir(), s.partition.Label, []byte(s.partition.CryptoOfficer))
	must(t, err)
	want := []string{"app-ecdsa", "app-rsa", "forward-trust", "forward-trust-ecdsa", "forward-untrust", "forward-untrust-ecdsa"}
	if got := slices.Sorted(maps.Keys(keys)); !slices.Equal(got, want) {
		t.Fatalf("keys on the HSM: %v, want %v", got, want)
	}
	var secrets []memsearch.Secret
	for name, key := range keys {
		list, err := memsearch.Secrets(name, key)
		must(t, err)
		secrets = append(secrets, list...)
	}
	searcher := memsearch.New(secrets)

	finds, searched, err := searcher.Process(s.hsm.PID())
	must(t, err)
	seen := map[string]bool{}
	for _, f := range finds {
		name, _, _ := strings.Cut(f.Secret, " ")
		seen[name] = true
	}
	t.Logf("HSM (process %d): %d MB searched, %d finds, of %d of %d keys", s.hsm.PID(), searched>>20, len(finds), len(seen), len(keys))
	for name := range keys {
		if !seen[name] {
			t.Errorf("%s was not found in the HSM's memory: the search does not work", name)
		}
	}

	finds, searched, err = searcher.Process(s.gateway.PID())
	must(t, err)
	t.Logf("gateway (process %d): %d MB searched, %d finds", s.gateway.PID(), searched>>20, len(finds))
	for _, f := range finds {
		t.Errorf("the gateway's memory holds %s at %#x", f.Secret, f.Address)
	}
	if searched < 1<<20 {
		t.Errorf("only %d bytes of the gateway were searched", searched)
	}
	if len(finds) == 0 && !t.Failed() {
		t.Log("VERDICT: the gateway signs and decrypts with keys that are not in its memory")
	}
}

// TestProveSearchIsSound: the search finds a key in the memory of a process
// that has it, this one.
func TestProveSearchIsSound(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	secrets, err := memsearch.Secrets("own", key)
	must(t, err)
	finds, _, err := memsearch.New(secrets).Process(os.Getpid())
	must(t, err)
	if len(finds) == 0 {
		t.Error("a key of this very process was not found in its memory")
	}
}
