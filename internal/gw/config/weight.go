package config

import "fmt"

// weight is what an element and all below it amount to. Each Apply must know it
// of the whole tree; counting ten thousand rules would take it longer than all
// the rest, so that a node remembers its own.
type weight struct {
	elements int32
	size     int32 // bytes of text, at most
	widest   int32 // the most children that one of them has
}

// indentMost is the indentation of both of an element's tags, at most: the
// schema is less deep.
const indentMost = 2 * 2 * 16

// weigh counts.
func (n *Node) weigh() weight {
	if n.weight.elements > 0 {
		return n.weight
	}
	size := indentMost + len("<></>\n\n") + 2*len(n.Name) + escapedSize(n.Text)
	if n.Name == entryName {
		size += len(` name=""`) + escapedSize(n.Entry)
	}
	for _, a := range n.Attrs {
		size += len(` =""`) + len(a.Name) + escapedSize(a.Value)
	}
	w := weight{1, int32(min(size, maxSize+1)), int32(len(n.Children))}
	for _, c := range n.Children {
		of := c.weigh()
		// Beyond the bound it does not matter by how much.
		w.elements = min(w.elements+of.elements, maxElements+1)
		w.size = min(w.size+of.size, maxSize+1)
		w.widest = max(w.widest, of.widest)
	}
	return w
}

// escapedSize is how much a string takes in a document, at most.
func escapedSize(s string) int {
	size := len(s)
	for i := range len(s) {
		switch s[i] {
		case '&', '<', '>', '"', '\r', '\n', '\t':
			size += len("&quot;") - 1
		}
	}
	return size
}

// weighed remembers the weight of a node that nobody else has yet.
func (n *Node) weighed() *Node {
	n.weight = n.weigh()
	return n
}

// copied is a node of its own with the same children, to be changed.
func (n *Node) copied() *Node {
	c := *n
	c.weight = weight{}
	return &c
}

// fits holds a tree against what Decode reads: a candidate must be one that can
// be read again.
func fits(root *Node) error {
	problem := func(format string, args ...any) error {
		return Problem{Path: "/" + root.Name, Text: fmt.Sprintf(format, args...)}
	}
	switch w := root.weigh(); {
	case w.widest > maxChildren:
		return problem("too many elements in one, got %d, expected at most %d", w.widest, maxChildren)
	case w.elements > maxElements:
		return problem("too many elements, expected at most %d", maxElements)
	case w.size > maxSize:
		return problem("the configuration is too large, expected at most %d bytes", maxSize)
	}
	return nil
}
