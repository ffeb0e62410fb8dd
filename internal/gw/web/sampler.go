package web

import (
	"context"
	"strings"
	"sync"
	"time"

	"moongate/internal/gw/mgmt"
)

// The dashboard's charts are drawn from the data plane's figures, which a
// sampler reads every few seconds and keeps for an hour.

const (
	sampleEach = 5 * time.Second
	samples    = 720 // an hour
)

// sample is the figures at a time, counted since the gateway's start.
type sample struct {
	at                                  time.Time
	up, down                            uint64 // bytes
	handshakes, signatures, waitedMs    uint64
	decrypted, relayed, blocked, failed uint64
}

type sampler struct {
	mu   sync.Mutex
	ring []sample // guarded by mu
}

// Run reads the figures until ctx is done.
func (h *Handler) Run(ctx context.Context) error {
	tick := time.NewTicker(sampleEach)
	defer tick.Stop()
	for {
		h.sample(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sample keeps the present figures.
func (h *Handler) sample(ctx context.Context) {
	s, err := h.count(ctx)
	if err != nil {
		h.log.Debug("reading the figures", "err", err)
		return
	}
	h.figures.mu.Lock()
	defer h.figures.mu.Unlock()
	h.figures.ring = append(h.figures.ring, s)
	if len(h.figures.ring) > samples {
		h.figures.ring = h.figures.ring[len(h.figures.ring)-samples:]
	}
}

// count reads the present figures.
func (h *Handler) count(ctx context.Context) (sample, error) {
	list, err := h.m.Counters(ctx, mgmt.AtConsole())
	if err != nil {
		return sample{}, err
	}
	s := sample{at: h.now()}
	for _, c := range list {
		switch {
		case c.Name == "bytes_up":
			s.up = c.Value
		case c.Name == "bytes_down":
			s.down = c.Value
		case c.Name == "hsm_calls":
			s.signatures = c.Value
		case c.Name == "hsm_milliseconds":
			s.waitedMs = c.Value
		case c.Name == "flow_action_decrypt":
			s.decrypted = c.Value
		case c.Name == "flow_action_block":
			s.blocked = c.Value
		case strings.HasPrefix(c.Name, "flow_action_"):
			s.relayed += c.Value
		case strings.HasPrefix(c.Name, "flow_failed"), strings.HasPrefix(c.Name, "failure_"):
			s.failed += c.Value
		case strings.HasPrefix(c.Name, "tls_client_tls_"):
			s.handshakes += c.Value
		}
	}
	return s, nil
}

// series is one figure a second, the oldest first.
type series []float64

// rates are what changed from sample to sample.
func (f *sampler) rates() (bytes, handshakes, signatures series) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := 1; i < len(f.ring); i++ {
		a, b := f.ring[i-1], f.ring[i]
		seconds := b.at.Sub(a.at).Seconds()
		if seconds <= 0 {
			continue
		}
		rate := func(from, to uint64) float64 {
			if to < from {
				return 0
			}
			return float64(to-from) / seconds
		}
		bytes = append(bytes, rate(a.up+a.down, b.up+b.down))
		handshakes = append(handshakes, rate(a.handshakes, b.handshakes))
		signatures = append(signatures, rate(a.signatures, b.signatures))
	}
	return bytes, handshakes, signatures
}
