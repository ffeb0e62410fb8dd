package shell

import (
	"slices"
	"strings"
)

// history is the lines typed so far, oldest first.
type history struct {
	lines []string
	max   int
}

// add keeps a line, unless it is the newest already.
func (h *history) add(line string) {
	if n := len(h.lines); n > 0 && h.lines[n-1] == line {
		return
	}
	if len(h.lines) == h.max {
		h.lines = slices.Delete(h.lines, 0, 1)
	}
	h.lines = append(h.lines, line)
}

// search returns the newest line older than number before that holds text, and
// its number; -1 where there is none.
func (h *history) search(text string, before int) (string, int) {
	for i := min(before, len(h.lines)) - 1; i >= 0; i-- {
		if strings.Contains(h.lines[i], text) {
			return h.lines[i], i
		}
	}
	return "", -1
}
