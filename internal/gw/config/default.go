package config

// Default returns an empty configuration that is valid: one device, one virtual
// system, nothing in them. The caller owns it.
func Default() *Node {
	node := func(name, entry string, children ...*Node) *Node {
		return &Node{Name: name, Entry: entry, Children: children}
	}
	return node("config", "",
		node("mgt-config", ""),
		node("shared", ""),
		node("devices", "",
			node(entryName, "localhost.localdomain",
				node("deviceconfig", ""),
				node("vsys", "", node(entryName, "vsys1")),
			),
		),
	)
}

// Equal reports whether two trees say the same: lines aside, what is in them
// and in which order.
func Equal(a, b *Node) bool {
	switch {
	case a == b:
		return true
	case a == nil || b == nil:
		return false
	case a.Name != b.Name || a.Entry != b.Entry || a.Text != b.Text ||
		len(a.Attrs) != len(b.Attrs) || len(a.Children) != len(b.Children):
		return false
	}
	for i := range a.Attrs {
		if a.Attrs[i] != b.Attrs[i] {
			return false
		}
	}
	for i := range a.Children {
		if !Equal(a.Children[i], b.Children[i]) {
			return false
		}
	}
	return true
}
