package config

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"moongate/internal/xmltext"
)

// Encode writes a tree as one XML document, indented by two spaces, a leaf on
// one line unless its value has several. Decode reads the same tree back, and
// encoding that gives the same bytes. A character that XML cannot hold becomes
// U+FFFD; neither Decode nor Set lets one in.
func Encode(root *Node) []byte {
	var b bytes.Buffer
	b.WriteString("<?xml version=\"1.0\"?>\n")
	encode(&b, root, 0)
	return b.Bytes()
}

func encode(b *bytes.Buffer, n *Node, depth int) {
	indent(b, depth)
	openTag(b, n)
	switch {
	case len(n.Children) > 0:
		b.WriteString(">\n")
		for _, c := range n.Children {
			encode(b, c, depth+1)
		}
		indent(b, depth)
		b.WriteString("</" + n.Name + ">\n")
	case n.Text != "":
		b.WriteString(">")
		xmltext.Text(b, n.Text)
		b.WriteString("</" + n.Name + ">\n")
	default:
		b.WriteString("/>\n")
	}
}

func indent(b *bytes.Buffer, depth int) {
	for range depth {
		b.WriteString("  ")
	}
}

func writeAttr(b *bytes.Buffer, name, value string) {
	b.WriteString(" " + name + `="`)
	xmltext.Attr(b, value)
	b.WriteString(`"`)
}

// isText reports whether XML can hold the whole of s.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !xmltext.Holds(r) })
}

// Compact writes a tree, or a part of one, as one line of XML without a
// declaration; but line feeds within values stay.
func Compact(n *Node) string {
	var b bytes.Buffer
	compact(&b, n)
	return b.String()
}

func compact(b *bytes.Buffer, n *Node) {
	openTag(b, n)
	switch {
	case len(n.Children) > 0:
		b.WriteString(">")
		for _, c := range n.Children {
			compact(b, c)
		}
		b.WriteString("</" + n.Name + ">")
	case n.Text != "":
		b.WriteString(">")
		xmltext.Text(b, n.Text)
		b.WriteString("</" + n.Name + ">")
	default:
		b.WriteString("/>")
	}
}

// openTag writes a start tag but for its end.
func openTag(b *bytes.Buffer, n *Node) {
	b.WriteString("<" + n.Name)
	if n.Name == entryName {
		writeAttr(b, "name", n.Entry)
	}
	for _, a := range n.Attrs {
		writeAttr(b, a.Name, a.Value)
	}
}
