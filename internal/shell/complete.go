package shell

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown bounds how many candidates are listed at once.
const maxShown = 200

// wordStart is where the last word of a line begins, in bytes: after the last
// space outside of quotation marks. quoted says that its quotation mark is
// still open. A word in quotation marks is a string literal of Go.
func wordStart(line string) (start int, quoted bool) {
	between, escaped := true, false
	for i, r := range line {
		switch {
		case quoted:
			switch {
			case escaped:
				escaped = false
			case r == '\\':
				escaped = true
			case r == '"':
				quoted = false
			}
		case unicode.IsSpace(r):
			between, start = true, i+utf8.RuneLen(r)
		case r == '"' && between:
			quoted, between = true, false
		default:
			between = false
		}
	}
	return start, quoted
}

func inQuotes(line string) bool {
	_, quoted := wordStart(line)
	return quoted
}

// typed is how a word is written on a command line.
func typed(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || r == '"' || r == '\\' || !unicode.IsPrint(r) }) {
		return strconv.Quote(word)
	}
	return word
}

func placeholder(word string) bool {
	return strings.HasPrefix(word, "<") && strings.HasSuffix(word, ">")
}

// tab completes the word before the cursor as far as the candidates agree; the
// second Tab in a row lists them.
func (e *editor) tab(again bool) {
	before := string(e.line[:e.pos])
	candidates := e.complete(before)
	start, _ := wordStart(before)
	word := before[start:]
	var words []string
	known := true
	for _, c := range candidates {
		if placeholder(c.Word) {
			known = false
			continue
		}
		words = append(words, typed(c.Word))
	}
	common := commonPrefix(words)
	switch {
	case !extends(common, word):
		common = word
	case len(words) == 1 && known:
		e.replace(start, common+" ")
		return
	case common != word && len(common) > len(word):
		e.replace(start, common)
		return
	}
	if len(candidates) == 0 {
		e.bell()
		return
	}
	if !again {
		e.tabbed = true
		e.bell()
		return
	}
	shown := make([]string, 0, len(candidates))
	for _, c := range candidates {
		shown = append(shown, clean(c.Word))
	}
	e.list(inColumns(shown, e.screen.columns))
}

// extends reports whether a word goes on as typed so far, whatever the case.
func extends(word, soFar string) bool {
	return len(word) >= len(soFar) && strings.EqualFold(word[:len(soFar)], soFar)
}

// commonPrefix is what all words begin with, in whole letters, as the first
// word writes it; upper and lower case are one.
func commonPrefix(words []string) string {
	if len(words) == 0 {
		return ""
	}
	common := words[0]
	for _, w := range words[1:] {
		n := 0
		for n < len(common) {
			r, size := utf8.DecodeRuneInString(common[n:])
			if other, _ := utf8.DecodeRuneInString(w[min(n, len(w)):]); n >= len(w) || unicode.ToLower(r) != unicode.ToLower(other) || utf8.RuneLen(other) != size {
				break
			}
			n += size
		}
		common = common[:n]
	}
	return common
}

// replace puts a word in the place of the line from start, in bytes, to the
// cursor.
func (e *editor) replace(start int, word string) {
	before := string(e.line[:e.pos])[:start] + word
	rest := string(e.line[e.pos:])
	if strings.HasSuffix(word, " ") && strings.HasPrefix(rest, " ") {
		rest = rest[1:]
	}
	if len(before)+len(rest) > e.opts.MaxLine {
		e.bell()
		return
	}
	e.line = []rune(before + rest)
	e.move(utf8.RuneCountInString(before))
}

// help lists what may stand at the cursor.
func (e *editor) help() {
	candidates := e.complete(string(e.line[:e.pos]))
	if len(candidates) == 0 {
		e.list([]string{"  (nothing that is known here)"})
		return
	}
	wide := 0
	for _, c := range candidates {
		wide = max(wide, min(30, widthOf(clean(c.Word))))
	}
	var lines []string
	for _, c := range candidates {
		word := clean(c.Word)
		pad := strings.Repeat(" ", max(0, wide-widthOf(word)))
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  %s%s  %s", word, pad, clean(c.Help)), " "))
	}
	e.list(lines)
}

// list shows lines below the one that is being typed, and then that one again.
func (e *editor) list(lines []string) {
	pos := e.pos
	e.leave("")
	if more := len(lines) - maxShown; more > 0 {
		lines = append(lines[:maxShown:maxShown], fmt.Sprintf("  (and %d more)", more))
	}
	e.write(strings.Join(lines, "\r\n") + "\r\n")
	e.move(pos)
}

// inColumns sets words in columns, the order going down each of them.
func inColumns(words []string, columns int) []string {
	wide := 0
	for _, w := range words {
		wide = max(wide, widthOf(w))
	}
	across := max(1, columns/(wide+2))
	rows := (len(words) + across - 1) / across
	lines := make([]string, rows)
	for i, w := range words {
		row := i % rows
		lines[row] += w
		if i+rows < len(words) {
			lines[row] += strings.Repeat(" ", cmp.Or(wide+2-widthOf(w), 2))
		}
	}
	return lines
}
