package plane

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/partition"
	"moongate/internal/selfsign"
)

// hsm is a network HSM on disk with one partition and one client; start serves
// it at a fixed address.
type hsm struct {
	testing.TB
	dir     string
	address string
	client  tls.Certificate
	stop    func()
}

func newHSM(t testing.TB) *hsm {
	t.Helper()
	h := &hsm{TB: t, dir: filepath.Join(t.TempDir(), "hsm"), stop: func() {}}
	so, co := []byte("so-password"), []byte("co-password")
	_, err := daemon.Init(daemon.InitOptions{Dir: h.dir, Label: "test", Hosts: []string{"127.0.0.1"}, Officer: so})
	must(t, err)
	cert, key, err := client.NewCertificate("gateway")
	must(t, err)
	h.client, err = tls.X509KeyPair(cert, key)
	must(t, err)
	appliance, err := daemon.Open(daemon.Options{Dir: h.dir, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	officer, err := appliance.HSM.AuthenticateOfficer(t.Context(), partition.Operator{Name: "test", From: "here"}, so)
	must(t, err)
	must(t, officer.CreatePartition(t.Context(), "p"))
	must(t, officer.InitCryptoOfficer(t.Context(), "p", co))
	must(t, officer.RegisterClient(t.Context(), partition.Registration{Name: "gateway", Address: "127.0.0.1", Certificate: cert}))
	must(t, officer.AssignPartition(t.Context(), "gateway", "p"))
	must(t, appliance.Close())
	h.address = "127.0.0.1:0"
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start serves the HSM until stop is called, from then on at the same address.
func (h *hsm) start() {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Dir: h.dir, Listen: h.address, Logger: slog.New(slog.DiscardHandler),
			Ready: func(at daemon.Addresses) { ready <- at.NTLS },
		})
	}()
	select {
	case h.address = <-ready:
	case err := <-ended:
		cancel()
		h.Fatalf("starting the HSM: %v", err)
	}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			h.Errorf("stopping the HSM: %v", err)
		}
	})
}

func (h *hsm) open() *client.Client {
	h.Helper()
	pinned, err := client.LoadCertificates(daemon.In(h.dir).Certificate())
	must(h, err)
	c, err := client.Open(client.Config{
		Address: h.address, ServerCertificates: pinned, Certificate: h.client, Partition: "p",
		Role:       client.RoleCryptoOfficer,
		Password:   func() ([]byte, error) { return []byte("co-password"), nil },
		MaxBackoff: 100 * time.Millisecond,
	})
	must(h, err)
	return c
}

// authority makes a CA whose key is on the HSM.
func (h *hsm) authority(c *client.Client, name string) *authority {
	h.Helper()
	pair, err := c.GenerateEC(h.Context(), elliptic.P256(),
		client.NewTemplate(client.BoolAttr(client.AttrVerify, true)), client.NewTemplate(client.BoolAttr(client.AttrSign, true)))
	must(h, err)
	key, err := c.Key(h.Context(), pair.Private)
	must(h, err)
	der, err := selfsign.Certificate(key.(crypto.Signer), selfsign.Request{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), CA: true,
	})
	must(h, err)
	cert, err := x509.ParseCertificate(der)
	must(h, err)
	return &authority{cert: cert, key: key}
}

// logins counts those that the HSM remembers.
func (h *hsm) logins() int {
	h.Helper()
	n := 0
	for record, err := range audit.Records(daemon.In(h.dir).Audit(), 0) {
		must(h, err)
		if record.Kind == audit.Login && strings.HasSuffix(record.Action, "login") {
			n++
		}
	}
	return n
}

// onHSM is a world whose CAs are on a real HSM.
func onHSM(t testing.TB, change func(*Options)) (*world, *hsm) {
	t.Helper()
	h := newHSM(t)
	w := newWorld(t, func(o *Options) {
		o.OpenHSM = func(*config.HSM) (keys.Link, error) { return keys.Network(h.open()), nil }
		if change != nil {
			change(o)
		}
	})
	c := h.open()
	w.trust, w.untrust = h.authority(c, "Forward Trust"), h.authority(c, "Forward Untrust")
	must(t, c.Close())
	return w, h
}

// TestClearSessions: what is inspected ends, what is not goes on, the HSM sees
// a new login, and a handshake after it works.
func TestClearSessions(t *testing.T) {
	t.Parallel()
	w, h := onHSM(t, nil)
	port := w.origin(&tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, newKey(t), nil, "a.test", "b.test", "c.test", "d.test", "bank.example")}})
	s := w.snapshot(config.Rule{Name: "bank", Action: config.NoDecrypt, Hosts: []string{"bank.example"}})
	at := s.Forward[0].Listen
	w.apply(s)
	must(t, w.plane.HSM().Ready(t.Context()))
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		client, err := reach(t, at, host+":"+port, nil)
		must(t, err)
		if got := issuer(client); got != "Forward Trust" {
			t.Errorf("%s: a certificate of %q", host, got)
		}
	}
	bank, err := reach(t, at, "bank.example:"+port, nil)
	must(t, err)
	before, since := h.logins(), w.plane.HSM().Status().Since

	var told []string
	cleared, err := w.plane.ClearSessions(t.Context(), func(line string) { told = append(told, line) })
	must(t, err)
	if cleared.Sessions != 3 || cleared.Remaining != 1 || cleared.Waited != 0 || cleared.Refused != 0 || !cleared.HSM.Ready ||
		!cleared.HSM.Since.After(since) || cleared.Down <= 0 || cleared.Took < cleared.Down {
		t.Errorf("cleared: %+v", cleared)
	}
	says(t, "what was told", strings.Join(told, "\n"), "3 inspected sessions are ended\nHSM sessions: down\nHSM sessions: up, after ")
	for range 3 {
		if r := w.record(); r.FailureCause != errCleared.Error() || r.ClientLeg == nil {
			t.Errorf("record: %+v", r)
		}
	}
	must(t, echoed(bank))
	bank.Close()
	w.record()
	w.see(at, "d.test:"+port, "Forward Trust") // needs a signature
	h.stop()
	if after := h.logins(); after != before+1 {
		t.Errorf("%d logins, and %d before", after, before)
	}
}
