package ops

import (
	"bytes"
	"encoding/json"

	"moongate/internal/xmltext"
)

// Result is what came of a command, for programs and for people.
type Result struct {
	// Elements stand within <result>. Bare text is an Element without a name.
	Elements []*Element
	// Text is what a terminal shows; it ends in a newline unless it is empty.
	Text string
	// Job is the number of the job that was enqueued, 0 for none: a person
	// waits for it, a program polls.
	Job int
}

// Element is an XML element. One without a name is text.
type Element struct {
	Name     string
	Attrs    []Attr
	Text     string // before the children
	CDATA    bool   // the text is written as a CDATA section
	Children []*Element
}

// Attr is an attribute of an Element.
type Attr struct{ Name, Value string }

// E makes an element with children.
func E(name string, children ...*Element) *Element { return &Element{Name: name, Children: children} }

// T makes an element with text.
func T(name, text string) *Element { return &Element{Name: name, Text: text} }

// Entry makes <entry name="…">.
func Entry(name string, children ...*Element) *Element {
	return &Element{Name: "entry", Attrs: []Attr{{"name", name}}, Children: children}
}

// Line makes <line><![CDATA[…]]></line>.
func Line(text string) *Element { return &Element{Name: "line", Text: text, CDATA: true} }

// With adds an attribute and returns the element.
func (e *Element) With(name, value string) *Element {
	e.Attrs = append(e.Attrs, Attr{name, value})
	return e
}

// Add adds children and returns the element.
func (e *Element) Add(children ...*Element) *Element {
	e.Children = append(e.Children, children...)
	return e
}

// Append writes the element to a buffer, without any white space of its own. A
// character that XML cannot hold becomes U+FFFD.
func (e *Element) Append(b *bytes.Buffer) {
	if e.Name == "" {
		xmltext.Text(b, e.Text)
		return
	}
	b.WriteString("<" + e.Name)
	for _, a := range e.Attrs {
		b.WriteString(" " + a.Name + `="`)
		xmltext.Attr(b, a.Value)
		b.WriteString(`"`)
	}
	if e.Text == "" && len(e.Children) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteString(">")
	if e.CDATA {
		xmltext.CDATA(b, e.Text)
	} else {
		xmltext.Text(b, e.Text)
	}
	for _, c := range e.Children {
		c.Append(b)
	}
	b.WriteString("</" + e.Name + ">")
}

// JSON writes the result's elements as one object: entries, members and
// whatever comes more than once are arrays, an attribute is a key with an @.
func (r *Result) JSON() []byte {
	var value any
	switch {
	case len(r.Elements) == 1 && r.Elements[0].Name == "":
		value = map[string]any{"result": r.Elements[0].Text}
	default:
		value = object(r.Elements, map[string]any{})
	}
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic("ops: strings and maps that are no JSON: " + err.Error()) // they always are
	}
	return append(text, '\n')
}

func object(elements []*Element, into map[string]any) map[string]any {
	for _, e := range elements {
		name := e.Name
		if name == "" {
			name = "#text"
		}
		before, twice := into[name]
		list, isList := before.([]any)
		switch {
		case isList:
			into[name] = append(list, e.json())
		case twice:
			into[name] = []any{before, e.json()}
		case name == "entry" || name == "member" || name == "line":
			into[name] = []any{e.json()}
		default:
			into[name] = e.json()
		}
	}
	return into
}

func (e *Element) json() any {
	if len(e.Children) == 0 && len(e.Attrs) == 0 {
		return e.Text
	}
	into := map[string]any{}
	for _, a := range e.Attrs {
		into["@"+a.Name] = a.Value
	}
	if e.Text != "" {
		into["#text"] = e.Text
	}
	return object(e.Children, into)
}
