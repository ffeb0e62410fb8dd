package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/world"
	"moongate/internal/gw/flow"
)

// recovery bounds how long service may be away after the HSM is back: the
// pause between attempts to connect, a login, and a noisy machine.
const recovery = 15 * time.Second

// TestOutage kills the HSM under load: hosts with a cached leaf go on, new
// ones fail with a cause, and service resumes by itself.
func TestOutage(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost", "127.0.0.1", "known.test", "new.test"}))
	s := start(t, ca, world.GatewaySettings{
		Allowed: []string{origin.Address, local("localhost", origin.Address)},
		Inbound: []world.Site{{Name: "app", Server: origin.Address, ServerName: "known.test", Hosts: []string{"app.test"}}},
	})
	known := "https://" + local("localhost", origin.Address) + "/"

	// The load: requests to a known host, one connection each, from before
	// the kill until after the return.
	var served, failed atomic.Int64
	get := func(client *http.Client) error {
		resp, err := client.Get(known)
		if err != nil {
			return err
		}
		resp.Body.Close()
		return nil
	}
	must(t, get(s.trusting())) // the leaf is cached now
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			client := s.trusting()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := get(client); err != nil {
					failed.Add(1)
					t.Errorf("a host with a cached leaf failed: %v", err)
					return
				}
				served.Add(1)
			}
		})
	}
	// The load ends before the test, however that ends.
	endLoad := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer endLoad()
	waitServed := func(more int64) {
		t.Helper()
		target := served.Load() + more
		for begin := time.Now(); served.Load() < target && failed.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("the load stands still: %d requests served, %d awaited", served.Load(), target)
			}
		}
	}
	waitServed(50)
	s.hsm.Kill9()
	waitServed(100) // without the HSM

	if err := s.handshake(origin.Address, "new.test"); err == nil {
		t.Fatal("a leaf was presented that nobody can have signed")
	}
	r := s.record(func(r *flow.Record) bool {
		return r.SNI == "new.test" || r.Target == origin.Address && r.FailureStage != ""
	})
	if r.FailureStage != flow.StageHSM || r.FailureCause == "" || r.ClientLeg != nil {
		t.Errorf("record of a new host without the HSM: stage %s, cause %q", r.FailureStage, r.FailureCause)
	}
	if err := s.tryInbound("app"); err == nil {
		t.Fatal("an inbound handshake succeeded without its key")
	}
	r = s.record(func(r *flow.Record) bool { return r.Kind == flow.Inbound })
	if r.FailureStage != flow.StageHSM {
		t.Errorf("record of an inbound handshake without the HSM: stage %s, cause %q", r.FailureStage, r.FailureCause)
	}
	waitServed(50)

	must(t, s.hsm.Restart(t.Context()))
	back := time.Now()
	for {
		err := errors.Join(s.handshake(origin.Address, "new.test"), s.tryInbound("app"))
		if err == nil {
			break
		}
		if time.Since(back) > recovery {
			t.Fatalf("%v after the HSM's return: %v", recovery, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("service resumed %v after the HSM was back", time.Since(back).Round(time.Millisecond))
	waitServed(50)
	endLoad()
	t.Logf("%d requests to the known host, %d failed", served.Load(), failed.Load())
}

// TestConnectIsRefusedWithTheCause: a person sees why before TLS begins.
func TestConnectIsRefusedWithTheCause(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost"}))
	s := start(t, ca, world.GatewaySettings{Allowed: []string{local("localhost", origin.Address)}})
	s.hsm.Kill9()
	var out string
	for range 100 { // until the gateway has noticed
		var err error
		out, err = try(t.Context(), "curl", "-sS", "-i", "--noproxy", "", "--proxy", "http://"+s.gateway.Proxy, "https://"+local("localhost", origin.Address)+"/")
		if err == nil {
			t.Fatalf("curl got through: %s", out)
		}
		if strings.Contains(out, "503") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !strings.Contains(out, "503") || !strings.Contains(strings.ToLower(out), "proxy-status:") {
		t.Errorf("curl printed %s", out)
	}
}

// TestGatewayStartsWithoutTheHSM: it names the cause, and works when the HSM
// comes.
func TestGatewayStartsWithoutTheHSM(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"localhost", "new.test"}))
	s := start(t, ca, world.GatewaySettings{Allowed: []string{origin.Address}})
	must(t, s.gateway.Close())
	must(t, s.hsm.Stop())
	must(t, s.gateway.Start(t.Context()))
	if log := s.gateway.Log(); !strings.Contains(log, "starting without the HSM") {
		t.Errorf("the gateway's log does not say that its HSM is away:\n%s", log)
	}
	if err := s.handshake(origin.Address, "new.test"); err == nil {
		t.Fatal("a leaf was presented that nobody can have signed")
	}
	must(t, s.hsm.Restart(t.Context()))
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := s.handshake(origin.Address, "new.test")
		if err == nil {
			return
		}
		if time.Since(begin) > recovery {
			t.Fatalf("%v after the HSM came: %v", recovery, err)
		}
	}
}

// handshake makes one TLS handshake through the proxy, for a name.
func (s *setting) handshake(target, name string) error {
	conn, err := s.connect(target)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	roots := x509.NewCertPool()
	roots.AddCert(s.gateway.Certificates["forward-trust"])
	roots.AddCert(s.gateway.Certificates["forward-trust-ecdsa"])
	return tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots}).Handshake()
}

// tryInbound makes one request to a protected server.
func (s *setting) tryInbound(site string) error {
	resp, err := s.inboundClient(site, "app.test").Get("https://" + s.gateway.Inbound[site] + "/")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
