package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kind is what an option's value is.
type kind int

const (
	text   kind = iota
	number      // a whole number from 0
	list        // words; it may be given more than once, and each may have commas
	flag        // T or F, 1 or 0, true or false; alone it is T
)

// option is one that a command takes, as -name=value or -name value. The case
// of its name does not matter, and two dashes are as good as one.
type option struct {
	name    string
	aliases []string
	kind    kind
	value   string // what its value is called in the help
	help    string
}

// options are the values given, by option name; flags are "T" or "F".
type options map[string]string

func (o options) has(name string) bool {
	_, given := o[name]
	return given
}

func (o options) text(name string) string { return o[name] }

// words returns the words of a list, none where it was not given.
func (o options) words(name string) []string {
	if !o.has(name) {
		return nil
	}
	return strings.Split(o[name], ",")
}

// flag returns a flag's value, or fallback where it was not given.
func (o options) flag(name string, fallback bool) bool {
	value, given := o[name]
	if !given {
		return fallback
	}
	return value == "T"
}

// number returns a number's value, or fallback where it was not given.
func (o options) number(name string, fallback uint64) uint64 {
	value, given := o[name]
	if !given {
		return fallback
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		panic("unreachable: parse admits numbers only")
	}
	return n
}

// parse reads the arguments after a command's words.
func (c *command) parse(args []string) (options, error) {
	o := options{}
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name, value, inline := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		if !strings.HasPrefix(word, "-") || name == "" {
			return nil, &usageError{fmt.Sprintf("%q is not expected; options are -name=value", word)}
		}
		opt, err := c.option(name)
		if err != nil {
			return nil, err
		}
		before, again := o[opt.name]
		if again && opt.kind != list {
			return nil, &usageError{fmt.Sprintf("-%s is given twice", opt.name)}
		}
		if !inline && len(args) > 0 && opt.takes(args[0]) {
			value, inline, args = args[0], true, args[1:]
		}
		if o[opt.name], err = opt.check(value, inline); err != nil {
			return nil, err
		}
		if again {
			o[opt.name] = before + "," + o[opt.name]
		}
	}
	return o, nil
}

// takes reports whether the next word of the command line is the option's
// value. A value that begins with a dash needs the form -name=value.
func (opt *option) takes(word string) bool {
	if opt.kind == flag {
		_, is := truth(word)
		return is
	}
	return !strings.HasPrefix(word, "-")
}

// check returns the value in its one form.
func (opt *option) check(value string, given bool) (string, error) {
	switch {
	case opt.kind == flag && !given:
		return "T", nil
	case opt.kind == flag:
		v, is := truth(value)
		if !is {
			return "", &usageError{fmt.Sprintf("-%s=%s; expected T or F", opt.name, value)}
		}
		return v, nil
	case value == "":
		return "", &usageError{fmt.Sprintf("-%s needs a value: -%s=%s", opt.name, opt.name, opt.value)}
	case opt.kind == number:
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return "", &usageError{fmt.Sprintf("-%s=%s; expected a number", opt.name, value)}
		}
	}
	return value, nil
}

func truth(word string) (value string, is bool) {
	switch strings.ToLower(word) {
	case "t", "1", "true":
		return "T", true
	case "f", "0", "false":
		return "F", true
	}
	return "", false
}

func (c *command) option(name string) (*option, error) {
	var names []string
	for i := range c.options {
		opt := &c.options[i]
		if strings.EqualFold(opt.name, name) ||
			slices.ContainsFunc(opt.aliases, func(alias string) bool { return strings.EqualFold(alias, name) }) {
			return opt, nil
		}
		names = append(names, opt.name)
	}
	return nil, &usageError{fmt.Sprintf("-%s is not an option of %s; %s", name, c.name, suggestion("-", nearest(name, names), "cmu help "+c.name))}
}

// nearest returns the word that typed was most probably meant to be, or "".
func nearest(typed string, words []string) string {
	typed = strings.ToLower(typed)
	best, least := "", (len(typed)+1)/2+1
	for _, word := range words {
		d := distance(typed, strings.ToLower(word))
		if strings.HasPrefix(strings.ToLower(word), typed) {
			d = min(d, 1)
		}
		if d < least {
			best, least = word, d
		}
	}
	return best
}

// distance is Levenshtein's: how many letters to put in, take out or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
