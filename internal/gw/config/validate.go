package config

import (
	"fmt"
	"slices"
	"strings"
)

// Validate holds a tree against the schema: elements, values, and references
// to other entries. An error is Problems, all of them.
func Validate(root *Node) error { return validate(root).orNil() }

func validate(root *Node) Problems {
	v := validator{names: listNames{root: root}, path: []*Node{root}}
	if root.Name != schema.name {
		v.add(root, "", "unknown element, got %s, expected %s", shown(root.Name), schema.name)
		return v.problems
	}
	v.element(root, target{row: schema})
	return v.problems
}

// partial makes a validator of pieces that are merged below a path: it asks for
// nothing that is not in them.
func partial(prefix string) *validator { return &validator{partial: true, prefix: prefix} }

type validator struct {
	names    listNames // what references may name
	partial  bool      // nothing must be there, and no reference is followed
	prefix   string    // the path that path begins at
	path     []*Node   // from the root, or the piece, to the node that is looked at
	problems Problems
}

// add reports a problem of the node that is looked at, or of what follows it.
func (v *validator) add(n *Node, suffix, format string, args ...any) {
	if v.problems.full() {
		return
	}
	var b strings.Builder
	b.WriteString(v.prefix)
	for _, above := range v.path {
		b.WriteString("/" + above.step().String())
	}
	v.problems.add(n.Line, b.String()+suffix, format, args...)
}

// element validates the node that is looked at, which at is the row of.
func (v *validator) element(n *Node, at target) {
	e := at.row
	if e.state == Awaited {
		v.add(n, "", "not supported yet")
		return
	}
	switch {
	case at.member || at.list():
		v.attributes(n, nil) // e.attrs are its entries'
	default:
		v.attributes(n, e.attrs)
	}
	if at.member || e.kind == isLeaf {
		v.value(n, e.value)
		return
	}
	if n.Text != "" {
		v.add(n, "", "text where elements are expected") // not repeated: it may be a secret
		return
	}
	v.children(n, at)
	switch {
	case at.list():
		v.list(n, e)
	case e.kind == isMembers:
		v.members(n, e)
	default:
		v.container(n, e)
	}
}

func (v *validator) attributes(n *Node, known []attribute) {
	for _, a := range n.Attrs {
		i := slices.IndexFunc(known, func(k attribute) bool { return k.name == a.Name })
		switch {
		case i < 0:
			v.add(n, "/@"+a.Name, "unknown attribute")
		case known[i].state == Awaited:
			v.add(n, "/@"+a.Name, "not supported yet")
		case v.partial && !isText(a.Value):
			v.add(n, "/@"+a.Name, "a character that XML cannot hold")
		}
	}
}

// value validates a leaf or a member.
func (v *validator) value(n *Node, want *value) {
	if len(n.Children) > 0 {
		v.add(n, "", "elements where a value is expected, got <%s>, expected %s", n.Children[0].Name, want.doc)
		return
	}
	text := n.Text
	if v.partial {
		text = trimmed(text)
		if !isText(text) {
			v.add(n, "", "a character that XML cannot hold")
			return
		}
	}
	if problem := want.problem(text); problem != "" {
		v.add(n, "", "%s", problem)
		return
	}
	if len(want.refers) > 0 && !v.partial {
		v.reference(n, want)
	}
}

// reference requires that a list has an entry of the name that n holds.
func (v *validator) reference(n *Node, want *value) {
	if slices.Contains(want.words, n.Text) || v.names.meant(want, n.Text) != "" {
		return
	}
	known := slices.Clone(want.words)
	for _, list := range want.refers {
		known = append(known, v.names.of(list).inOrder...)
	}
	lists := oneOf(want.refers)
	if len(known) == 0 {
		v.add(n, "", "no such entry, got %s, expected one of %s, which has none", shown(n.Text), lists)
	} else {
		v.add(n, "", "no such entry, got %s, expected one of %s: %s", shown(n.Text), lists, oneOf(known))
	}
}

// nameList is the names of a list's entries.
type nameList struct {
	inOrder []string
	has     map[string]bool
}

// entryNames reads the list at an absolute path.
func entryNames(root *Node, list string) nameList {
	names := nameList{has: make(map[string]bool)}
	found := listAt(root, list)
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

// children validates what is in a node by itself.
func (v *validator) children(n *Node, at target) {
	for _, c := range n.Children {
		if v.problems.full() {
			return
		}
		v.path = append(v.path, c)
		v.child(c, at)
		v.path = v.path[:len(v.path)-1]
	}
}

func (v *validator) child(c *Node, at target) {
	switch {
	case at.list() && c.Name != entryName:
		v.add(c, "", "unknown element, got %s, expected <entry name=\"…\">", shown(c.Name))
		return
	case at.list():
		if problem := entryProblem(at.row, c.Entry); problem != "" {
			v.add(c, "/@name", "%s", problem)
		}
	case at.row.kind == isMembers && !at.entry && c.Name != memberName:
		v.add(c, "", "unknown element, got %s, expected <member>", shown(c.Name))
		return
	}
	next, wrong := at.next(c.Name, nil)
	if wrong != "" {
		v.add(c, "", "%s", wrong)
		return
	}
	v.element(c, next)
}

// container looks for what must be there. It is also what is inside an entry.
func (v *validator) container(n *Node, e *element) {
	for _, row := range e.children {
		if row.needed && !v.partial && n.child(row.name) == nil {
			v.add(n, "/"+row.name, "missing, expected %s", row.expected())
		}
	}
	if e.choice && len(n.Children) > 1 {
		v.add(n, "", "a choice, got both %s and %s, expected %s",
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

func (v *validator) list(n *Node, e *element) {
	switch count := len(n.Children); {
	case e.most > 0 && count > e.most:
		v.add(n, "", "too many, got %d entries, expected at most %d", count, e.most)
	case e.needed && count == 0 && !v.partial:
		v.add(n, "", "empty, expected an entry")
	}
}

func (v *validator) members(n *Node, e *element) {
	if len(n.Children) == 0 {
		// Whoever empties a rule's source hardly means any.
		v.add(n, "", "empty, expected a member, or no %s", e.name)
	}
	if len(n.Children) > 1 && slices.ContainsFunc(n.Children, func(c *Node) bool { return c.Text == anyWord }) {
		v.add(n, "", "any beside other members, expected it alone")
	}
}
