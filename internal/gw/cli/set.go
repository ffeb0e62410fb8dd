package cli

import (
	"errors"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
)

// setEdit makes the edit of a set command's words at a place. After a value the
// words may go on with a sibling of what was set, or one of its parents':
//
//	set rulebase decryption rules r1 action decrypt source [ 10.0.0.0/8 any ]
func setEdit(at place, words []word) (config.Edit, error) {
	if len(words) == 0 {
		return config.Edit{}, errors.New("set takes a path and its value; ? shows what may follow")
	}
	base, words, err := anchor(at, words)
	if err != nil {
		return config.Edit{}, err
	}
	root := &config.Node{}
	b := builder{open: []frame{{base, root}}}
	for len(words) > 0 {
		if words, err = b.take(words); err != nil {
			return config.Edit{}, err
		}
	}
	return config.Edit{Op: config.OpSet, Path: base.path, Elements: root.Children}, nil
}

// anchor is the place that the elements of a set command are put below: where
// the session is, or the parent of the first word's element at the top; and for
// a list, the list's own parent, since a list is an element too.
func anchor(at place, words []word) (place, []word, error) {
	if at.isList() {
		entry, ok := at.below(words[0].Text)
		if !ok {
			_, err := config.Lookup(at.path + "/" + config.EntryStep(words[0].Text))
			return place{}, nil, err
		}
		return entry, words[1:], nil
	}
	if !at.top() {
		return at, words, nil
	}
	for _, root := range roots() {
		if _, ok := root.row.Child(words[0].Text); ok {
			// Its words stay those of the top: none.
			return place{path: root.path, row: root.row}, words, nil
		}
	}
	return place{}, nil, at.unknown(words[0].Text)
}

// frame is an element that a set command has opened.
type frame struct {
	place
	node *config.Node
}

// builder makes elements of words.
type builder struct{ open []frame } // outermost first

// take takes one element and, of a leaf or a list of members, its value.
func (b *builder) take(words []word) ([]word, error) {
	name := words[0].Text
	for depth := len(b.open) - 1; depth >= 0; depth-- {
		f := b.open[depth]
		row, ok := f.row.Child(name)
		if !ok || f.isBareList() || row.State() == config.Awaited {
			continue
		}
		b.open = b.open[:depth+1]
		next := place{append(f.words[:len(f.words):len(f.words)], name), f.path + "/" + name, row}
		return b.enter(f, next, words[1:])
	}
	return nil, b.open[len(b.open)-1].unknownIn(name)
}

// isBareList reports a list of entries that no entry was chosen of.
func (f frame) isBareList() bool { return f.row.Kind() == config.KindList }

// unknownIn says that a word is no child of a frame, whose place may be a root
// with no words.
func (f frame) unknownIn(name string) error {
	return refusedBelow(f.place, name)
}

// enter puts the element of a row into its parent.
func (b *builder) enter(parent frame, p place, words []word) ([]word, error) {
	node := childOf(parent.node, p.row.Name())
	where := strings.Join(quoteAll(p.words), " ")
	switch p.row.Kind() {
	case config.KindLeaf:
		if len(words) == 0 {
			return nil, fmt.Errorf("%s takes a value, expected %s", where, p.row.Doc())
		}
		node.Text = words[0].Text
		return words[1:], nil
	case config.KindMembers:
		values, rest, err := valueList(words)
		if err != nil {
			return nil, fmt.Errorf("%s: %w, expected %s", where, err, p.row.Doc())
		}
		for _, v := range values {
			node.Children = append(node.Children, &config.Node{Name: "member", Text: v})
		}
		return rest, nil
	case config.KindList:
		if len(words) == 0 {
			return nil, fmt.Errorf("%s is a list: a name is expected after it", where)
		}
		name := words[0].Text
		path := p.path + "/" + config.EntryStep(name)
		row, err := config.Lookup(path)
		if err != nil {
			return nil, err
		}
		entry := &config.Node{Name: "entry", Entry: name}
		node.Children = append(node.Children, entry)
		b.open = append(b.open, frame{place{append(p.words, name), path, row}, entry})
		return words[1:], nil
	default:
		b.open = append(b.open, frame{p, node})
		return words, nil
	}
}

// childOf returns the child of that name, a new one where there is none.
func childOf(parent *config.Node, name string) *config.Node {
	for _, c := range parent.Children {
		if c.Name == name {
			return c
		}
	}
	c := &config.Node{Name: name}
	parent.Children = append(parent.Children, c)
	return c
}

// valueList reads one value, or several within brackets.
func valueList(words []word) (values []string, rest []word, err error) {
	if len(words) == 0 {
		return nil, nil, errors.New("a value is missing")
	}
	if !is(words[0], "[") {
		return []string{words[0].Text}, words[1:], nil
	}
	for i, w := range words[1:] {
		if is(w, "]") {
			if len(values) == 0 {
				return nil, nil, errors.New("nothing between the brackets")
			}
			return values, words[i+2:], nil
		}
		values = append(values, w.Text)
	}
	return nil, nil, errors.New("no ] after [")
}
