package shell

import (
	"fmt"
	"strings"
)

// A screen shows the line that is being typed. It breaks rows itself, so that
// it does not matter how a terminal behaves at its right edge; it uses what
// every terminal since the VT100 knows: return, newline, cursor up and right,
// erase to the end.
type screen struct {
	columns int
	row     int // of the cursor, from the prompt's
}

// minColumns is the narrowest that is believed; maxColumns bounds the other end.
const (
	defaultColumns = 80
	minColumns     = 8
	maxColumns     = 1000
)

func (s *screen) resize(columns int) {
	switch {
	case columns <= 0:
		columns = defaultColumns
	case columns < minColumns:
		columns = minColumns
	}
	s.columns = min(columns, maxColumns)
}

// layout breaks text into rows and says where the next letter would stand.
func (s *screen) layout(out *strings.Builder, text []rune, row, col int) (int, int) {
	for _, r := range text {
		w := width(r)
		if col+w > s.columns {
			if out != nil {
				out.WriteString("\r\n")
			}
			row, col = row+1, 0
		}
		if out != nil {
			out.WriteRune(r)
		}
		col += w
	}
	return row, col
}

// paint returns what shows prompt and line anew, with the cursor at pos.
func (s *screen) paint(prompt, line []rune, pos int) string {
	var out strings.Builder
	s.up(&out, s.row)
	out.WriteString("\r\x1b[J")
	row, col := s.layout(&out, prompt, 0, 0)
	cursorRow, cursorCol := s.layout(nil, line[:pos], row, col)
	row, col = s.layout(&out, line, row, col)
	if col == s.columns { // the cursor is beyond the edge: give it a row
		out.WriteString("\r\n")
		row++
	}
	// The cursor stands where the letter under it stands.
	next := 1
	if pos < len(line) {
		next = width(line[pos])
	}
	if cursorCol+next > s.columns {
		cursorRow, cursorCol = cursorRow+1, 0
	}
	s.up(&out, row-cursorRow)
	out.WriteString("\r")
	if cursorCol > 0 {
		fmt.Fprintf(&out, "\x1b[%dC", cursorCol)
	}
	s.row = cursorRow
	return out.String()
}

func (s *screen) up(out *strings.Builder, rows int) {
	if rows > 0 {
		fmt.Fprintf(out, "\x1b[%dA", rows)
	}
}
