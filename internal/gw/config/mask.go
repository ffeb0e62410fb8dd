package config

import "slices"

// masked stands where a secret is. It is no value of any secret: setting what
// was shown is refused.
const masked = "********"

// Mask returns a whole tree with its secrets masked. What has none is shared
// with root.
func Mask(root *Node) *Node { return mask(root, target{row: schema}) }

// MaskAt is Mask of a node that a path leads to, as Select gave it. Where the
// schema does not know the path, all is masked.
func MaskAt(path string, n *Node) *Node {
	p, err := parseXPath(path)
	if err != nil {
		return mask(n, target{})
	}
	at := target{row: schema}
	for _, s := range p.steps[1:] {
		next, wrong := at.next(s.name, nil)
		if wrong != "" {
			return mask(n, target{})
		}
		at = next
	}
	return mask(n, at)
}

// mask masks all values of what it does not know.
func mask(n *Node, at target) *Node {
	if n == nil {
		return nil
	}
	if at.row == nil || (at.row.kind == isLeaf || at.member) && at.row.value.masked {
		if n.Text == "" && len(n.Children) == 0 {
			return n
		}
		return &Node{Name: n.Name, Entry: n.Entry, Text: masked, Line: n.Line}
	}
	if !at.row.secretBelow {
		return n
	}
	shown := n
	for i, c := range n.Children {
		next, _ := at.next(c.Name, nil)
		m := mask(c, next)
		if m == c {
			continue
		}
		if shown == n {
			shown = n.copied()
			shown.Children = slices.Clone(n.Children)
		}
		shown.Children[i] = m
	}
	return shown
}
