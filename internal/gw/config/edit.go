package config

import (
	"errors"
	"fmt"
	"slices"
)

// Op is what an edit does, in the XML API's words.
type Op string

const (
	OpSet    Op = "set"    // merges elements below a path, which it makes
	OpEdit   Op = "edit"   // puts one element in the place of another, or where none was
	OpDelete Op = "delete" // removes what a path means
	OpRename Op = "rename" // gives an entry another name, in what refers to it as well
	OpMove   Op = "move"   // puts an entry elsewhere in its list
	OpClone  Op = "clone"  // copies an entry to the end of its list
)

// The places of OpMove.
const (
	Top    = "top"
	Bottom = "bottom"
	Before = "before" // the entry that Dst names
	After  = "after"
)

// Edit is one change of a configuration, as the XML API and the CLI say it.
type Edit struct {
	Op       Op      `json:"op"`
	Path     string  `json:"path"`               // absolute; of clone, the entry that is copied
	Elements []*Node `json:"elements,omitempty"` // set: what is merged below Path; edit: the one element in its place
	NewName  string  `json:"new-name,omitempty"` // of rename and clone
	Where    string  `json:"where,omitempty"`    // of move
	Dst      string  `json:"dst,omitempty"`      // of move before and after: an entry's name
}

// What edits fail with, besides Problem, Problems, *PathError and *RefError.
var (
	// ErrNotPresent is wrapped where a path, or a move's Dst, is of nothing that is there.
	ErrNotPresent = errors.New("not present")
	// ErrNotUnique is wrapped where a new name is taken, or a path means several nodes.
	ErrNotUnique = errors.New("not unique")
)

// Apply makes the tree that an edit makes of root: a new one, which shares with
// root what did not change; root itself stays as it is. Elements are copied,
// and held against the schema: an unknown element, a value that it cannot have
// and what is not supported yet are refused here. What is missing and what
// contradicts something else is Compile's to say, since the next edit may mend
// it; but an entry that is in use is not removed.
//
// Errors are a Problem or Problems, a *PathError, a *RefError, or wrap
// ErrNotPresent or ErrNotUnique.
func Apply(root *Node, e Edit) (*Node, error) {
	p, err := parseXPath(e.Path)
	if err != nil {
		return nil, err
	}
	if p.names {
		return nil, &PathError{e.Path, "expected an element, not an attribute"}
	}
	t := &edit{Edit: e, root: root, steps: p.steps}
	if err := t.resolve(); err != nil {
		return nil, err
	}
	var after *Node
	switch e.Op {
	case OpSet:
		after, err = t.set()
	case OpEdit:
		after, err = t.replace()
	case OpDelete:
		after, err = t.delete()
	case OpRename:
		after, err = t.rename()
	case OpMove:
		after, err = t.move()
	case OpClone:
		after, err = t.clone()
	default:
		return nil, Problem{Path: e.Path, Text: fmt.Sprintf("unknown kind of edit, got %s, expected %s", shown(string(e.Op)),
			oneOf([]string{string(OpSet), string(OpEdit), string(OpDelete), string(OpRename), string(OpMove), string(OpClone)}))}
	}
	if err != nil {
		return nil, err
	}
	if e.Op != OpDelete && e.Op != OpMove {
		if err := fits(after); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// SetEdit makes the edit that sets one path, as the administrator's set command
// says it: a leaf takes one value, a list of members one or more, a container
// or an entry none. An error is a Problem or a *PathError.
func SetEdit(path string, values ...string) (Edit, error) {
	p, err := parseXPath(path)
	if err != nil {
		return Edit{}, err
	}
	if last := len(p.steps) - 1; last > 0 && p.steps[last].name == memberName && p.steps[last].keys == nil {
		p.steps = p.steps[:last] // …/source/member, as Set takes it
	}
	t := edit{steps: p.steps, root: &Node{Name: schema.name}}
	if err := t.resolve(); err != nil {
		return Edit{}, err
	}
	if err := t.row.check(path, values); err != nil {
		return Edit{}, err
	}
	last := len(t.steps) - 1
	if last == 0 {
		return Edit{Op: OpSet, Path: path}, nil
	}
	n := &Node{Name: t.steps[last].name}
	if n.Name == entryName {
		n.Entry = t.steps[last].keys[0]
	}
	switch t.row.row.kind {
	case isLeaf:
		n.Text = trimmed(values[0])
	case isMembers:
		for _, v := range values {
			n.Children = append(n.Children, &Node{Name: memberName, Text: trimmed(v)})
		}
	}
	return Edit{Op: OpSet, Path: xpath{steps: t.steps[:last]}.String(), Elements: []*Node{n}}, nil
}

// edit is an Edit under way.
type edit struct {
	Edit
	root  *Node
	steps []selector
	row   target // what the whole path leads to
	rows  []target
}

// resolve follows the path through the schema, and gives a bare entry the one
// name that it can have. At the end, delete alone may mean several.
func (t *edit) resolve() error {
	n := t.root // the node that the steps so far lead to, nil when it is not there
	if t.steps[0].name != schema.name {
		return Problem{Path: t.pathTo(1), Text: fmt.Sprintf("unknown element, got %s, expected %s", shown(t.steps[0].name), schema.name)}
	}
	at := target{row: schema}
	t.rows = []target{at}
	for i := 1; i < len(t.steps); i++ {
		s, last := &t.steps[i], i == len(t.steps)-1
		if s.name == "*" {
			return &PathError{t.Path, "expected the name of what is changed instead of *"}
		}
		if s.name == entryName && s.keys == nil && at.list() {
			if err := t.name(s, at, n, last); err != nil {
				return err
			}
		}
		if len(s.keys) > 1 && !(last && t.Op == OpDelete) {
			return &PathError{t.Path, "expected one name in each predicate"}
		}
		next, wrong := at.next(s.name, s.keys)
		if wrong != "" {
			return Problem{Path: t.pathTo(i + 1), Text: wrong}
		}
		if next.member && !(last && t.Op == OpDelete) {
			return &PathError{t.Path, "expected the list instead of a member of it"}
		}
		if next.row.state == Awaited {
			return Problem{Path: t.pathTo(i + 1), Text: "not supported yet"}
		}
		if n != nil {
			n = n.first(*s)
		}
		at = next
		t.rows = append(t.rows, at)
	}
	t.row = at
	return nil
}

// name finds out which entry a bare entry is: the list's only possible one, or
// the only one that is there.
func (t *edit) name(s *selector, list target, n *Node, last bool) error {
	if words := list.row.key.words; len(words) == 1 && list.row.key.closed {
		s.keys = words
		return nil
	}
	var there []string
	if n != nil {
		for _, c := range n.Children {
			if c.Name == entryName {
				there = append(there, c.Entry)
			}
		}
	}
	switch {
	case len(there) == 1:
		s.keys = there
		return nil
	case len(there) > 1:
		return fmt.Errorf("%s: %w: %d entries, expected entry[@name='…']", shown(t.Path), ErrNotUnique, len(there))
	case t.Op == OpSet || t.Op == OpEdit:
		return &PathError{t.Path, "expected entry[@name='…']"}
	}
	return t.absent()
}

func (t *edit) pathTo(n int) string { return xpath{steps: t.steps[:n]}.String() }

func (t *edit) absent() error { return fmt.Errorf("%s: %w", t.pathTo(len(t.steps)), ErrNotPresent) }

// list reports a list of entries itself, which its entries are not.
func (t target) list() bool { return t.row.kind == isEntries && !t.entry && !t.member }

// next is where a step leads to, or what is wrong with it.
func (t target) next(name string, keys []string) (target, string) {
	switch {
	case t.member:
		return target{}, fmt.Sprintf("unknown element, got %s, expected none within a member", shown(name))
	case t.list() && name != entryName:
		return target{}, fmt.Sprintf("unknown element, got %s, expected entry[@name='…']", shown(name))
	case t.list():
		for _, key := range keys {
			if problem := t.row.key.problem(key); problem != "" {
				return target{}, problem
			}
		}
		return target{row: t.row, entry: true}, ""
	case t.row.kind == isMembers && name == memberName:
		return target{row: t.row, member: true}, ""
	}
	row := t.row.child(name)
	if row == nil {
		return target{}, t.row.unknown(name)
	}
	return target{row: row}, ""
}

// first returns the first child that the selector means, nil when there is none.
func (n *Node) first(s selector) *Node {
	for _, c := range n.Children {
		if s.matches(c) {
			return c
		}
	}
	return nil
}

// alter copies the nodes along steps and puts in the place of the last what
// change makes of it; nil removes it. With create, what is not there is made;
// without, it is ErrNotPresent.
func (t *edit) alter(steps []selector, create bool, change func(*Node) (*Node, error)) (*Node, error) {
	return t.below(t.root, steps[1:], create, change)
}

func (t *edit) below(n *Node, steps []selector, create bool, change func(*Node) (*Node, error)) (*Node, error) {
	if len(steps) == 0 {
		return change(n)
	}
	s := steps[0]
	i := slices.IndexFunc(n.Children, s.matches)
	var c *Node
	switch {
	case i >= 0:
		c = n.Children[i]
	case create:
		c = &Node{Name: s.name}
		if s.name == entryName {
			c.Entry = s.keys[0]
		}
	default:
		return nil, t.absent()
	}
	changed, err := t.below(c, steps[1:], create, change)
	if err != nil {
		return nil, err
	}
	copied := n.copied()
	switch {
	case changed == nil:
		copied.Children = slices.Concat(n.Children[:i], n.Children[i+1:])
	case i >= 0:
		copied.Children = slices.Clone(n.Children)
		copied.Children[i] = changed
	default:
		copied.Children = append(slices.Clip(n.Children), changed)
	}
	return copied.weighed(), nil
}

func (t *edit) delete() (*Node, error) {
	last := len(t.steps) - 1
	if last == 0 {
		return nil, &PathError{t.Path, "expected something within the configuration"}
	}
	s, list := t.steps[last], t.rows[last-1]
	after, err := t.alter(t.steps[:last], false, func(parent *Node) (*Node, error) {
		left := slices.DeleteFunc(slices.Clone(parent.Children), s.matches)
		if len(left) == len(parent.Children) {
			return nil, t.absent()
		}
		// The last member's removal removes the list, unless that would mean
		// any: whoever empties a rule's source hardly means that.
		if t.row.member && len(left) == 0 && list.row.absent != anyWord && last > 1 {
			return nil, nil
		}
		copied := parent.copied()
		copied.Children = left
		return copied.weighed(), nil
	})
	if err != nil {
		return nil, err
	}
	return after, t.stillReferred(after)
}

func (t *edit) rename() (*Node, error) {
	after, err := t.siblings(func(list *Node, i int) ([]*Node, error) {
		if err := t.free(list); err != nil {
			return nil, err
		}
		for _, other := range besides(t.pathTo(len(t.steps) - 1)) {
			// What refers to the one would mean the other.
			if entryNames(t.root, other).has[t.NewName] {
				return nil, fmt.Errorf("%s: %w: there is one of that name", below(other, t.NewName), ErrNotUnique)
			}
		}
		renamed := list.Children[i].copied()
		renamed.Entry = t.NewName
		children := slices.Clone(list.Children)
		children[i] = renamed.weighed()
		return children, nil
	})
	last := len(t.steps) - 1
	if err != nil || t.steps[last].keys[0] == t.NewName {
		return after, err
	}
	return rewrite(t.root, after, t.pathTo(last), t.steps[last].keys[0], t.NewName), nil
}

func (t *edit) clone() (*Node, error) {
	return t.siblings(func(list *Node, i int) ([]*Node, error) {
		if t.NewName == list.Children[i].Entry {
			return nil, t.taken()
		}
		if err := t.free(list); err != nil {
			return nil, err
		}
		copied := list.Children[i].copied()
		copied.Entry = t.NewName
		return append(slices.Clip(list.Children), copied.weighed()), nil
	})
}

// siblings changes the children of the list that the path's entry is in; i is
// the entry's place.
func (t *edit) siblings(change func(list *Node, i int) ([]*Node, error)) (*Node, error) {
	last := len(t.steps) - 1
	if !t.row.entry {
		return nil, Problem{Path: t.pathTo(last + 1), Text: "not an entry, expected entry[@name='…'] at the end"}
	}
	return t.alter(t.steps[:last], false, func(list *Node) (*Node, error) {
		i := slices.IndexFunc(list.Children, t.steps[last].matches)
		if i < 0 {
			return nil, t.absent()
		}
		children, err := change(list, i)
		if err != nil {
			return nil, err
		}
		copied := list.copied()
		copied.Children = children
		return copied.weighed(), nil
	})
}

// free requires that the new name is one, and that no other entry has it.
func (t *edit) free(list *Node) error {
	last := len(t.steps) - 1
	if problem := entryProblem(t.row.row, t.NewName); problem != "" {
		return Problem{Path: t.pathTo(last+1) + "/@name", Text: problem}
	}
	if t.NewName != t.steps[last].keys[0] && list.find([]step{{entryName, t.NewName}}) != nil {
		return t.taken()
	}
	return nil
}

func (t *edit) taken() error {
	return fmt.Errorf("%s: %w: there is one of that name", below(t.pathTo(len(t.steps)-1), t.NewName), ErrNotUnique)
}

// entryProblem says why an entry of the row's list cannot have the name.
func entryProblem(row *element, name string) string {
	if problem := nameProblem(name); problem != "" {
		return fmt.Sprintf("an entry's name %s, got %s", problem, shown(name))
	}
	if !isText(name) {
		return "a character that XML cannot hold"
	}
	return row.key.problem(name)
}

func (t *edit) move() (*Node, error) {
	return t.siblings(func(list *Node, i int) ([]*Node, error) {
		moved := list.Children[i]
		rest := slices.Delete(slices.Clone(list.Children), i, i+1)
		to := 0
		switch t.Where {
		case Top:
		case Bottom:
			to = len(rest)
		case Before, After:
			if t.Dst == moved.Entry {
				return nil, Problem{Path: t.pathTo(len(t.steps)), Text: fmt.Sprintf("moved %s itself, expected another entry", t.Where)}
			}
			to = slices.IndexFunc(rest, func(c *Node) bool { return c.Entry == t.Dst })
			if to < 0 {
				return nil, fmt.Errorf("%s: %w", below(t.pathTo(len(t.steps)-1), t.Dst), ErrNotPresent)
			}
			if t.Where == After {
				to++
			}
		default:
			return nil, Problem{Path: t.pathTo(len(t.steps)), Text: fmt.Sprintf("no such place, got %s, expected %s",
				shown(t.Where), oneOf([]string{Top, Bottom, Before, After}))}
		}
		return slices.Insert(rest, to, moved), nil
	})
}
