package server

import (
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// receiptFunc is a receipt that a test gives.
type receiptFunc func() error

func (f receiptFunc) Written() error { return f() }

// TestAnswersWaitForTheirRecord: nothing of a use leaves before its receipt
// says so.
func TestAnswersWaitForTheirRecord(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	asked, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked); <-release })
	d.receipt = receiptFunc(func() error { once(); return nil })
	r := start(t, Options{Backend: d})
	p, other := r.connect(t, newCertificate(t, "c")), r.connect(t, newCertificate(t, "other"))
	p.send(wire.OpSign, sign(1))
	<-asked
	sent := r.metrics.answered.Load()
	other.send(wire.OpPing, done) // whom that does not concern
	other.want(object.OK)
	if got := r.metrics.answered.Load(); got != sent+1 {
		t.Errorf("%d requests count as answered before the record was written, want %d", got, sent+1)
	}
	close(release)
	p.want(object.OK)
}

// TestUnrecordedUsesAreRefused: each that could not be recorded, and no other
// answer of the same write; they count as what they were answered.
func TestUnrecordedUsesAreRefused(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	asked, release := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(asked); <-release })
	var calls int // of the connection's writer alone
	d.receipt = receiptFunc(func() error {
		hold()
		if calls++; calls%3 == 2 {
			return object.Errorf(object.ErrAuditFailed, "disk full")
		}
		return nil
	})
	registry := prometheus.NewPedanticRegistry()
	r := start(t, Options{Backend: d, Registerer: registry})
	p := r.connect(t, newCertificate(t, "c"))
	p.send(wire.OpSign, sign(1)) // holds the writer up, so that the others are written together
	<-asked
	const n = 30
	for range n {
		p.send(wire.OpSign, sign(1))
		p.send(wire.OpEncrypt, &wire.UseRequest{Session: 1, Data: []byte("x")}) // has no receipt
	}
	close(release)
	var signed, refused, encrypted int
	for range 2*n + 1 {
		head, body := p.receive()
		switch {
		case head.Code == object.ErrAuditFailed:
			refused++
			if refusal, err := wire.DecodeRefusal(head.Code, body); err != nil || refusal.Detail != "disk full" {
				t.Errorf("refusal %v, %v", refusal, err)
			}
		case head.Code != object.OK:
			t.Errorf("answer %d: %v", head.ID, head.Code)
		case len(body) > 20:
			signed++
		default:
			encrypted++
		}
	}
	if refused != 10 || signed != n+1-refused || encrypted != n {
		t.Errorf("%d signatures, %d refused, %d encryptions", signed, refused, encrypted)
	}
	if got := sample(t, registry, "operations_total", "op", "Sign", "mechanism", "CKM_ECDSA", "outcome", outcomeLabel(object.ErrAuditFailed)); got != 10 {
		t.Errorf("%v refusals are counted, want 10", got)
	}
}

// TestUsesOfThoseWhoHangUpAreSettled: what nobody takes the answer of is
// recorded and counted all the same.
func TestUsesOfThoseWhoHangUpAreSettled(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	settled := make(chan struct{}, 1)
	asked, release := make(chan struct{}), make(chan struct{})
	d.receipt = receiptFunc(func() error {
		settled <- struct{}{}
		asked <- struct{}{}
		<-release
		return nil
	})
	r := start(t, Options{Backend: d})
	p := r.connect(t, newCertificate(t, "c"))
	const n = 4
	for range n {
		p.send(wire.OpSign, sign(1))
	}
	<-asked
	p.conn.Close()
	go func() {
		for range n - 1 {
			release <- struct{}{}
			<-asked
		}
		release <- struct{}{}
	}()
	for range n {
		<-settled
	}
}
