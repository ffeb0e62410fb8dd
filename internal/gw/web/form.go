package web

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// Form is what was typed, and what is wrong with it, field by field.
type Form struct {
	values url.Values
	errs   map[string]string
	other  []string // of no field
}

func newForm(values url.Values) *Form { return &Form{values: values, errs: map[string]string{}} }

// blank is the form of a page that nobody sent yet, with what is there.
func blank(pairs ...string) *Form {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Add(pairs[i], pairs[i+1])
	}
	return newForm(values)
}

// Text is a field's value, without white space around it.
func (f *Form) Text(name string) string { return strings.TrimSpace(f.values.Get(name)) }

// Secret is a field's value as it was typed.
func (f *Form) Secret(name string) []byte { return []byte(f.values.Get(name)) }

// List is all of a field's values.
func (f *Form) List(name string) []string { return f.values[name] }

// Lines is a text's lines, without empty ones.
func (f *Form) Lines(name string) []string {
	var list []string
	for line := range strings.Lines(f.values.Get(name)) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// Checked reports whether a box is.
func (f *Form) Checked(name string) bool { return f.values.Get(name) == "yes" }

// Number reads a whole number; what is none, or is outside, is the field's
// error.
func (f *Form) Number(name string, least, most int) int {
	text := f.Text(name)
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		f.Fail(name, "got %q, expected a whole number from %d to %d", text, least, most)
	}
	return n
}

// Needed reads a text that must be there.
func (f *Form) Needed(name string) string {
	text := f.Text(name)
	if text == "" {
		f.Fail(name, "this is needed")
	}
	return text
}

// Fail says what is wrong with a field; the first word counts.
func (f *Form) Fail(name, format string, args ...any) {
	if f.errs[name] == "" {
		f.errs[name] = fmt.Sprintf(format, args...)
	}
}

// Add says what is wrong with no field in particular.
func (f *Form) Add(text string) { f.other = append(f.other, text) }

// Error is what is wrong with a field; "" for nothing.
func (f *Form) Error(name string) string { return f.errs[name] }

// Errors are those of no field.
func (f *Form) Errors() []string { return f.other }

// OK reports whether nothing is wrong.
func (f *Form) OK() bool { return len(f.errs) == 0 && len(f.other) == 0 }

// Take puts an error of mgmt where it belongs: each line, or problem of the
// configuration, beside the field whose path it ends in. fields maps the end
// of a path to a field.
func (f *Form) Take(err error, fields map[string]string) {
	if err == nil {
		return
	}
	var problems config.Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			f.put(p.Path, p.Text, fields)
		}
		return
	}
	var problem config.Problem
	if errors.As(err, &problem) {
		f.put(problem.Path, problem.Text, fields)
		return
	}
	var e *mgmt.Error
	if errors.As(err, &e) {
		for _, line := range e.Lines {
			path, text, found := strings.Cut(line, ": ")
			if !found || !strings.HasPrefix(path, "/") {
				path, text = "", line
			}
			f.put(path, text, fields)
		}
		return
	}
	f.Add(err.Error())
}

func (f *Form) put(path, text string, fields map[string]string) {
	longest := ""
	element, _, _ := strings.Cut(path, "/member") // a list of values is one field
	for end := range fields {
		if strings.HasSuffix(element, end) && len(end) > len(longest) {
			longest = end
		}
	}
	switch {
	case longest != "":
		f.Fail(fields[longest], "%s", text)
	case path != "":
		f.Add(path + ": " + text)
	default:
		f.Add(text)
	}
}
