package login

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

var here = netip.MustParseAddr("192.0.2.1")

func TestDelaysAreForgottenAndBounded(t *testing.T) {
	t.Parallel()
	d := NewDelays()
	now := time.Now()
	for i := range 40 {
		_, err := d.Begin("x", here, now)
		if delayed := (*DelayedError)(nil); err != nil && !errors.As(err, &delayed) {
			t.Fatal(err)
		}
		now = now.Add(maxDelay)
		if i > 20 && d.pairs.Len() != 1 {
			t.Fatalf("%d pairs", d.pairs.Len())
		}
	}
	if wait, err := d.Begin("x", here, now.Add(memory+time.Second)); wait != 0 || err != nil {
		t.Errorf("a day later: %v, %v", wait, err)
	}
	for i := range 2 * remembered {
		_, err := d.Begin("x", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if err != nil {
			t.Fatal(err)
		}
	}
	if p, a := d.pairs.Len(), d.addresses.Len(); p != remembered || a != remembered {
		t.Errorf("%d pairs and %d addresses are remembered, want %d", p, a, remembered)
	}
}
