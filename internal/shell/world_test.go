package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode/utf8"
)

// talk is an Interpreter for tests.
type talk struct {
	mu    sync.Mutex
	lines []string // that were run
}

func (i *talk) Prompt() string { return "[lab] sh:>" }

func (i *talk) Run(ctx context.Context, line string, term Terminal) (int, error) {
	i.mu.Lock()
	i.lines = append(i.lines, line)
	i.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "exit":
		return 0, ErrExit
	case "broken":
		return 3, errors.New("broken")
	case "fail":
		return 1, nil
	case "wait":
		<-ctx.Done()
		fmt.Fprintln(term, "stopped")
		return 2, nil
	case "ask", "secret":
		answer, err := term.Ask("First line.\nThe "+word+"? > ", word == "secret")
		if err != nil {
			fmt.Fprintln(term, "no answer:", err)
			return 1, nil
		}
		fmt.Fprintf(term, "it is %s\n", answer)
		return 0, nil
	case "more":
		keyed, ok := term.(interface {
			Key(string) (rune, error)
			Rows() int
		})
		if !ok {
			fmt.Fprintln(term, "no keys here")
			return 1, nil
		}
		key, err := keyed.Key("--more--")
		fmt.Fprintf(term, "%q of %d rows, %v\n", key, keyed.Rows(), err)
	case "print":
		fmt.Fprintf(term, "%s\n", rest)
	case "steer":
		term.Write([]byte("\x1b[2Jgone\r\u202e\u009b1m\xff\t."))
		term.Write([]byte("\xe2\x82")) // half of a euro
		term.Write([]byte("\xac\xf0\x9f\n"))
		term.Write([]byte("\xe2"))
	}
	return 0, nil
}

func (i *talk) Complete(line string) (list []Candidate) {
	start, _ := wordStart(line)
	word := strings.ToLower(line[start:])
	words := []Candidate{{"client", "about clients"}, {"clear", ""}, {"hsm", "the \x1b[1mHSM"}}
	switch strings.Fields(line + "x")[0] {
	case "client":
		words = []Candidate{{"list", "every client"}, {"show", "one"}, {"<NAME>", "a name"}}
	case "label":
		words = []Candidate{{"two words", ""}}
	case "only":
		words = []Candidate{{"<NAME>", "a name"}}
	}
	for _, w := range words {
		if strings.HasPrefix(strings.ToLower(w.Word), strings.TrimPrefix(word, `"`)) || placeholder(w.Word) {
			list = append(list, w)
		}
	}
	return list
}

func (i *talk) ran() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.lines)
}

// person is a Stream with somebody at its other end, and a terminal that shows
// what is written.
type person struct {
	t      *testing.T
	r      *io.PipeReader
	w      *io.PipeWriter
	resize chan struct{}

	mu      sync.Mutex
	columns int
	raw     bytes.Buffer
	screen  *vt
}

func newPerson(t *testing.T, columns int) *person {
	r, w := io.Pipe()
	return &person{t: t, r: r, w: w, resize: make(chan struct{}, 1), columns: columns, screen: newVT(columns)}
}

func (p *person) Read(b []byte) (int, error) { return p.r.Read(b) }
func (p *person) CloseRead() error           { return p.r.Close() }
func (p *person) Resized() <-chan struct{}   { return p.resize }

func (p *person) Size() (int, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.columns, 24
}

func (p *person) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raw.Write(b)
	p.screen.write(b)
	return len(b), nil
}

// types types, and waits until nothing moves any more.
func (p *person) types(text string) {
	p.t.Helper()
	go io.WriteString(p.w, text)
	synctest.Wait()
}

// sees checks the last rows of the screen; _ marks the cursor.
func (p *person) sees(want ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.screen.text()
	if tail := got[max(0, len(got)-len(want)):]; !slices.Equal(tail, want) {
		p.t.Errorf("the screen ends in\n%s\nwant\n%s", strings.Join(tail, "\n"), strings.Join(want, "\n"))
	}
}

// served runs Interactive for a person within a bubble of its own, and returns
// its status.
func served(t *testing.T, columns int, opts Options, do func(*person, *talk)) (int, error) {
	t.Helper()
	var status int
	var err error
	synctest.Test(t, func(t *testing.T) {
		p, in := newPerson(t, columns), &talk{}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			status, err = Interactive(t.Context(), p, in, opts)
		}()
		synctest.Wait()
		do(p, in)
		p.w.Close()
		<-ended
	})
	return status, err
}

// vt is a terminal that knows what the editor uses, and what else it is sent is
// an error.
type vt struct {
	columns  int
	rows     [][]string
	row, col int
	rest     []byte
	bad      string
	wraps    bool // at its edge; the editor never relies on it
}

func newVT(columns int) *vt { return &vt{columns: columns, rows: [][]string{nil}} }

func (v *vt) write(b []byte) {
	v.rest = append(v.rest, b...)
	for len(v.rest) > 0 {
		r, size := utf8.DecodeRune(v.rest)
		switch {
		case r == '\r':
			v.col = 0
		case r == '\n':
			v.newline()
		case r == '\a', r == '\t':
		case r == '\x1b':
			end := bytes.IndexFunc(v.rest, func(r rune) bool { return r >= 'A' && r <= 'Z' })
			if end < 0 {
				return
			}
			v.escape(string(v.rest[:end+1]))
			size = end + 1
		default:
			v.put(r)
		}
		v.rest = v.rest[size:]
	}
}

func (v *vt) newline() {
	v.row++
	for v.row >= len(v.rows) {
		v.rows = append(v.rows, nil)
	}
}

func (v *vt) escape(code string) {
	var n int
	switch last := code[len(code)-1]; last {
	case 'J':
		if code == "\x1b[2J" {
			v.rows = [][]string{nil}
			v.row, v.col = 0, 0
			return
		}
		v.rows = v.rows[:v.row+1]
		v.rows[v.row] = v.rows[v.row][:min(v.col, len(v.rows[v.row]))]
	case 'H':
	case 'A', 'C':
		if _, err := fmt.Sscanf(code, "\x1b[%d", &n); err != nil {
			v.bad = code
		}
		if last == 'A' {
			if v.row -= n; v.row < 0 {
				v.bad, v.row = "up beyond the top", 0
			}
		} else {
			v.col = min(v.col+n, v.columns-1)
		}
	default:
		v.bad = code
	}
}

func (v *vt) put(r rune) {
	w := width(r)
	row := v.rows[v.row]
	if w == 0 {
		if v.col > 0 {
			row[v.col-1] += string(r)
		}
		return
	}
	if v.col+w > v.columns && v.wraps {
		v.col = 0
		v.newline()
		row = v.rows[v.row]
	} else if v.col+w > v.columns {
		v.bad = "a letter beyond the edge"
		return
	}
	for len(row) < v.col+w {
		row = append(row, " ")
	}
	row[v.col] = string(r)
	if w == 2 {
		row[v.col+1] = ""
	}
	v.rows[v.row] = row
	v.col += w
}

// text is the screen's rows, with the cursor shown as _ before what it is on.
func (v *vt) text() []string {
	var rows []string
	for i, cells := range v.rows {
		row := strings.Join(cells, "")
		if i == v.row {
			for len(cells) < v.col {
				cells = append(slices.Clone(cells), " ")
			}
			row = strings.Join(cells[:v.col], "") + "_" + strings.Join(cells[v.col:], "")
		}
		rows = append(rows, row)
	}
	if v.bad != "" {
		rows = append(rows, "BAD: "+v.bad)
	}
	return rows
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
