package server

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

func netip1(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }

// TestEveryMechanismHasALabel, and nothing else has one.
func TestEveryMechanismHasALabel(t *testing.T) {
	t.Parallel()
	for m := range object.MechanismType(1 << 16) {
		want := m.String()
		if strings.HasPrefix(want, "CKM_0x") {
			want = other
		}
		if got := mechanismLabel(m); got != want {
			t.Errorf("%v counts as %q, want %q", m, got, want)
		}
	}
	if len(mechanisms) >= len(opMetrics{}.done) {
		t.Errorf("%d mechanisms, there is room for %d", len(mechanisms), len(opMetrics{}.done)-1)
	}
	if got := outcomeLabel(0x7777); got != other {
		t.Errorf("an unknown code counts as %q", got)
	}
	if got := outcomeLabel(object.ErrDelayed); got != object.ErrDelayed.String() {
		t.Errorf("ErrDelayed counts as %q", got)
	}
}

// sample is one line of a registry: the sum of a metric's values (of a
// histogram its count) whose labels hold all that are given.
func sample(t *testing.T, g prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "moongate_hsm_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			found := 0
			for _, l := range m.GetLabel() {
				for i := 0; i < len(labels); i += 2 {
					if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
						found++
					}
				}
			}
			if 2*found == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	d := newDevice(t)
	d.attach = func(p Peer) error {
		if len(p.Certificate) == 0 || strings.Contains(string(p.Certificate), "stranger") {
			return object.Errorf(object.ErrNotRegistered, "")
		}
		return nil
	}
	r := start(t, Options{Backend: d, Registerer: registry})
	p := r.connect(t, newCertificate(t, "c"))
	for range 3 {
		p.send(wire.OpSign, sign(1))
		p.want(object.OK)
	}
	p.send(wire.OpSign, &wire.UseRequest{Session: 9, Mechanism: object.Mechanism{Type: 0x12345}})
	p.want(object.ErrSessionHandle)
	p.send(wire.OpEncrypt, &wire.UseRequest{Session: 1, Mechanism: object.Mechanism{Type: 0x12345}})
	p.want(object.OK)
	for _, op := range []wire.Op{0x3f, 0x1234, 0xffff} {
		p.send(op, done)
		p.want(object.ErrNotSupported)
	}
	stranger := r.dial(t, newCertificate(t, "stranger"))
	stranger.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1})
	stranger.want(object.ErrNotRegistered)
	stranger.wantEnd()
	garbage := r.silence(t)
	garbage.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	for b := make([]byte, 100); ; {
		if _, err := garbage.Read(b); err != nil {
			break
		}
	}
	p.send(wire.OpPing, done) // what came before it is counted by its answer's end
	p.want(object.OK)
	r.waitForHandshakes(t, 0)

	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"operations_total", []string{"op", "Sign", "mechanism", "CKM_ECDSA", "outcome", "ok"}, 3},
		{"operations_total", []string{"op", "Sign", "mechanism", "other", "outcome", "session does not exist"}, 1},
		{"operations_total", []string{"op", "Encrypt", "mechanism", "other", "outcome", "ok"}, 1},
		{"operations_total", []string{"op", "other", "mechanism", "", "outcome", "function not supported"}, 3},
		{"operation_seconds", []string{"op", "Sign"}, 4},
		{"queue_wait_seconds", []string{"pool", "quick"}, 5},
		{"queue_wait_seconds", []string{"pool", "slow"}, 4},
		{"queue_length", nil, 0},
		{"connections", nil, 1},
		{"connections_total", nil, 1},
		{"connections_refused_total", []string{"reason", "not_allowed"}, 1},
		{"connections_refused_total", []string{"reason", "tls"}, 1},
		{"connections_refused_total", []string{"reason", "evicted"}, 0},
		{"handshakes_failed_total", nil, 1},
		{"handshakes", nil, 0},
		{"sessions", nil, 1},
	} {
		if got := sample(t, registry, test.name, test.labels...); got != test.want {
			t.Errorf("%s%q is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	// The gauge counts the Ping's end after its answer is on its way.
	got := r.Stats()
	got.Operations, got.InFlight = 0, 0
	if want := (Stats{Connections: 1, Sessions: 1, Failed: 4, Refused: 2, HandshakesFailed: 1}); got != want {
		t.Errorf("Stats: %+v, want %+v", got, want)
	}
	if _, err := New(Options{Backend: d, Certificate: newCertificate(t, "hsm"), Registerer: registry}); err == nil {
		t.Error("two servers share a registerer")
	}
}

// BenchmarkMetrics is what counting one signature costs.
func BenchmarkMetrics(b *testing.B) {
	s, err := New(Options{Backend: newDevice(b), Certificate: newCertificate(b, "hsm"), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	r := &request{head: wire.Request{Op: wire.OpSign}, mechanism: object.MechECDSA, arrived: time.Now()}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.metrics.began(r, r.arrived)
			s.metrics.ended(r, object.OK, time.Microsecond)
		}
	})
}
