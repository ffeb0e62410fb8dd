package config

import (
	"fmt"
	"strings"
)

// Set writes below root, which is <config>, the way the administrator's set
// command does: it makes what the path lacks; a leaf takes one value, which
// replaces another; a list of members takes one or more and gains those that it
// does not have, its path with /member at the end or without; a container or an entry takes none and is there afterwards.
// The path and each value are held against the schema, references are not,
// since what they refer to may be set later. An error is a Problem, and the
// tree is as it was.
func Set(root *Node, path string, values ...string) error {
	steps, err := parsePath(path)
	if err != nil {
		return Problem{Path: "/", Text: err.Error()} // err quotes it
	}
	if last := len(steps) - 1; last > 0 && steps[last].name == memberName {
		// As XPath names a member list, and clients do: …/source/member.
		if list, err := resolve(steps[:last]); err == nil && list.row.kind == isMembers {
			steps = steps[:last]
		}
	}
	target, err := resolve(steps)
	if err != nil {
		return err
	}
	if err := target.check(path, values); err != nil {
		return err
	}
	n := root
	n.weight = weight{}
	for _, s := range steps[1:] {
		n = n.make(s)
		n.weight = weight{}
	}
	switch {
	case target.entry:
	case target.row.kind == isLeaf:
		n.Text = trimmed(values[0])
	case target.row.kind == isMembers:
		for _, value := range values {
			n.addMember(trimmed(value))
		}
	}
	return nil
}

// target is what a path leads to: a row, or an entry of the row's list.
type target struct {
	row    *element
	entry  bool
	member bool // or a member of it
}

// resolve follows a path through the schema.
func resolve(steps []step) (target, error) {
	fail := func(n int, format string, args ...any) (target, error) {
		return target{}, Problem{Path: join(steps[:n]), Text: fmt.Sprintf(format, args...)}
	}
	if steps[0].name != schema.name {
		return fail(1, "unknown element, got %s, expected %s", shown(steps[0].name), schema.name)
	}
	t := target{row: schema}
	for i, s := range steps[1:] {
		depth := i + 2 // steps that lead to s, s among them
		switch list := t.row.kind == isEntries && !t.entry; {
		case list && s.name != entryName:
			return fail(depth, "unknown element, got %s, expected entry[@name='…']", shown(s.name))
		case list:
			if problem := t.row.key.problem(s.entry); problem != "" {
				return fail(depth, "%s", problem)
			}
			t.entry = true
		default:
			row := t.row.child(s.name)
			if row == nil {
				return fail(depth, "%s", t.row.unknown(s.name))
			}
			t = target{row: row}
		}
		if t.row.state == Awaited {
			return fail(depth, "not supported yet")
		}
	}
	return t, nil
}

// check holds values against what the target takes.
func (t target) check(path string, values []string) error {
	fail := func(format string, args ...any) error {
		return Problem{Path: path, Text: fmt.Sprintf(format, args...)}
	}
	takes := t.row.kind
	switch {
	case t.entry || takes == isContainer || takes == isEntries:
		if len(values) > 0 {
			return fail("takes no value, got %d", len(values))
		}
		if takes == isEntries && !t.entry {
			return fail("a list, expected entry[@name='…'] after it")
		}
	case takes == isLeaf && len(values) != 1:
		return fail("takes one value, got %d", len(values))
	case takes == isMembers && len(values) == 0:
		return fail("takes one value or more, got none")
	}
	for _, value := range values {
		if !isText(value) {
			return fail("a character that XML cannot hold")
		}
		if problem := t.row.value.problem(trimmed(value)); problem != "" {
			return fail("%s", problem)
		}
	}
	return nil
}

func join(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("/" + s.String())
	}
	return b.String()
}

// make returns the child that s names, a new last one if there is none.
func (n *Node) make(s step) *Node {
	if c := n.find([]step{s}); c != nil {
		return c
	}
	c := &Node{Name: s.name, Entry: s.entry}
	n.Children = append(n.Children, c)
	return c
}

func (n *Node) addMember(value string) {
	for _, c := range n.Children {
		if c.Text == value {
			return
		}
	}
	n.Children = append(n.Children, &Node{Name: memberName, Text: value})
}

// Builder makes a new configuration by path:
//
//	b := config.NewBuilder()
//	b.Set(config.DevicePath+"/deviceconfig/system/hostname", "gw")
//	data, err := b.Bytes()
//
// It is for one goroutine.
type Builder struct {
	root     *Node
	problems Problems
}

// NewBuilder begins with an empty configuration.
func NewBuilder() *Builder { return &Builder{root: &Node{Name: schema.name}} }

// Set is Set on the configuration that is being built. A problem is kept for
// Bytes; what follows it is still looked at.
func (b *Builder) Set(path string, values ...string) {
	if err := Set(b.root, path, values...); err != nil {
		b.problems = append(b.problems, err.(Problem)) // the only type that Set returns
	}
}

// Bytes returns the configuration as Load reads it, or everything that is
// wrong with it as Problems: a file that is written this way is one that a
// gateway accepts.
func (b *Builder) Bytes() ([]byte, error) {
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	data := Encode(b.root)
	if _, _, err := Parse(data); err != nil {
		return nil, err
	}
	return data, nil
}
