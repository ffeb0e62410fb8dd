package config

import (
	"fmt"
	"slices"
)

// set merges the elements below the path: containers merge, entries merge by
// their name, members are added, leaves are replaced, and one alternative of a
// choice takes the place of another.
func (t *edit) set() (*Node, error) {
	steps, rows := t.steps, t.rows
	if last := len(steps) - 1; t.row.row.kind == isLeaf {
		// Some clients give a leaf's own path, and the leaf.
		if len(t.Elements) != 1 || t.Elements[0].Name != steps[last].name {
			return nil, Problem{Path: t.pathTo(last + 1), Text: fmt.Sprintf("takes one value, expected <%s>", steps[last].name)}
		}
		steps, rows = steps[:last], rows[:last]
	}
	row := rows[len(rows)-1]
	given := &Node{Name: row.row.name, Children: t.Elements}
	v := partial(xpath{steps: steps}.String())
	v.children(given, row)
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	return t.make(steps, rows, func(n *Node) (*Node, error) { return merge(n, given, row), nil })
}

// replace puts the element in the place of what is there.
func (t *edit) replace() (*Node, error) {
	last := len(t.steps) - 1
	s := t.steps[last]
	path := t.pathTo(last + 1)
	switch {
	case last == 0:
		return nil, Problem{Path: path, Text: "the whole configuration, expected something within it"}
	case len(t.Elements) != 1:
		return nil, Problem{Path: path, Text: fmt.Sprintf("takes one element, got %d", len(t.Elements))}
	case !s.matches(t.Elements[0]):
		given := t.Elements[0].step()
		return nil, Problem{Path: path, Text: fmt.Sprintf("another element, got %s, expected %s", shown(given.String()), s)}
	}
	v := partial(t.pathTo(last))
	v.children(&Node{Children: t.Elements}, t.rows[last-1])
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	after, err := t.make(t.steps, t.rows, func(old *Node) (*Node, error) {
		return merge(&Node{Name: old.Name, Entry: old.Entry}, t.Elements[0], t.row), nil
	})
	if err != nil {
		return nil, err
	}
	return after, t.stillReferred(after)
}

// make alters what steps lead to, which is made where it is not there; an
// alternative on the way takes the place of another.
func (t *edit) make(steps []selector, rows []target, change func(*Node) (*Node, error)) (*Node, error) {
	for i := len(steps) - 1; i > 0; i-- {
		if !rows[i-1].row.choice {
			continue
		}
		inner := change
		rest, chosen, row := steps[i:], steps[i].name, rows[i-1].row
		change = func(n *Node) (*Node, error) {
			n, err := t.below(n, rest, true, inner)
			if err != nil {
				return nil, err
			}
			n = n.copied()
			n.Children = slices.DeleteFunc(n.Children, func(c *Node) bool { return c.Name != chosen && row.child(c.Name) != nil })
			return n.weighed(), nil
		}
		steps = steps[:i]
	}
	return t.alter(steps, true, change)
}

// merge makes of n, which row is the row of, a node that has what given has as
// well. Neither is written to, and nothing of given is kept.
func merge(n, given *Node, row target) *Node {
	merged := n.copied()
	merged.Attrs = slices.Clone(n.Attrs)
	for _, a := range given.Attrs {
		if i := slices.IndexFunc(merged.Attrs, func(b Attr) bool { return a.Name == b.Name }); i >= 0 {
			merged.Attrs[i] = a
		} else {
			merged.Attrs = append(merged.Attrs, a)
		}
	}
	if row.row.kind == isLeaf || row.member {
		merged.Text = trimmed(given.Text)
		return merged.weighed()
	}
	merged.Children = slices.Clone(n.Children)
	places := newPlaces(merged.Children, len(given.Children))
	for _, c := range given.Children {
		if row.row.choice && len(merged.Children) > 0 && merged.Children[0].Name != c.Name {
			merged.Children = nil
			places = newPlaces(nil, 1)
		}
		below, _ := row.next(c.Name, nil) // c is of the schema: partial saw to it
		i, there := places.of(merged.Children, c)
		if !there {
			fresh := &Node{Name: c.Name, Entry: c.Entry}
			if c.Name == memberName {
				fresh.Text = trimmed(c.Text)
			}
			merged.Children = append(merged.Children, merge(fresh, c, below))
			continue
		}
		merged.Children[i] = merge(merged.Children[i], c, below)
	}
	return merged.weighed()
}

// places finds a node's like among siblings: by looking at each, or where many
// are asked for, by an index.
type places map[string]int

// few is how often looking at each is quicker.
const few = 4

func newPlaces(siblings []*Node, asked int) places {
	if asked <= few {
		return nil
	}
	p := make(places, len(siblings)+asked)
	for i, s := range siblings {
		p[s.key()] = i
	}
	return p
}

// of returns the place of the sibling that n is of the same key as; if there is
// none, n's will be at the end.
func (p places) of(siblings []*Node, n *Node) (int, bool) {
	text := trimmed(n.Text)
	if p == nil {
		i := slices.IndexFunc(siblings, func(s *Node) bool {
			return s.Name == n.Name && s.Entry == n.Entry && (n.Name != memberName || s.Text == text)
		})
		return i, i >= 0
	}
	key := (&Node{Name: n.Name, Entry: n.Entry, Text: text}).key()
	i, there := p[key]
	if !there {
		p[key] = len(siblings)
	}
	return i, there
}
