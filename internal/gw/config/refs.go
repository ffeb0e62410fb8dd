package config

import (
	"fmt"
	"slices"
	"strings"
)

// RefError says that entries which an edit would remove are in use.
type RefError struct {
	Path  string   // the entry that is in use; of several, the first
	Users []string // the paths of what refers to it
}

func (e *RefError) Error() string {
	const most = 10
	users, more := e.Users, ""
	if len(users) > most {
		users, more = users[:most], fmt.Sprintf(" and %d more", len(users)-most)
	}
	return fmt.Sprintf("%s: in use by %s%s", e.Path, strings.Join(users, ", "), more)
}

// References returns the paths of the leaves and members that refer to an entry
// of a list, in the order of the tree. The list is named by its path, as in
// Row.Refers.
func References(root *Node, list, name string) []string {
	names := listNames{root: root}
	var users []string
	walkRefs(root, func(r reference) {
		if r.node.Text == name && names.meant(r.row.value, name) == list {
			users = append(users, r.path())
		}
	})
	return users
}

// reference is a leaf or a member that holds the name of an entry.
type reference struct {
	node  *Node
	row   *element
	above []*Node // from the root to the node's parent
}

func (r reference) path() string {
	var b strings.Builder
	for _, n := range r.above {
		b.WriteString("/" + n.step().String())
	}
	b.WriteString("/" + r.node.step().String())
	if r.node.Name == memberName {
		b.WriteString("[text()=" + quoted(r.node.Text) + "]")
	}
	return b.String()
}

// walkRefs visits every reference of a tree.
func walkRefs(root *Node, visit func(reference)) {
	var above []*Node
	var walk func(n *Node, at target)
	walk = func(n *Node, at target) {
		above = append(above, n)
		for _, c := range n.Children {
			next, wrong := at.next(c.Name, nil)
			if wrong != "" || !next.row.refersBelow {
				continue
			}
			if v := next.row.value; v != nil && len(v.refers) > 0 && (next.row.kind == isLeaf || next.member) {
				visit(reference{c, next.row, above})
			}
			walk(c, next)
		}
		above = above[:len(above)-1]
	}
	walk(root, target{row: schema})
}

// listNames is which entries the lists of a tree have, looked up when asked for.
type listNames struct {
	root  *Node
	lists map[string]nameList
}

func (l *listNames) of(list string) nameList {
	names, known := l.lists[list]
	if !known {
		if l.lists == nil {
			l.lists = make(map[string]nameList)
		}
		names = entryNames(l.root, list)
		l.lists[list] = names
	}
	return names
}

// meant returns the list whose entry a name in a value is: the first that has
// one of that name. "" where it is a word, or none has it.
func (l *listNames) meant(v *value, name string) string {
	if slices.Contains(v.words, name) {
		return ""
	}
	for _, list := range v.refers {
		if l.of(list).has[name] {
			return list
		}
	}
	return ""
}

// stillReferred is a *RefError when the edit has removed entries that are
// referred to in the tree after it.
func (t *edit) stillReferred(after *Node) error {
	before, now := listNames{root: t.root}, listNames{root: after}
	removed := false
	for _, list := range referredLists {
		if listAt(t.root, list) == listAt(after, list) {
			continue
		}
		for _, name := range before.of(list).inOrder {
			removed = removed || !now.of(list).has[name]
		}
	}
	if !removed {
		return nil
	}
	var found *RefError
	walkRefs(after, func(r reference) {
		name := r.node.Text
		list := before.meant(r.row.value, name)
		if list == "" || now.meant(r.row.value, name) != "" {
			return
		}
		entry := below(list, name)
		if found == nil {
			found = &RefError{Path: entry}
		}
		if found.Path == entry {
			found.Users = append(found.Users, r.path())
		}
	})
	if found == nil {
		return nil
	}
	return found
}

// listAt returns the node of a list, nil when it is not there.
func listAt(root *Node, list string) *Node { return root.find(mustPath(list)[1:]) }

// rewrite makes after, in which an entry of the list got another name, refer to
// it by that. What the old name meant is decided in before.
func rewrite(before, after *Node, list, old, name string) *Node {
	if !slices.Contains(referredLists, list) {
		return after
	}
	names := listNames{root: before}
	meant := func(v *value) bool { return names.meant(v, old) == list }
	return rewriteBelow(after, target{row: schema}, old, name, meant)
}

// besides returns the lists in which a name would be taken for one of the list's.
func besides(list string) []string {
	var others []string
	for _, refers := range referredTogether {
		if !slices.Contains(refers, list) {
			continue
		}
		for _, other := range refers {
			if other != list && !slices.Contains(others, other) {
				others = append(others, other)
			}
		}
	}
	return others
}

// rewriteBelow copies what it changes, and returns n itself when that is nothing.
func rewriteBelow(n *Node, at target, old, name string, meant func(*value) bool) *Node {
	changed := n
	for i, c := range n.Children {
		next, wrong := at.next(c.Name, nil)
		if wrong != "" || !next.row.refersBelow {
			continue
		}
		after := rewriteBelow(c, next, old, name, meant)
		holds := next.row.kind == isLeaf || next.member
		if v := next.row.value; holds && c.Text == old && len(v.refers) > 0 && meant(v) {
			after = c.copied()
			after.Text = name
			after.weighed()
		}
		if after == c {
			continue
		}
		if changed == n {
			changed = n.copied()
			changed.Children = slices.Clone(n.Children)
		}
		changed.Children[i] = after
	}
	if changed == n {
		return n
	}
	if at.row.kind == isMembers {
		// The list may have had the new name already, of nothing.
		first := true
		changed.Children = slices.DeleteFunc(changed.Children, func(c *Node) bool {
			again := c.Text == name && !first
			first = first && c.Text != name
			return again
		})
	}
	return changed.weighed()
}
