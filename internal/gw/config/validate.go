package config

import (
	"fmt"
	"slices"
)

// Validate holds a tree against the schema: elements, values, and references
// to other entries. An error is Problems, all of them.
func Validate(root *Node) error { return validate(root).orNil() }

func validate(root *Node) Problems {
	v := validator{root: root, lists: make(map[string]nameList)}
	path := "/" + root.step().String()
	if root.Name != schema.name {
		v.add(root, path, "unknown element, got %s, expected %s", shown(root.Name), schema.name)
		return v.problems
	}
	v.element(root, schema, path)
	return v.problems
}

type validator struct {
	root     *Node
	lists    map[string]nameList // what references name, by the list's path, as they are asked for
	problems Problems
}

func (v *validator) add(n *Node, path, format string, args ...any) {
	v.problems.add(n.Line, path, format, args...)
}

// element validates a node that e is the row of.
func (v *validator) element(n *Node, e *element, path string) {
	if e.state == awaited {
		v.add(n, path, "not supported yet")
		return
	}
	if e.kind == isEntries {
		v.attributes(n, nil, path) // e.attrs are its entries'
	} else {
		v.attributes(n, e.attrs, path)
	}
	if e.kind == isLeaf {
		v.leaf(n, e, path)
		return
	}
	if n.Text != "" {
		v.add(n, path, "text where elements are expected") // not repeated: it may be a secret
		return
	}
	switch e.kind {
	case isContainer:
		v.container(n, e, path)
	case isEntries:
		v.entries(n, e, path)
	case isMembers:
		v.members(n, e, path)
	}
}

func (v *validator) attributes(n *Node, known []attribute, path string) {
	for _, a := range n.Attrs {
		i := slices.IndexFunc(known, func(k attribute) bool { return k.name == a.Name })
		switch {
		case i < 0:
			v.add(n, path+"/@"+a.Name, "unknown attribute")
		case known[i].state == awaited:
			v.add(n, path+"/@"+a.Name, "not supported yet")
		}
	}
}

func (v *validator) leaf(n *Node, e *element, path string) {
	if len(n.Children) > 0 {
		v.add(n, path, "elements where a value is expected, got <%s>, expected %s", n.Children[0].Name, e.value.doc)
		return
	}
	v.value(n, e.value, path)
}

func (v *validator) value(n *Node, want *value, path string) {
	if problem := want.problem(n.Text); problem != "" {
		v.add(n, path, "%s", problem)
		return
	}
	if want.refers != "" {
		v.reference(n, want.refers, path)
	}
}

// reference requires that the list has an entry of the name that n holds.
func (v *validator) reference(n *Node, list, path string) {
	names, known := v.lists[list]
	if !known {
		names = entryNames(v.root, list)
		v.lists[list] = names
	}
	switch {
	case names.has[n.Text]:
	case len(names.inOrder) == 0:
		v.add(n, path, "no such entry, got %s, expected one of %s, which has none", shown(n.Text), list)
	default:
		v.add(n, path, "no such entry, got %s, expected one of %s: %s", shown(n.Text), list, oneOf(names.inOrder))
	}
}

// nameList is the names of a list's entries.
type nameList struct {
	inOrder []string
	has     map[string]bool
}

// entryNames reads the list at an absolute path.
func entryNames(root *Node, list string) nameList {
	steps, err := parsePath(list)
	if err != nil {
		panic("config: the schema refers to a list by a path that is none: " + err.Error()) // a constant of ours
	}
	names := nameList{has: make(map[string]bool)}
	found := root.find(steps[1:])
	if found == nil {
		return names
	}
	for _, c := range found.Children {
		if c.Name == entryName {
			names.inOrder = append(names.inOrder, c.Entry)
			names.has[c.Entry] = true
		}
	}
	return names
}

// container validates the children that are there, and looks for those that
// must be. It is also what is inside an entry.
func (v *validator) container(n *Node, e *element, path string) {
	for _, c := range n.Children {
		if v.problems.full() {
			return
		}
		below := path + "/" + c.step().String()
		if row := e.child(c.Name); row != nil {
			v.element(c, row, below)
		} else {
			v.add(c, below, "%s", e.unknown(c.Name))
		}
	}
	for _, row := range e.children {
		if row.needed && n.child(row.name) == nil {
			v.add(n, path+"/"+row.name, "missing, expected %s", row.expected())
		}
	}
	if e.choice && len(n.Children) > 1 {
		v.add(n, path, "a choice, got both %s and %s, expected %s",
			n.Children[0].Name, n.Children[1].Name, oneOf(e.childNames()))
	}
}

// unknown says that e has no child of that name.
func (e *element) unknown(name string) string {
	if len(e.children) == 0 {
		return fmt.Sprintf("unknown element, got %s, expected none within %s", shown(name), e.name)
	}
	return fmt.Sprintf("unknown element, got %s, %s", shown(name), hint(name, e.childNames()))
}

func (e *element) expected() string {
	switch e.kind {
	case isLeaf:
		return e.value.doc
	case isEntries:
		return "an entry"
	default:
		return "the element"
	}
}

func (v *validator) entries(n *Node, e *element, path string) {
	for _, c := range n.Children {
		if v.problems.full() {
			return
		}
		below := path + "/" + c.step().String()
		if c.Name != entryName {
			v.add(c, below, "unknown element, got %s, expected <entry name=\"…\">", shown(c.Name))
			continue
		}
		if problem := e.key.problem(c.Entry); problem != "" {
			v.add(c, below+"/@name", "%s", problem)
		}
		v.attributes(c, e.attrs, below)
		if c.Text != "" {
			v.add(c, below, "text where elements are expected")
			continue
		}
		v.container(c, e, below)
	}
	switch count := len(n.Children); {
	case e.most > 0 && count > e.most:
		v.add(n, path, "not supported yet, got %d entries, expected at most %d", count, e.most)
	case e.needed && count == 0:
		v.add(n, path, "empty, expected an entry")
	}
}

func (v *validator) members(n *Node, e *element, path string) {
	if len(n.Children) == 0 {
		// Whoever empties a rule's source hardly means any.
		v.add(n, path, "empty, expected a member, or no %s", e.name)
	}
	for _, c := range n.Children {
		if v.problems.full() {
			return
		}
		below := path + "/" + c.step().String()
		switch {
		case c.Name != memberName:
			v.add(c, below, "unknown element, got %s, expected <member>", shown(c.Name))
		case len(c.Children) > 0:
			v.add(c, below, "elements where a value is expected, got <%s>, expected %s", c.Children[0].Name, e.value.doc)
		default:
			v.attributes(c, nil, below)
			v.value(c, e.value, below)
			if c.Text == "any" && len(n.Children) > 1 {
				v.add(n, path, "any beside other members, expected it alone")
			}
		}
	}
}
