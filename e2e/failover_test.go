package e2e

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/world"
)

// TestGatewayFailover takes either HSM of a gateway's group away under a load
// of handshakes that each need a signature, inbound and through the forward
// proxy: none of them fails.
func TestGatewayFailover(t *testing.T) {
	t.Parallel()
	w := world.T(t)
	ca := newCA(t)
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "index.html"), []byte("protected\n"), 0o644))
	protected := peers.Nginx(t, server(t, ca, "rsa", []string{"app.test"}), root)
	origin := peers.NewOrigin(t, server(t, ca, "ec", []string{"*.fresh.test", "app.test"}))

	group := w.Group(nil, world.OnLoopback("127.0.0.2"), world.OnLoopback("127.0.0.3"))
	link, err := group.RegisterFrom(t.Context(), nil, "gw")
	must(t, err)
	s := &setting{t: t, w: w, hsm: group.HSMs[0], partition: group.Partition, link: link, ca: ca}
	s.gateway = w.Gateway(link, world.GatewaySettings{
		Allowed: []string{"127.0.0.0/8"}, TrustedRoots: []*x509.Certificate{ca.Root},
		Inbound: []world.Site{{Name: "app", Server: protected, ServerName: "app.test", Hosts: []string{"app.test"}}},
	})
	s.membersLive(2)

	load := s.handshakes(origin.Address)
	load.more(30)
	for i, h := range group.HSMs {
		for _, fault := range []struct {
			name       string
			begin, end func() error
		}{
			{"kill -9", func() error { h.Kill9(); return nil }, func() error { return h.Restart(t.Context()) }},
			{"SIGSTOP", func() error { return h.Process().Freeze() }, func() error { return h.Process().Thaw() }},
		} {
			name := fmt.Sprintf("%s of hsm%d", fault.name, i+1)
			before, began := load.done.Load(), time.Now()
			must(t, fault.begin())
			s.membersLive(1)
			load.more(60)
			must(t, fault.end())
			back := time.Now()
			s.membersLive(2)
			t.Logf("%s: %d handshakes in %v; it is used again %v after its return", name, load.done.Load()-before,
				back.Sub(began).Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
			load.more(20)
		}
	}
	load.end()
	t.Logf("%d handshakes, %d failed, the longest took %v", load.done.Load(), load.failed.Load(), time.Duration(load.longest.Load()).Round(time.Millisecond))
	for i, h := range group.HSMs {
		records, err := h.Audit(t.Context(), 2000)
		must(t, err)
		if n := signatures(records, "gw"); n < 50 {
			t.Errorf("hsm%d made %d signatures for the gateway: the load did not need it", i+1, n)
		}
	}
}

func signatures(records []world.AuditRecord, client string) int {
	n := 0
	for _, r := range records {
		if r.Action == "key.sign" && r.Client == client && r.Outcome == "ok" {
			n++
		}
	}
	return n
}

// membersLive waits until the gateway has so many live members of its group.
func (s *setting) membersLive(want int) {
	s.t.Helper()
	membersLive(s.t, s.gateway.Metrics, want)
}

// membersLive reads a gateway's figures.
func membersLive(t *testing.T, figures string, want int) {
	t.Helper()
	eventually(t, returnsWithin, func() error {
		resp, err := http.Get("http://" + figures + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		live := 0
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "moongate_hsm_member_state{") && strings.Contains(line, `state="live"`) && strings.HasSuffix(line, "} 1\n") {
				live++
			}
		}
		if live != want {
			return fmt.Errorf("the gateway has %d live members of its group, expected %d", live, want)
		}
		return nil
	})
}

// handshakes is a load of connections to a gateway, each of which needs a
// signature of the HSM.
type handshakes struct {
	t             *testing.T
	stop          chan struct{}
	workers       sync.WaitGroup
	end           func()
	done, failed  atomic.Int64
	longest       atomic.Int64 // nanoseconds
	complainsLeft atomic.Int64
}

// handshakes begins the load: full handshakes with the site app, by Go's client
// and by curl, and with a host that nobody has been to, through the proxy.
func (s *setting) handshakes(origin string) *handshakes {
	s.t.Helper()
	h := newHandshakes(s.t)
	authorities := s.bundle("app-rsa", "app-ecdsa")
	for i := range 3 {
		h.work("inbound", func(int) error { return s.tryInbound("app") })
		h.work("forward", func(n int) error { return s.handshake(origin, fmt.Sprintf("host-%d-%d.fresh.test", i, n)) })
	}
	h.work("curl", func(int) error {
		out, err := try(s.t.Context(), "curl", "-sS", "--fail", "--noproxy", "*", "--cacert", authorities,
			"--connect-to", "app.test:443:"+s.gateway.Inbound["app"], "https://app.test/")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return h
}

// newHandshakes is a load without workers yet.
func newHandshakes(t *testing.T) *handshakes {
	h := &handshakes{t: t, stop: make(chan struct{})}
	h.complainsLeft.Store(10)
	h.end = sync.OnceFunc(func() {
		close(h.stop)
		h.workers.Wait()
	})
	t.Cleanup(h.end)
	return h
}

func (h *handshakes) work(name string, one func(n int) error) {
	h.workers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-h.stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			began := time.Now()
			err := one(n)
			took := time.Since(began)
			for old := h.longest.Load(); int64(took) > old && !h.longest.CompareAndSwap(old, int64(took)); old = h.longest.Load() {
			}
			h.done.Add(1)
			if err != nil {
				h.failed.Add(1)
				if h.complainsLeft.Add(-1) >= 0 {
					h.t.Errorf("%s: a handshake failed after %v: %v", name, took.Round(time.Millisecond), err)
				}
			}
		}
	})
}

// more waits for so many more handshakes.
func (h *handshakes) more(n int64) {
	h.t.Helper()
	target := h.done.Load() + n
	eventually(h.t, time.Minute, func() error {
		if h.done.Load() < target {
			return errors.New("the load stands still")
		}
		return nil
	})
}
