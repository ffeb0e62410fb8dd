package config

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// What a configuration may be, whatever its schema says.
const (
	maxSize     = 64 << 20  // bytes of text
	maxDepth    = 32        // elements within elements; the schema's deepest path has 12
	maxChildren = 50_000    // of one element
	maxElements = 1_000_000 // ten thousand rules of all their parts have half of that
	maxName     = 64        // bytes of an element's or attribute's name
	maxAttrs    = 8         // of one element
)

// Decode reads one XML document strictly: bounded in every direction, without
// document types, entities, processing instructions, namespaces, mixed content
// or two siblings of the same key. Comments and white space around elements and
// values are dropped. An error is Problems.
func Decode(data []byte) (*Node, error) {
	root, problems := decode(data)
	return root, problems.orNil()
}

// decode returns a tree or problems, never both. Siblings of the same key are
// collected; anything else ends the reading.
func decode(data []byte) (*Node, Problems) { return decodeIn(data, 0) }

// decodeIn reads a document whose outermost elements, as many as hidden, are
// not the administrator's: paths leave them out.
func decodeIn(data []byte, hidden int) (*Node, Problems) {
	d := decoder{xml: xml.NewDecoder(bytes.NewReader(data)), hidden: hidden}
	if len(data) > maxSize {
		d.refuse("the configuration is too large, expected at most %d bytes", maxSize)
		return nil, d.problems
	}
	for d.token() {
	}
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	return d.root, nil
}

type decoder struct {
	xml      *xml.Decoder
	root     *Node
	open     []*frame // the elements that are not closed yet, outermost first
	hidden   int      // of those, how many no path begins with
	elements int
	problems Problems
}

// frame is what is known of an element while it is open.
type frame struct {
	node *Node
	text strings.Builder
	keys map[string]int // the line of each child by its key
}

// refuse records a problem at the innermost open element.
func (d *decoder) refuse(format string, args ...any) bool {
	line, _ := d.xml.InputPos()
	path := d.path()
	if path == "" {
		path = "/"
	}
	d.problems.add(line, path, format, args...)
	return false
}

// path is that of the innermost open element, "" outside of the root.
func (d *decoder) path() string {
	var b strings.Builder
	for _, f := range d.open[min(d.hidden, len(d.open)):] {
		b.WriteString("/" + f.node.step().String())
	}
	return b.String()
}

func (d *decoder) top() *frame { return d.open[len(d.open)-1] }

// token reads the next token and reports whether there is more to read.
func (d *decoder) token() bool {
	first := d.xml.InputOffset() == 0
	token, err := d.xml.Token()
	var syntax *xml.SyntaxError
	switch {
	case err == io.EOF && d.root == nil:
		return d.refuse("the configuration is empty, expected <config>")
	case err == io.EOF:
		return false
	case errors.As(err, &syntax):
		return d.refuse("not well-formed XML: %s", syntax.Msg)
	case err != nil:
		return d.refuse("not well-formed XML: %s", err)
	}
	switch t := token.(type) {
	case xml.StartElement:
		return d.start(t)
	case xml.EndElement:
		return d.end()
	case xml.CharData:
		return d.chars(t)
	case xml.Comment:
		return true
	case xml.ProcInst:
		if first && t.Target == "xml" {
			return true
		}
		return d.refuse("processing instructions are refused, got <?%s", t.Target)
	default: // xml.Directive
		return d.refuse("document types and entities are refused")
	}
}

func (d *decoder) start(t xml.StartElement) bool {
	line, _ := d.xml.InputPos()
	node := &Node{Name: t.Name.Local, Line: line}
	d.elements++
	switch {
	case t.Name.Space != "":
		return d.refuse("namespaces are refused, got one on %s", shown(t.Name.Local))
	case len(node.Name) > maxName:
		return d.refuse("an element's name is too long, got %s, expected at most %d bytes", shown(node.Name), maxName)
	case len(d.open) == 0 && d.root != nil:
		return d.refuse("data after the end of the configuration, got <%s>", node.Name)
	case len(d.open) == maxDepth+d.hidden:
		return d.refuse("elements are nested too deep, expected at most %d", maxDepth)
	case d.elements > maxElements:
		return d.refuse("too many elements, expected at most %d", maxElements)
	}
	if !d.attributes(node, t.Attr) {
		return false
	}
	if len(d.open) == 0 {
		d.root = node
	} else {
		parent := d.top()
		if parent.text.Len() > 0 {
			return d.refuse("text beside elements, got <%s> after it", node.Name)
		}
		if len(parent.node.Children) == maxChildren {
			return d.refuse("too many elements, expected at most %d", maxChildren)
		}
		parent.node.Children = append(parent.node.Children, node)
	}
	d.open = append(d.open, &frame{node: node})
	return true
}

func (d *decoder) attributes(node *Node, attrs []xml.Attr) bool {
	if len(attrs) > maxAttrs {
		return d.refuse("too many attributes on <%s>, expected at most %d", node.Name, maxAttrs)
	}
	named := false
	seen := make(map[string]bool, len(attrs))
	for _, a := range attrs {
		name := a.Name.Local
		switch {
		case a.Name.Space != "" || name == "xmlns":
			return d.refuse("namespaces are refused, got one on <%s>", node.Name)
		case len(name) > maxName:
			return d.refuse("an attribute's name is too long, got %s, expected at most %d bytes", shown(name), maxName)
		case seen[name]:
			return d.refuse("attribute %q twice on <%s>", name, node.Name)
		case node.Name == entryName && name == "name":
			if problem := nameProblem(a.Value); problem != "" {
				return d.refuse("an entry's name %s, got %s", problem, shown(a.Value))
			}
			node.Entry, named = a.Value, true
		default:
			node.Attrs = append(node.Attrs, Attr{name, a.Value})
		}
		seen[name] = true
	}
	if node.Name == entryName && !named {
		return d.refuse("an entry has no name, expected <entry name=\"…\">")
	}
	return true
}

func (d *decoder) chars(text xml.CharData) bool {
	if len(d.open) == 0 {
		if trimmed(string(text)) == "" {
			return true
		}
		return d.refuse("text outside the configuration, got %s", shown(string(text)))
	}
	top := d.top()
	if len(top.node.Children) > 0 {
		if trimmed(string(text)) != "" {
			return d.refuse("text beside elements") // not repeated: it may be a secret
		}
		return true
	}
	// White space before the first child or value says nothing; after the
	// value began it may be within it.
	if top.text.Len() > 0 || trimmed(string(text)) != "" {
		top.text.Write(text)
	}
	return true
}

func (d *decoder) end() bool {
	top := d.top()
	top.node.Text = trimmed(top.text.String())
	top.node.weighed()
	d.open = d.open[:len(d.open)-1]
	if len(d.open) == 0 {
		return true
	}
	// Only now has a member its text, and so its key.
	parent := d.top()
	if parent.keys == nil {
		parent.keys = make(map[string]int)
	}
	key := top.node.key()
	if line, twice := parent.keys[key]; twice {
		path := d.path() + "/" + top.node.step().String()
		if top.node.Name == memberName {
			d.problems.add(top.node.Line, path, "twice, got %s, the first is on line %d", shown(top.node.Text), line)
		} else {
			d.problems.add(top.node.Line, path, "twice, the first is on line %d", line)
		}
		return !d.problems.full()
	}
	parent.keys[key] = top.node.Line
	return true
}

// trimmed is a value without the white space around it (XML 1.0 section 2.3).
func trimmed(s string) string { return strings.Trim(s, " \t\r\n") }
