package cli

import (
	"fmt"
	"slices"
	"strings"

	"moongate/internal/gw/config"
)

// place is an element of the configuration as the command line reaches it: by
// words, of which the device's and the virtual system's own are left out, as
// there is one of each.
//
//	rulebase decryption rules "branch offices"
//
// is the entry below the rules of vsys1. The zero place is the top.
type place struct {
	words []string
	path  string
	row   config.Row
}

func (p place) top() bool { return len(p.words) == 0 }

// roots are where a first word may lie, in the order to look.
func roots() []place {
	var list []place
	for _, path := range []string{config.VsysPath, config.DevicePath, "/config"} {
		row, err := config.Lookup(path)
		if err != nil {
			panic("cli: the schema lacks " + path) // any test finds it
		}
		list = append(list, place{path: path, row: row})
	}
	return list
}

// below returns the place of one more word, and whether there is one. The word
// is a child's name, or an entry's in a list of them.
func (p place) below(name string) (place, bool) {
	if p.top() {
		for _, root := range roots() {
			if row, ok := root.row.Child(name); ok && row.State() != config.Awaited {
				return place{[]string{name}, root.path + "/" + name, row}, true
			}
		}
		return place{}, false
	}
	words := append(p.words[:len(p.words):len(p.words)], name)
	if p.row.Kind() == config.KindList {
		path := p.path + "/" + config.EntryStep(name)
		row, err := config.Lookup(path)
		return place{words, path, row}, err == nil
	}
	row, ok := p.row.Child(name)
	return place{words, p.path + "/" + name, row}, ok && row.State() != config.Awaited
}

// children are the rows that may come next, without those that nothing obeys
// yet; none of a list of entries.
func (p place) children() []config.Row {
	var list []config.Row
	switch {
	case p.top():
		for _, root := range roots() {
			list = append(list, root.row.Children()...)
		}
	case !p.isList():
		list = p.row.Children()
	}
	return slices.DeleteFunc(list, func(r config.Row) bool { return r.State() == config.Awaited })
}

// unknown says that a word leads nowhere.
func (p place) unknown(name string) error {
	if !p.top() {
		return refusedBelow(p, name)
	}
	var names []string
	for _, row := range p.children() {
		names = append(names, row.Name())
	}
	if near := config.Nearest(name, names); near != "" {
		return fmt.Errorf("unknown element, got %q, did you mean %q?", name, near)
	}
	return fmt.Errorf("unknown element, got %q, expected one of %s", name, strings.Join(names, ", "))
}

// refusedBelow says why a word cannot follow a place that is in the schema.
func refusedBelow(p place, name string) error {
	row, err := config.Lookup(p.path + "/" + name)
	switch {
	case err != nil:
		return err
	case row.State() == config.Awaited:
		return fmt.Errorf("%s: not supported yet", row.Path())
	}
	return fmt.Errorf("%q cannot stand after %s", name, strings.Join(quoteAll(p.words), " "))
}

// isList reports a list of entries, whose next word is a name.
func (p place) isList() bool { return !p.top() && p.row.Kind() == config.KindList }

// walk follows words as far as they lead to elements. What is left is a value.
func (p place) walk(words []word) (place, []word, error) {
	for len(words) > 0 {
		if !p.top() && (p.row.Kind() == config.KindLeaf || p.row.Kind() == config.KindMembers) {
			break
		}
		next, ok := p.below(words[0].Text)
		if !ok {
			if p.isList() {
				_, err := config.Lookup(p.path + "/" + config.EntryStep(words[0].Text))
				return p, words, err
			}
			return p, words, p.unknown(words[0].Text)
		}
		p, words = next, words[1:]
	}
	return p, words, nil
}
