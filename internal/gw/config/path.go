package config

import (
	"fmt"
	"strings"
)

// step is one part of a path: an element, and for an entry its name.
type step struct{ name, entry string }

// String writes the step as XPath: hostname, entry[@name='vsys1'].
func (s step) String() string {
	if s.name != entryName {
		return s.name
	}
	return entryName + "[@name=" + quoted(s.entry) + "]" // a name never holds both marks: nameProblem
}

// EntryStep is the path of an entry below its list, entry[@name='…'], for
// paths that are put together: list + "/" + EntryStep(name).
func EntryStep(name string) string { return step{entryName, name}.String() }

// parsePath reads an absolute path of elements, entries with their names. It
// is the part of XPath that names one node.
func parsePath(path string) ([]step, error) {
	rest := path
	var steps []step
	for rest != "" {
		after, rooted := strings.CutPrefix(rest, "/")
		if !rooted {
			return nil, fmt.Errorf("not a path, got %s, expected / before %s", shown(path), shown(rest))
		}
		end := strings.IndexAny(after, "/[")
		if end < 0 {
			end = len(after)
		}
		s := step{name: after[:end]}
		rest = after[end:]
		if s.name == "" || len(s.name) > maxName || !isElementName(s.name) {
			return nil, fmt.Errorf("not a path, got %s, expected an element's name after each /", shown(path))
		}
		if s.name == entryName {
			name, left, err := parsePredicate(rest)
			if err != nil {
				return nil, fmt.Errorf("not a path, got %s, %w", shown(path), err)
			}
			s.entry, rest = name, left
		}
		steps = append(steps, s)
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("not a path, got %s, expected /config/…", shown(path))
	}
	return steps, nil
}

// mustPath is parsePath of a constant of ours.
func mustPath(path string) []step {
	steps, err := parsePath(path)
	if err != nil {
		panic("config: a path of ours is none: " + err.Error()) // any test finds it
	}
	return steps
}

// isElementName reports what the schema's names are made of.
func isElementName(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return true
}

// parsePredicate reads [@name='…'] and returns the name and what follows.
func parsePredicate(s string) (name, rest string, err error) {
	expected := fmt.Errorf("expected entry[@name='…']")
	quoted, ok := strings.CutPrefix(s, "[@name=")
	if !ok || quoted == "" || quoted[0] != '\'' && quoted[0] != '"' {
		return "", "", expected
	}
	name, rest, ok = strings.Cut(quoted[1:], quoted[:1])
	if !ok {
		return "", "", expected
	}
	rest, ok = strings.CutPrefix(rest, "]")
	if !ok {
		return "", "", expected
	}
	if problem := nameProblem(name); problem != "" {
		return "", "", fmt.Errorf("the entry's name %s", problem)
	}
	return name, rest, nil
}

// maxEntryName is a bound for any tree, in bytes; the schema's are narrower.
const maxEntryName = 256

// nameProblem says why no entry can have the name, "" when one can: a name is
// part of paths, which are parsed, printed and logged.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxEntryName:
		return fmt.Sprintf("is longer than %d bytes", maxEntryName)
	case strings.TrimSpace(name) != name:
		return "begins or ends with white space"
	case strings.ContainsFunc(name, isControl):
		return "holds a control character"
	case strings.Contains(name, "'") && strings.Contains(name, `"`):
		return "holds both kinds of quotation mark"
	}
	return ""
}

// isControl reports characters that move a cursor or forge a line in a log:
// C0, DEL, C1, the line separators and the bidirectional overrides.
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r <= 0x9f ||
		r == '\u2028' || r == '\u2029' ||
		r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}
