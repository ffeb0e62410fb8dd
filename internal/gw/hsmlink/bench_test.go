package hsmlink

import (
	"testing"

	"moongate/client"
)

// BenchmarkStatus is what it costs to ask how everything stands.
func BenchmarkStatus(b *testing.B) {
	h, g := newHSM(b, "luna-1"), newGateway(b, nil)
	g.use(network(h))
	g.introduce(h)
	g.login(client.RoleCryptoOfficer, coPassword, true)
	g.shows("luna-1", StateAuthenticated, "", patience)
	for b.Loop() {
		if !g.m.Status().Ready() {
			b.Fatal("not ready")
		}
	}
}
