package config

// Select returns the nodes of a tree that a path means, in the order of the
// tree: an entry without a name means every entry of its list. The nodes are
// the tree's own and not to be written to, except after /@name, which gives
// entries without what is in them. What is not there, known to the schema or
// not, is no error. An error is a *PathError.
func Select(root *Node, path string) ([]*Node, error) {
	p, err := parseXPath(path)
	if err != nil {
		return nil, err
	}
	if root == nil || !p.steps[0].matches(root) {
		return nil, nil
	}
	found := []*Node{root}
	for _, s := range p.steps[1:] {
		var next []*Node
		for _, n := range found {
			for _, c := range n.Children {
				if s.matches(c) {
					next = append(next, c)
				}
			}
		}
		found = next
	}
	if p.names {
		for i, n := range found {
			found[i] = &Node{Name: n.Name, Entry: n.Entry}
		}
	}
	return found, nil
}
