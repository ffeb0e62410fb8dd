package shell

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"
)

// asking is what a line is read for.
type asking int

const (
	aCommand asking = iota // with history, completion and help
	anAnswer
	aSecret
)

// errEnd is the end of input that was typed: Ctrl-D on an empty line.
var errEnd = errors.New("end of input")

// editor reads lines from a terminal. It is used by one goroutine.
type editor struct {
	in       *input
	out      io.Writer // the terminal itself
	resized  <-chan struct{}
	size     func() (columns, rows int)
	complete func(line string) []Candidate
	opts     Options

	keys    decoder
	screen  screen
	history history

	// Of the line that is being typed.
	purpose asking
	prompt  []rune
	line    []rune
	pos     int
	tabbed  bool    // the last key was a Tab that completed nothing
	at      int     // the history line that is shown; len(history.lines) for the new one
	draft   []rune  // the new line, while an older one is shown
	search  *search // non-nil in Ctrl-R
	dirty   bool    // the screen does not show the line yet
	err     error   // of the terminal, which ends everything
}

// search is a search backwards through the history.
type search struct {
	text  []rune
	found int // the line that is shown
}

// read reads one line. It returns errEnd, ErrInterrupted, the context's error,
// or the terminal's.
func (e *editor) read(ctx context.Context, prompt string, purpose asking) (string, error) {
	e.purpose, e.prompt = purpose, []rune(prompt)
	e.line, e.pos, e.tabbed, e.search, e.draft = nil, 0, false, nil, nil
	e.at = len(e.history.lines)
	e.resize()
	e.screen.fresh()
	e.dirty = true
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		b, typed, err := e.in.take()
		if typed {
			if done, err := e.handle(e.keys.feed(b)); done || err != nil {
				return string(e.line), err
			}
			continue
		}
		e.paint()
		if err := errors.Join(err, e.err); err != nil {
			return "", err
		}
		select {
		case <-e.in.ready:
		case <-e.resized:
			e.resize()
			e.dirty = true
		case <-ctx.Done():
		}
	}
}

func (e *editor) resize() {
	columns, _ := e.size()
	e.screen.resize(columns)
}

func (e *editor) write(text string) {
	if _, err := io.WriteString(e.out, text); err != nil && e.err == nil {
		e.err = err
	}
}

func (e *editor) bell() { e.write("\a") }

func (e *editor) paint() {
	if !e.dirty {
		return
	}
	e.dirty = false
	prompt, line, pos := e.prompt, e.line, e.pos
	switch {
	case e.purpose == aSecret:
		line, pos = nil, 0
	case e.search != nil:
		prompt = slices.Concat([]rune("(search) '"), e.search.text, []rune("': "))
		pos = len(line)
	}
	e.write(e.screen.paint(prompt, line, pos))
}

// leave shows the line as it is, a last word, and goes below it.
func (e *editor) leave(last string) {
	e.search = nil
	e.pos = len(e.line)
	e.dirty = true
	e.paint()
	e.write(last + "\r\n")
	e.screen.fresh()
}

// handle obeys a key. It reports whether the line is complete.
func (e *editor) handle(k key) (bool, error) {
	if k == keyNone {
		return false, nil
	}
	if e.search != nil && e.searching(k) {
		return false, nil
	}
	tabbed := e.tabbed
	e.tabbed = false
	switch k {
	case keyEnter:
		e.leave(map[bool]string{true: "********"}[e.purpose == aSecret])
		return true, e.err
	case keyInterrupt:
		e.leave("^C")
		return false, ErrInterrupted
	case keyEnd:
		if len(e.line) == 0 {
			e.leave("")
			return false, errEnd
		}
		e.erase(e.pos, e.pos+1)
	case keyUp, keyDown, keySearch, keyTab:
		if e.purpose != aCommand {
			e.bell()
			break
		}
		e.command(k, tabbed)
	case keyClear:
		e.write("\x1b[2J\x1b[H")
		e.screen.fresh()
		e.dirty = true
	default:
		e.edit(k)
	}
	return false, e.err
}

// command obeys the keys that only a command line has.
func (e *editor) command(k key, tabbed bool) {
	switch k {
	case keyUp:
		e.recall(e.at - 1)
	case keyDown:
		e.recall(e.at + 1)
	case keySearch:
		e.search = &search{found: len(e.history.lines)}
		e.dirty = true
	case keyTab:
		e.tab(tabbed)
	}
}

func (e *editor) edit(k key) {
	switch k {
	case keyBackspace:
		e.erase(e.pos-1, e.pos)
	case keyDelete:
		e.erase(e.pos, e.pos+1)
	case keyKillLeft:
		e.erase(0, e.pos)
	case keyKillRight:
		e.erase(e.pos, len(e.line))
	case keyKillWord:
		e.erase(e.wordLeft(), e.pos)
	case keyLeft:
		e.move(e.pos - 1)
	case keyRight:
		e.move(e.pos + 1)
	case keyHome:
		e.move(0)
	case keyLineEnd:
		e.move(len(e.line))
	case keyWordLeft:
		e.move(e.wordLeft())
	case keyWordRight:
		e.move(e.wordRight())
	case keyCancel:
	default:
		e.letter(rune(k))
	}
}

func (e *editor) letter(r rune) {
	if r == '?' && e.purpose == aCommand && !inQuotes(string(e.line[:e.pos])) {
		e.help()
		return
	}
	if !unicode.IsPrint(r) || len(string(e.line))+len(string(r)) > e.opts.MaxLine {
		e.bell()
		return
	}
	e.line = slices.Insert(e.line, e.pos, r)
	e.move(e.pos + 1)
}

func (e *editor) move(to int) {
	e.pos = max(0, min(to, len(e.line)))
	e.dirty = true
}

// erase takes the letters from, up to but not including to, out of the line.
func (e *editor) erase(from, to int) {
	from, to = max(0, from), min(to, len(e.line))
	if from >= to {
		return
	}
	e.line = slices.Delete(e.line, from, to)
	e.move(from)
}

func (e *editor) wordLeft() int {
	i := e.pos
	for i > 0 && e.line[i-1] == ' ' {
		i--
	}
	for i > 0 && e.line[i-1] != ' ' {
		i--
	}
	return i
}

func (e *editor) wordRight() int {
	i := e.pos
	for i < len(e.line) && e.line[i] == ' ' {
		i++
	}
	for i < len(e.line) && e.line[i] != ' ' {
		i++
	}
	return i
}

func (e *editor) set(line string) {
	e.line = []rune(line)
	e.move(len(e.line))
}

// recall shows a line of the history, or the new one beyond its end.
func (e *editor) recall(at int) {
	n := len(e.history.lines)
	if at < 0 || at > n {
		e.bell()
		return
	}
	if e.at == n {
		e.draft = e.line
	}
	e.at = at
	if at == n {
		e.set(string(e.draft))
		return
	}
	e.set(e.history.lines[at])
}

// searching obeys a key within Ctrl-R, and reports whether it was one of the
// search's own. Any other key takes the line that was found.
func (e *editor) searching(k key) bool {
	s := e.search
	e.dirty = true
	switch {
	case k == keySearch:
		e.find(s.found)
	case k == keyCancel:
		e.search = nil
		e.set("")
	case k == keyBackspace:
		s.text = s.text[:max(0, len(s.text)-1)]
		e.find(len(e.history.lines))
	case k <= unicode.MaxRune && unicode.IsPrint(rune(k)):
		if len(string(s.text)) < e.opts.MaxLine {
			s.text = append(s.text, rune(k))
		}
		e.find(s.found + 1)
	default:
		e.search = nil
		return false
	}
	return true
}

// find looks for the search's text in the lines older than number before.
func (e *editor) find(before int) {
	line, at := e.history.search(string(e.search.text), before)
	if at < 0 || strings.TrimSpace(string(e.search.text)) == "" {
		e.bell()
		return
	}
	e.search.found = at
	e.set(line)
}

// one waits for one key at a prompt that is taken away again: a letter, or
// '\r' for Enter. Other keys mean nothing.
func (e *editor) one(ctx context.Context, prompt string) (rune, error) {
	e.write(prompt)
	defer e.write("\r\x1b[J")
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		b, typed, err := e.in.take()
		if typed {
			switch k := e.keys.feed(b); {
			case k == keyEnter:
				return '\r', e.err
			case k == keyInterrupt:
				return 0, ErrInterrupted
			case k == keyEnd:
				return 0, errEnd
			case k <= unicode.MaxRune:
				return rune(k), e.err
			}
			continue
		}
		if err := errors.Join(err, e.err); err != nil {
			return 0, err
		}
		select {
		case <-e.in.ready:
		case <-e.resized:
		case <-ctx.Done():
		}
	}
}
