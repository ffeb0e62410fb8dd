package ops

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"moongate/internal/gw/mgmt"
)

// Bounds of a command's XML, beyond the number of its words.
const (
	maxXML   = 256 << 10 // bytes
	maxDepth = 32
)

// ParseXML reads a command as the API is sent it: its words are elements within
// one another, values are text or an entry's name, members are a list. It is
// strict: no document types, entities, namespaces, processing instructions or
// text beside elements.
func ParseXML(text string) (*Call, error) {
	tokens, err := Flatten(text)
	if err != nil {
		return nil, err
	}
	return parse(tokens, true)
}

// Flatten makes a command's words of its XML.
func Flatten(text string) ([]Token, error) {
	if len(text) > maxXML {
		return nil, malformed("the command is larger than %d bytes", maxXML)
	}
	f := flattener{xml: xml.NewDecoder(strings.NewReader(WithoutDeclaration(text)))}
	for {
		token, err := f.xml.Token()
		if err == io.EOF {
			break
		}
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) {
			return nil, malformed("not well-formed XML: %s", syntax.Msg)
		}
		if err != nil {
			return nil, malformed("not well-formed XML: %s", err)
		}
		if refused := f.token(token); refused != nil {
			return nil, refused
		}
	}
	if len(f.tokens) == 0 {
		return nil, malformed("the command is empty, expected XML such as <show><system><info></info></system></show>")
	}
	return f.tokens, nil
}

// WithoutDeclaration is a document without the XML declaration that some clients
// put before what they send.
func WithoutDeclaration(text string) string {
	text = strings.TrimLeft(text, " \t\r\n")
	if rest, declared := strings.CutPrefix(text, "<?xml "); declared {
		if _, after, ends := strings.Cut(rest, "?>"); ends {
			return after
		}
	}
	return text
}

func malformed(format string, args ...any) *mgmt.Error {
	return refusal(mgmt.CodeMalformed, format, args...)
}

type flattener struct {
	xml    *xml.Decoder
	open   []*level
	tokens []Token
	rooted bool // the outermost element has begun
}

// level is an element that is not closed yet.
type level struct {
	name     string
	text     strings.Builder
	children bool // it has elements within
	members  bool // a list has begun
}

func (f *flattener) token(token xml.Token) *mgmt.Error {
	switch t := token.(type) {
	case xml.StartElement:
		return f.start(t)
	case xml.EndElement:
		return f.end()
	case xml.CharData:
		if len(f.open) == 0 {
			if strings.TrimSpace(string(t)) != "" {
				return malformed("text outside of the command")
			}
			return nil
		}
		top := f.open[len(f.open)-1]
		if top.children && strings.TrimSpace(string(t)) != "" {
			return malformed("text beside elements within <%s>", top.name)
		}
		top.text.Write(t)
	case xml.Comment:
	default:
		return malformed("document types, entities and processing instructions are refused")
	}
	return nil
}

func (f *flattener) start(t xml.StartElement) *mgmt.Error {
	name := t.Name.Local
	switch {
	case t.Name.Space != "":
		return malformed("namespaces are refused, got one on <%s>", name)
	case len(f.open) == 0 && f.rooted:
		return malformed("more than one command, expected one")
	case len(f.open) == maxDepth:
		return malformed("elements are nested too deep, expected at most %d", maxDepth)
	case len(f.tokens) >= maxTokens:
		return malformed("the command has more than %d words", maxTokens)
	case len(name) > 64:
		return malformed("an element's name is longer than 64 bytes")
	}
	f.rooted = true
	if len(f.open) > 0 {
		parent := f.open[len(f.open)-1]
		if strings.TrimSpace(parent.text.String()) != "" {
			return malformed("text beside elements within <%s>", parent.name)
		}
		if parent.members && name != "member" {
			return malformed("<%s> beside <member>", name)
		}
		if name == "member" && !parent.members {
			if parent.children {
				return malformed("<member> beside other elements")
			}
			parent.members = true
			f.tokens = append(f.tokens, Token{Text: "["})
		}
		parent.children = true
	} else if name == "member" || name == "entry" {
		return malformed("a command does not begin with <%s>", name)
	}
	if err := f.word(name, t.Attr); err != nil {
		return err
	}
	f.open = append(f.open, &level{name: name})
	return nil
}

// word appends what an element's name and attributes say.
func (f *flattener) word(name string, attrs []xml.Attr) *mgmt.Error {
	switch name {
	case "member":
		if len(attrs) > 0 {
			return malformed("an attribute on <member>")
		}
	case "entry":
		if len(attrs) != 1 || attrs[0].Name.Local != "name" || attrs[0].Name.Space != "" {
			return malformed("an entry has one attribute, expected <entry name=\"…\">")
		}
		f.tokens = append(f.tokens, Token{attrs[0].Value, true})
	default:
		if len(attrs) > 0 {
			return malformed("an attribute on <%s>", name)
		}
		f.tokens = append(f.tokens, Token{Text: name})
	}
	return nil
}

func (f *flattener) end() *mgmt.Error {
	top := f.open[len(f.open)-1]
	f.open = f.open[:len(f.open)-1]
	text := strings.TrimSpace(top.text.String())
	switch {
	case top.members:
		f.tokens = append(f.tokens, Token{Text: "]"})
	case text != "":
		f.tokens = append(f.tokens, Token{text, true})
	case top.name == "member":
		return malformed("an empty <member>")
	}
	return nil
}
