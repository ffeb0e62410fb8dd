package api

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"moongate/internal/gw/mgmt"
)

// multiStep is one action of a multi-config: <set id="1" xpath="…">elements</set>.
type multiStep struct {
	action, id, element string
	params              map[string]string
}

func (s multiStep) get(name string) string { return s.params[name] }

// Bounds of a multi-config, beyond the body's.
const (
	maxSteps = 20_000
	maxDeep  = 40 // elements within elements, those of a step among them
)

// multiNames are the elements that may be around the actions.
var multiNames = map[string]bool{"multi-configure-request": true, "multi-config": true, "multi-configure": true}

// multiParams are the attributes that an action may have besides its id.
var multiParams = map[string]bool{"xpath": true, "newname": true, "where": true, "dst": true, "from": true}

// parseMulti reads the element of a multi-config: actions beside each other, in
// one element or in none. It finds where each action's own elements begin and
// end; what is in them is read by config.ParseFragment. An error has
// CodeMalformed.
func parseMulti(text string) ([]multiStep, error) {
	p := multiParser{text: text, xml: xml.NewDecoder(strings.NewReader(text))}
	for {
		token, err := p.xml.Token()
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
		if err := p.token(token); err != nil {
			return nil, err
		}
	}
	if len(p.steps) == 0 {
		return nil, malformed("a multi-config has no actions, expected <multi-configure-request><set id=\"1\" xpath=\"…\">…</set></multi-configure-request>")
	}
	return p.steps, nil
}

func malformed(format string, args ...any) *mgmt.Error {
	return &mgmt.Error{Code: mgmt.CodeMalformed, Lines: []string{fmt.Sprintf(format, args...)}}
}

type multiParser struct {
	text  string
	xml   *xml.Decoder
	steps []multiStep

	depth   int   // elements that are open
	wrapped bool  // the outermost one holds actions
	rooted  bool  // the outermost one has ended, and held actions
	begin   int64 // where the open action's elements begin
}

// within says how deep an action's own elements are.
func (p *multiParser) within() int {
	if p.wrapped {
		return 2
	}
	return 1
}

func (p *multiParser) token(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		if p.depth++; p.depth > maxDeep {
			return malformed("elements are nested too deep, expected at most %d", maxDeep)
		}
		if p.rooted {
			return malformed("data after the end of the multi-config, got <%s>", t.Name.Local)
		}
		if p.depth == 1 && len(p.steps) == 0 && !p.wrapped && multiNames[t.Name.Local] {
			p.wrapped = true
			return nil
		}
		if p.depth == p.within() {
			return p.step(t)
		}
	case xml.EndElement:
		if p.depth == p.within() {
			// The offset is after the end tag, which is the last of its kind.
			end := p.xml.InputOffset()
			inner := p.text[p.begin:end]
			if at := strings.LastIndex(inner, "</"); at >= 0 {
				p.steps[len(p.steps)-1].element = inner[:at]
			}
		}
		if p.depth--; p.depth == 0 && p.wrapped {
			p.rooted = true
		}
	case xml.CharData:
		if p.depth < p.within() && strings.TrimSpace(string(t)) != "" {
			return malformed("text beside the actions of a multi-config")
		}
	case xml.Comment:
	default:
		return malformed("document types, entities and processing instructions are refused")
	}
	return nil
}

// step begins an action.
func (p *multiParser) step(t xml.StartElement) error {
	if len(p.steps) == maxSteps {
		return malformed("a multi-config has more than %d actions", maxSteps)
	}
	name := t.Name.Local
	if _, known := changes[name]; !known || t.Name.Space != "" {
		return malformed("<%s> is no action of a multi-config, expected set, edit, delete, rename, move or clone", name)
	}
	s := multiStep{action: name, params: map[string]string{}}
	for _, a := range t.Attr {
		_, twice := s.params[a.Name.Local]
		switch {
		case a.Name.Space != "" || twice:
			return malformed("an attribute twice, or a namespace, on <%s>", name)
		case a.Name.Local == "id":
			s.id = a.Value
		case multiParams[a.Name.Local]:
			s.params[a.Name.Local] = a.Value
		default:
			return malformed("attribute %s on <%s>, expected id, xpath, newname, where, dst or from", strconv.Quote(a.Name.Local), name)
		}
	}
	p.steps = append(p.steps, s)
	p.begin = p.xml.InputOffset()
	return nil
}
