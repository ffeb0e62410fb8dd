package cli

import (
	"fmt"
	"regexp"
	"strings"
)

// filter is one part of a pipe: what becomes of a command's output.
type filter struct {
	keep func(line string) bool // nil: every line
	as   format                 // how a result is written; "" as the session has it
	one  string                 // count: the lines alone are counted
}

// filterHelp is what may stand after a |, for help and completion.
var filterHelp = []struct{ name, help string }{
	{"match", "only the lines that a regular expression matches"},
	{"except", "only the lines that it does not match"},
	{"count", "how many lines there are"},
	{"json", "the result as JSON"},
	{"xml", "the result as XML"},
}

// maxExpression bounds what a match is; Go's expressions take linear time.
const maxExpression = 1000

// parseFilters reads "| match x | except y". The first word is a bar.
func parseFilters(words []word) ([]filter, error) {
	var list []filter
	for len(words) > 0 {
		if len(list) == maxPipes {
			return nil, fmt.Errorf("more than %d filters", maxPipes)
		}
		words = words[1:] // the bar
		end := 0
		for end < len(words) && !is(words[end], "|") {
			end++
		}
		f, err := parseFilter(texts(words[:end]))
		if err != nil {
			return nil, err
		}
		list, words = append(list, f), words[end:]
	}
	return list, nil
}

func parseFilter(words []string) (filter, error) {
	if len(words) == 0 {
		return filter{}, fmt.Errorf("nothing after |, expected %s", filterNames())
	}
	name, args := words[0], words[1:]
	switch name {
	case "match", "except":
		if len(args) != 1 {
			return filter{}, fmt.Errorf("| %s takes one regular expression, got %d words; put it within quotation marks", name, len(args))
		}
		if len(args[0]) > maxExpression {
			return filter{}, fmt.Errorf("| %s: the expression has more than %d bytes", name, maxExpression)
		}
		re, err := regexp.Compile("(?i)" + args[0])
		if err != nil {
			return filter{}, fmt.Errorf("| %s: %q is no regular expression: %w", name, args[0], err)
		}
		wanted := name == "match"
		return filter{keep: func(line string) bool { return re.MatchString(line) == wanted }}, nil
	case "count":
		if len(args) == 0 {
			return filter{one: name}, nil
		}
	case "json", "xml":
		if len(args) == 0 {
			return filter{as: format(name)}, nil
		}
	default:
		return filter{}, fmt.Errorf("unknown filter, got %q, expected %s", name, filterNames())
	}
	return filter{}, fmt.Errorf("| %s takes no word after it, got %q", name, args[0])
}

func filterNames() string {
	names := make([]string, len(filterHelp))
	for i, f := range filterHelp {
		names[i] = f.name
	}
	return strings.Join(names, ", ")
}

// formatOf is the format that the filters ask for, or else the given one.
func formatOf(pipes []filter, otherwise format) format {
	for _, f := range pipes {
		if f.as != "" {
			otherwise = f.as
		}
	}
	return otherwise
}

// apply passes a text through the filters.
func apply(pipes []filter, text string) string {
	for _, f := range pipes {
		switch {
		case f.keep != nil:
			var kept strings.Builder
			for l := range strings.Lines(text) {
				if f.keep(strings.TrimSuffix(l, "\n")) {
					kept.WriteString(l)
				}
			}
			text = kept.String()
		case f.one != "":
			n := strings.Count(text, "\n")
			if text != "" && !strings.HasSuffix(text, "\n") {
				n++
			}
			text = fmt.Sprintf("Count: %d lines\n", n)
		}
	}
	return text
}
