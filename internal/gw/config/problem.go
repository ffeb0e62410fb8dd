package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string // set by Load alone
	Line int    // from 1; 0 where the tree was not read from text
	Path string // in XPath form, as an administrator may copy it
	Text string // what is wrong, what was found, what was expected
}

// Error is "path: what is wrong, got "…", expected …", after "file:line: "
// where those are known.
func (p Problem) Error() string {
	if p.File != "" {
		return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Path, p.Text)
	}
	return p.Path + ": " + p.Text
}

// Problems is everything that was found wrong, in the order of the text. It
// prints as one line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// Warning is something that is allowed and that an administrator should know.
type Warning Problem

func (w Warning) String() string { return Problem(w).Error() }

// maxProblems bounds what is collected, so that five megabytes of nonsense
// make a page of answers and not five more megabytes.
const maxProblems = 100

// full says that one more problem would not be kept.
func (ps Problems) full() bool { return len(ps) > maxProblems }

// add appends a problem; the one after the last that is kept says that there
// are more.
func (ps *Problems) add(line int, path, format string, args ...any) {
	switch {
	case ps.full():
	case len(*ps) == maxProblems:
		*ps = append(*ps, Problem{Line: line, Path: path, Text: fmt.Sprintf("more than %d problems, the rest is not shown", maxProblems)})
	default:
		*ps = append(*ps, Problem{Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
	}
}

// orNil returns the problems as an error that is nil when there are none.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// maxShown is how much of a wrong value an error repeats, in bytes.
const maxShown = 64

// shown quotes a value for an error text.
func shown(s string) string {
	if len(s) <= maxShown {
		return fmt.Sprintf("%q", s)
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%q…", s[:cut])
}

// oneOf writes names as a choice: a, b or c. Of many, the first few.
func oneOf(names []string) string {
	const most = 12
	switch n := len(names); {
	case n == 0:
		return "nothing"
	case n == 1:
		return names[0]
	case n > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" or one of %d more", n-most)
	default:
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
}
