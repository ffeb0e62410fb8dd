package daemon

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// LogRing passes a log on and keeps its newest lines, for who administers the
// HSM and does not sit at its machine.
type LogRing struct {
	out io.Writer

	mu    sync.Mutex
	lines []string // guarded by mu; a ring once it is full
	next  int      // where the next line goes once it is full; guarded by mu
	part  []byte   // of a line that has not ended; guarded by mu
}

// Bounds of what is kept.
const (
	ringLines    = 1000
	maxRingLine  = 4 << 10
	lineWasLong  = " ..."
	replacedRune = '?'
)

// NewLogRing writes to out what is written to it.
func NewLogRing(out io.Writer) *LogRing { return &LogRing{out: out} }

func (r *LogRing) Write(b []byte) (int, error) {
	r.keep(b)
	return r.out.Write(b)
}

func (r *LogRing) keep(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if room := maxRingLine - len(r.part); len(line) <= room {
			r.part = append(r.part, line...)
		} else {
			r.part = append(r.part, line[:max(0, room)]...)
		}
		if !whole {
			return
		}
		r.add(string(r.part))
		r.part, b = r.part[:0], rest
	}
}

// add needs mu.
func (r *LogRing) add(line string) {
	if len(line) >= maxRingLine {
		line += lineWasLong
	}
	// A log may hold what a client sent; a terminal shall not obey it.
	line = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || 0x80 <= c && c < 0xa0 {
			return replacedRune
		}
		return c
	}, line)
	if len(r.lines) < ringLines {
		r.lines = append(r.lines, line)
		return
	}
	r.lines[r.next] = line
	r.next = (r.next + 1) % ringLines
}

// Newest returns at most n lines, oldest first.
func (r *LogRing) Newest(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := append(append(make([]string, 0, len(r.lines)), r.lines[r.next:]...), r.lines[:r.next]...)
	return all[max(0, len(all)-n):]
}
