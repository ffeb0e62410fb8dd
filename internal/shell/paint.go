package shell

import (
	"fmt"
	"slices"
	"strings"
)

// A screen shows the line that is being typed. It breaks rows itself, so that
// it does not matter how a terminal behaves at its right edge; it uses what
// every terminal since the VT100 knows: return, newline, cursor up and right,
// erase to the end.
type screen struct {
	columns int
	row     int // of the cursor, from the prompt's
	// shown is what stands on the screen up to the cursor, where that is its
	// end; nil where it is not known. What is typed at the end of a line is
	// then written alone: a program that reads the screen sees plain text.
	shown []rune
	col   int // of the cursor, where shown is known
}

// fresh says that the cursor is at the beginning of an empty row.
func (s *screen) fresh() { s.row, s.col, s.shown = 0, 0, []rune{} }

// lost says that it is not known what stands on the screen.
func (s *screen) lost() { s.shown = nil }

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
	if columns = min(columns, maxColumns); columns != s.columns {
		s.lost()
	}
	s.columns = columns
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

// appends reports whether all is what is shown and more, with the cursor at its
// end. A mark that belongs to the letter on the row before is not appended.
func (s *screen) appends(all []rune, atEnd bool) bool {
	known := len(s.shown)
	return s.shown != nil && atEnd && len(all) >= known && slices.Equal(all[:known], s.shown) &&
		(len(all) == known || s.col > 0 || width(all[known]) > 0)
}

// paint returns what shows prompt and line anew, with the cursor at pos.
func (s *screen) paint(prompt, line []rune, pos int) string {
	var out strings.Builder
	all := slices.Concat(prompt, line)
	if s.appends(all, pos == len(line)) {
		s.row, s.col = s.layout(&out, all[len(s.shown):], s.row, s.col)
		if s.col == s.columns {
			out.WriteString("\r\n")
			s.row, s.col = s.row+1, 0
		}
		s.shown = all
		return out.String()
	}
	s.shown = nil
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
	if pos == len(line) && cursorRow == row && (cursorCol == col || col == s.columns && cursorCol == 0) {
		s.row, s.col, s.shown = cursorRow, cursorCol, all
		return out.String()
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
