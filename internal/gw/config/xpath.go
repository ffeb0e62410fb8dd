package config

import (
	"fmt"
	"strings"
)

// PathError says why a text is no path of the subset of XPath that is read
// here: absolute, of elements, with predicates on an entry's name and on a
// member's text.
type PathError struct {
	Path string // as it was given
	Text string // what is wrong and what was expected
}

func (e *PathError) Error() string {
	return fmt.Sprintf("not a path, got %s, %s", shown(e.Path), e.Text)
}

// selector is one step of such a path: a step that may name several nodes.
type selector struct {
	name string   // the element; "*" for any
	keys []string // of the entries' names, or the members' texts; nil for every one
}

// String writes the selector as XPath.
func (s selector) String() string {
	if len(s.keys) == 0 {
		return s.name
	}
	what := "@name="
	if s.name == memberName {
		what = "text()="
	}
	parts := make([]string, len(s.keys))
	for i, k := range s.keys {
		parts[i] = what + quoted(k)
	}
	return s.name + "[" + strings.Join(parts, " or ") + "]"
}

// matches reports whether the selector means the node.
func (s selector) matches(n *Node) bool {
	if s.name != "*" && s.name != n.Name {
		return false
	}
	if s.keys == nil {
		return true
	}
	is := n.Entry
	if s.name == memberName {
		is = n.Text
	}
	for _, k := range s.keys {
		if k == is {
			return true
		}
	}
	return false
}

// What a path may be, whatever it means.
const (
	maxPath     = 64 << 10 // bytes
	maxPathKeys = 1000     // alternatives of one predicate
)

// xpath is a parsed path.
type xpath struct {
	steps []selector
	names bool // ends in /@name: the entries' names alone
}

func (p xpath) String() string {
	var b strings.Builder
	for _, s := range p.steps {
		b.WriteString("/" + s.String())
	}
	if p.names {
		b.WriteString("/@name")
	}
	return b.String()
}

// parseXPath reads an absolute path:
//
//	/config/devices/entry[@name='localhost.localdomain']/vsys/entry/…
//
// Quotation marks of both kinds, white space within predicates, alternatives
// (entry[@name='a' or @name='b'], member[text()='x']), * for any element, a
// slash at the end, and /@name at the end are understood; all else of XPath is
// refused. An error is a *PathError.
func parseXPath(path string) (xpath, error) {
	p := pathParser{rest: path}
	var found xpath
	fail := func(format string, args ...any) (xpath, error) {
		return xpath{}, &PathError{path, fmt.Sprintf(format, args...)}
	}
	if len(path) > maxPath {
		return fail("expected at most %d bytes", maxPath)
	}
	for p.rest != "" {
		if !p.take("/") {
			return fail("expected / before %s", shown(p.rest))
		}
		if p.rest == "" && len(found.steps) > 0 {
			break
		}
		if len(found.steps) == maxDepth {
			return fail("expected at most %d elements", maxDepth)
		}
		if p.take("@name") {
			if p.rest != "" || len(found.steps) == 0 || found.steps[len(found.steps)-1].name != entryName {
				return fail("expected @name at the end alone, after entry")
			}
			found.names = true
			break
		}
		s := selector{name: p.word()}
		switch {
		case s.name == "":
			return fail("expected an element's name after each /")
		case strings.HasPrefix(p.rest, "["):
			keys, wrong := p.predicate(s.name)
			if wrong != "" {
				return fail("%s", wrong)
			}
			s.keys = keys
		}
		found.steps = append(found.steps, s)
	}
	if len(found.steps) == 0 {
		return fail("expected /config/…")
	}
	return found, nil
}

// pathParser is what is left to read.
type pathParser struct{ rest string }

func (p *pathParser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *pathParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// word takes an element's name or *, "" when there is neither.
func (p *pathParser) word() string {
	if p.take("*") {
		return "*"
	}
	end := 0
	for end < len(p.rest) && isElementName(p.rest[end:end+1]) {
		end++
	}
	if end > maxName {
		return ""
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// predicate takes [@name='a' or @name='b'] of an entry, [text()='a'] of a
// member, and says what is wrong otherwise.
func (p *pathParser) predicate(element string) (keys []string, wrong string) {
	subject, expected := "@name", "expected entry[@name='…']"
	switch element {
	case entryName:
	case memberName:
		subject, expected = "text()", "expected member[text()='…']"
	default:
		return nil, "expected a predicate of an entry or a member alone"
	}
	p.take("[")
	for {
		p.space()
		if !p.take(subject) {
			return nil, expected
		}
		p.space()
		if !p.take("=") {
			return nil, expected
		}
		p.space()
		key, ok := p.literal()
		if !ok {
			return nil, expected
		}
		if element == entryName {
			if problem := nameProblem(key); problem != "" {
				return nil, "the entry's name " + problem
			}
		}
		if len(keys) == maxPathKeys {
			return nil, fmt.Sprintf("expected at most %d alternatives", maxPathKeys)
		}
		keys = append(keys, key)
		p.space()
		if p.take("]") {
			return keys, ""
		}
		if !p.take("or ") && !p.take("or\t") && !p.take("or\n") {
			return nil, expected
		}
	}
}

// literal takes a string of XPath: 'a' or "a".
func (p *pathParser) literal() (string, bool) {
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", false
	}
	value, rest, ok := strings.Cut(p.rest[1:], p.rest[:1])
	p.rest = rest
	return value, ok
}

// quoted writes a string as a literal of XPath. A text with both kinds of
// quotation mark has none in XPath 1.0; no entry is called so.
func quoted(s string) string {
	if strings.Contains(s, "'") {
		return `"` + s + `"`
	}
	return "'" + s + "'"
}
