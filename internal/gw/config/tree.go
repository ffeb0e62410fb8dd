package config

// Node is one element of a configuration. A Node belongs to whoever made it
// until it is given away; nothing in this package writes to a tree that it was
// asked to read.
type Node struct {
	Name     string // of the element
	Entry    string // the name attribute; of elements called entry alone
	Attrs    []Attr // any other attributes, in the order of the text
	Text     string // without surrounding white space; never beside Children
	Children []*Node
	Line     int // in the text, from 1; 0 for what was set by path

	weight weight // zero where it is not known
}

// Attr is an attribute that is not an entry's name.
type Attr struct{ Name, Value string }

const (
	entryName  = "entry"  // one of a list that is keyed by name
	memberName = "member" // one of a list of values
)

// child returns the first child of that name, nil when there is none; in a
// validated tree only entries and members come more than once.
func (n *Node) child(name string) *Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// find descends along steps, nil when one is not there.
func (n *Node) find(steps []step) *Node {
	for _, s := range steps {
		var next *Node
		for _, c := range n.Children {
			if c.Name == s.name && c.Entry == s.entry {
				next = c
				break
			}
		}
		if next == nil {
			return nil
		}
		n = next
	}
	return n
}

// step is the node's own part of a path.
func (n *Node) step() step { return step{n.Name, n.Entry} }

// key tells a node from its siblings: no two may have the same.
func (n *Node) key() string {
	switch n.Name {
	case entryName:
		return "entry " + n.Entry
	case memberName:
		return "member " + n.Text
	default:
		return n.Name
	}
}
