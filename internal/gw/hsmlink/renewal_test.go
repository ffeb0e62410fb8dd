package hsmlink

import (
	"crypto/elliptic"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
)

// TestServerRenewal: the HSM gets a new certificate, which is pinned before it
// is used: the HSM is reached before and after.
func TestServerRenewal(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(h))
	g.introduce(h)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	signing := g.keepSigning(2 * time.Second)

	before := h.certificate()
	h.shell("sysconf regenCert -force")
	done, err := g.m.ImportServerCertificate("luna-1", h.certificate())
	if err != nil || len(done.Old) != 1 || !done.Old[0].Until.After(time.Now().Add(OldPin-time.Hour)) {
		t.Fatalf("importing the next certificate: %+v, %v", done, err)
	}
	time.Sleep(2 * lookEach)
	if s := g.shows("luna-1", StateAuthenticated, "", prompt); len(s.Pins) != 2 {
		t.Errorf("pins: %+v", s.Pins)
	}
	h.shell("service restart ntls -force")
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := g.m.ForgetServerCertificate("luna-1", done.Old[0].Fingerprint); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	time.Sleep(4 * lookEach)
	if s := g.shows("luna-1", StateAuthenticated, "", patience); len(s.Pins) != 1 || s.Pins[0].Fingerprint != done.Pin.Fingerprint {
		t.Errorf("pins at the end: %+v", s.Pins)
	}
	signing()
	if err := g.m.ForgetServerCertificate("luna-1", done.Pin.Fingerprint); err == nil || !strings.Contains(err.Error(), "the only certificate") {
		t.Errorf("forgetting the last one: %v", err)
	}
	if err := g.m.ForgetServerCertificate("luna-1", "00"); err == nil {
		t.Error("forgetting one that is not there")
	}

	// The old one's time ends.
	if _, err := g.m.ImportServerCertificate("luna-1", before); err != nil {
		t.Fatal(err)
	}
	real := g.m.store.now
	g.m.store.now = func() time.Time { return real().Add(OldPin + time.Minute) }
	if certificates, pins, err := g.m.store.pins("luna-1"); err != nil || len(certificates) != 1 || len(pins) != 1 || pins[0].Fingerprint == done.Pin.Fingerprint {
		t.Errorf("after its time: %+v, %v", pins, err)
	}
}

// TestClientRenewal: the gateway changes its own certificate under way, when
// the HSM knows the next one, and no use of a key fails meanwhile.
func TestClientRenewal(t *testing.T) {
	t.Parallel()
	h, g := newHSM(t, "luna-1"), newGateway(t, nil)
	g.use(network(h))
	g.introduce(h)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	old := g.m.Status().Client[0].Fingerprint
	signing := g.keepSigning(0)

	next, err := g.m.RenewClientCertificate()
	must(t, err)
	if _, err := g.m.RenewClientCertificate(); err == nil || !strings.Contains(err.Error(), next.Fingerprint) {
		t.Errorf("renewing twice: %v", err)
	}
	own, err := g.m.ExportClientCertificate(t.Context(), "luna-1")
	if err != nil || !own.Next || own.Fingerprint != next.Fingerprint {
		t.Fatalf("exporting the next one: %+v, %v", own, err)
	}
	if s := g.m.Status(); len(s.Client) != 2 || !s.Client[1].Next || len(s.Client[0].AcceptedBy) != 1 || len(s.Client[1].AcceptedBy) != 0 {
		t.Errorf("while both are there: %+v", s.Client)
	}
	h.register("gw-2", own.Address, own.PEM, true)
	g.told("hsm-client-certificate", "every HSM accepts")
	if s := g.m.Status(); len(s.Client) != 1 || s.Client[0].Fingerprint != next.Fingerprint || next.Fingerprint == old {
		t.Errorf("at the end: %+v", s.Client)
	}
	for end := time.Now().Add(patience); !g.usesCertificate(next.Fingerprint) || g.status("luna-1").State != StateAuthenticated; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the next certificate is not used")
		}
	}
	signing()
	h.shell("client delete -client gw -force")
	time.Sleep(4 * lookEach)
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.signWith(g.made)
	must(t, g.m.Close())
	g.start()
	g.use(network(h))
	g.shows("luna-1", StateAuthenticated, "", prompt)
	g.hidden()
}

// usesCertificate reports whether the connection in use was made with it.
func (g *gateway) usesCertificate(of string) bool {
	mod := g.m.current().modules[0]
	mod.mu.Lock()
	defer mod.mu.Unlock()
	return fingerprint(&mod.plan.config.Certificate) == of
}

// TestRenewalCrash: a renewal that was interrupted at any step is finished, or
// never was.
func TestRenewalCrash(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil)
	s := g.m.store
	must(t, s.makeIdentity("gw"))
	first, err := s.identities()
	must(t, err)
	must(t, s.makeIdentity("gw"))
	if again, err := s.identities(); err != nil || fingerprint(&again.current) != fingerprint(&first.current) {
		t.Fatalf("a certificate that is there was replaced: %v", err)
	}
	must(t, s.renew("gw"))
	both, err := s.identities()
	must(t, err)
	// The key is renamed first.
	must(t, os.Rename(s.path(nextKey), s.path(keyFile)))
	after, err := s.identities()
	if err != nil || after.next != nil || fingerprint(&after.current) != fingerprint(both.next) {
		t.Fatalf("between the two renames: %v", err)
	}
	if _, err := os.Stat(s.path(nextCertificate)); err == nil {
		t.Error("the renewal was not finished")
	}
	// A key without its certificate, of a renewal that was interrupted.
	must(t, g.vault.Device().WriteFile(s.path(nextKey), vault.HSMClientKey, []byte("half")))
	if half, err := s.identities(); err != nil || half.next != nil {
		t.Errorf("half a renewal: %v", err)
	}
	must(t, s.renew("gw"))
	if whole, err := s.identities(); err != nil || whole.next == nil {
		t.Errorf("a renewal after half a one: %v", err)
	}
	must(t, os.Remove(filepath.Join(g.hsmDir(), keyFile)))
	if err := s.makeIdentity("gw"); err == nil || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("a certificate whose key is lost: %v", err)
	}
}

// keepSigning signs all the time, and returns a function that ends it: no
// signature may fail, or take longer than limit where that is not 0.
func (g *gateway) keepSigning(limit time.Duration) func() {
	g.t.Helper()
	key, err := g.sw.Make(g.t.Context(), keys.Spec{Curve: elliptic.P256(), Label: "signing"})
	must(g.t, err)
	public := key.Public()
	g.made = public
	stop, ended := make(chan struct{}), make(chan struct{})
	var count int
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			if err := g.trySign(public); err != nil {
				g.t.Errorf("signing: %v", err)
				return
			}
			if took := time.Since(began); limit > 0 && took > limit+prompt {
				g.t.Errorf("a signature took %v", took)
			}
			count++
			time.Sleep(time.Millisecond)
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
		if count < 10 {
			g.t.Errorf("only %d signatures", count)
		}
	})
}
