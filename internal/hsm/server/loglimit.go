package server

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// logLimit writes at most strangersPerSecond lines about those who are no
// clients: they could fill the log at will. It says how many it left out.
type logLimit struct {
	log *slog.Logger

	mu     sync.Mutex
	second time.Time // guarded by mu
	lines  int       // in that second; guarded by mu
	left   int       // left out since the last line; guarded by mu
}

const strangersPerSecond = 10

func (l *logLimit) warn(from netip.AddrPort, err error) {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.second) >= time.Second {
		l.second, l.lines = now, 0
	}
	if l.lines++; l.lines > strangersPerSecond {
		l.left++
		l.mu.Unlock()
		return
	}
	left := l.left
	l.left = 0
	l.mu.Unlock()
	l.log.Warn("client refused", "remote", from, "error", err, "left_out", left)
}
