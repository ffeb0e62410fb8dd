package config

import (
	"slices"
	"sort"
)

// ChangeKind is what happened to an element.
type ChangeKind string

const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed" // a value
	Moved   ChangeKind = "moved"   // an entry or a member, among those of its list
)

// Change is one difference between two trees. Secrets are masked in it.
type Change struct {
	Path string // as an administrator may copy it; of a member, with its text
	Kind ChangeKind
	// Before and After are values; of what was added or removed as a whole, its
	// XML on one line; of what was moved, its place: "first", or "after" and
	// the name of what is before it. "" where there is nothing.
	Before, After string
}

// Diff returns what differs between two trees, in the order of after, what was
// removed from an element before the rest of it. An entry that was renamed was
// removed and added. The time it takes is that of the subtrees that the two do
// not share.
func Diff(before, after *Node) []Change {
	d := differ{}
	d.compare(before, after, target{row: schema}, "/"+after.step().String())
	return d.changes
}

type differ struct{ changes []Change }

func (d *differ) add(path string, kind ChangeKind, before, after string) {
	d.changes = append(d.changes, Change{path, kind, before, after})
}

// compare compares two elements of the same key. The row is nil where the
// schema does not know them.
func (d *differ) compare(a, b *Node, at target, path string) {
	if a == b {
		return
	}
	if a.Text != b.Text {
		d.add(path, Changed, leafValue(a, at), leafValue(b, at))
	}
	d.attributes(a, b, path)
	s := align(unshared(a.Children, b.Children))
	for _, c := range s.removed {
		next := at.after(c)
		d.add(path+"/"+memberStep(c), Removed, content(c, next), "")
	}
	for _, p := range s.pairs {
		next := at.after(p.after)
		below := path + "/" + memberStep(p.after)
		if p.before == nil {
			d.add(below, Added, "", content(p.after, next))
			continue
		}
		if p.moved {
			d.add(below, Moved, s.place(a, p.before), s.place(b, p.after))
		}
		d.compare(p.before, p.after, next, below)
	}
}

func (d *differ) attributes(a, b *Node, path string) {
	find := func(n *Node, name string) (string, bool) {
		for _, attr := range n.Attrs {
			if attr.Name == name {
				return attr.Value, true
			}
		}
		return "", false
	}
	for _, attr := range a.Attrs {
		if _, there := find(b, attr.Name); !there {
			d.add(path+"/@"+attr.Name, Removed, attr.Value, "")
		}
	}
	for _, attr := range b.Attrs {
		switch was, there := find(a, attr.Name); {
		case !there:
			d.add(path+"/@"+attr.Name, Added, "", attr.Value)
		case was != attr.Value:
			d.add(path+"/@"+attr.Name, Changed, was, attr.Value)
		}
	}
}

// after is the row of a child, none where the schema has none.
func (t target) after(c *Node) target {
	if t.row == nil {
		return t
	}
	next, wrong := t.next(c.Name, nil)
	if wrong != "" {
		return target{}
	}
	return next
}

// leafValue is the value of a leaf or a member, masked where it must be.
func leafValue(n *Node, at target) string { return mask(n, at).Text }

// content is what was added or removed with a node.
func content(n *Node, at target) string {
	n = mask(n, at)
	if len(n.Children) == 0 && n.Text != "" {
		return n.Text
	}
	return Compact(n)
}

// memberStep is the node's own part of a path, of a member with its text.
func memberStep(n *Node) string {
	if n.Name == memberName && len(n.Children) == 0 {
		return memberName + "[text()=" + quoted(n.Text) + "]"
	}
	return n.step().String()
}

// siblings are the children of two elements, side by side.
type siblings struct {
	removed []*Node // those of before that after has not, in the order of before
	pairs   []pair  // those of after, in its order
}

type pair struct {
	before *Node // nil for what was added
	after  *Node
	moved  bool
}

// unshared leaves out what two lists share at their beginnings and their ends:
// an edit of one entry among many copies no other.
func unshared(a, b []*Node) ([]*Node, []*Node) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// align finds for each child its like. Order means something among entries and
// members alone; moved are as few as can explain it.
func align(a, b []*Node) siblings {
	var s siblings
	places := make(map[string]int, len(a))
	for i, c := range a {
		places[c.key()] = i
	}
	kept := make([]bool, len(a))
	var order, who []int // of what both have: its place in a, and in pairs
	for _, c := range b {
		p := pair{after: c}
		if i, there := places[c.key()]; there {
			p.before, kept[i] = a[i], true
			if c.Name == entryName || c.Name == memberName {
				order, who = append(order, i), append(who, len(s.pairs))
			}
		}
		s.pairs = append(s.pairs, p)
	}
	for i, c := range a {
		if !kept[i] {
			s.removed = append(s.removed, c)
		}
	}
	if !slices.IsSorted(order) {
		stayed := longestRise(order)
		for i, p := range who {
			s.pairs[p].moved = !stayed[i]
		}
	}
	return s
}

// longestRise marks a longest increasing subsequence (patience sorting).
func longestRise(order []int) []bool {
	var tails []int // places in order: the least end of a rise of each length
	before := make([]int, len(order))
	for i, v := range order {
		n := sort.Search(len(tails), func(j int) bool { return order[tails[j]] >= v })
		before[i] = -1
		if n > 0 {
			before[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	marked := make([]bool, len(order))
	for i := tails[len(tails)-1]; i >= 0; i = before[i] {
		marked[i] = true
	}
	return marked
}

// place says where a child of n is.
func (siblings) place(n, child *Node) string {
	i := slices.Index(n.Children, child)
	if i == 0 {
		return "first"
	}
	previous := n.Children[i-1]
	if previous.Name == memberName {
		return "after " + shown(previous.Text)
	}
	return "after " + shown(previous.Entry)
}
