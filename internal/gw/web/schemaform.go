package web

import (
	"slices"
	"strings"

	"moongate/internal/gw/config"
)

// Forms of elements of the configuration are made of the schema: what it knows
// and the gateway obeys is shown, with its help and its default, and nothing
// else.

// setting is one field of such a form.
type setting struct {
	Path    string // below the element, the names joined by slashes; also the field's name
	Label   string
	Help    string
	Absent  string // what is taken where it is empty
	Kind    settingKind
	Choices []Choice
}

type settingKind int

const (
	settingText settingKind = iota
	settingBox              // yes and no
	settingChoice
	settingLines // one value a line
)

// settingGroup is a container's fields.
type settingGroup struct {
	Label, Help string
	Settings    []setting
}

// settingsAt are the groups of fields of the element at a path, its own leaves
// first. skip are names that the page edits otherwise.
func (v *visit) settingsAt(path string, skip ...string) ([]settingGroup, error) {
	row, err := config.Lookup(path)
	if err != nil {
		return nil, err
	}
	own := settingGroup{}
	var groups []settingGroup
	v.gather(row, "", &own, &groups, skip)
	if len(own.Settings) > 0 {
		groups = append([]settingGroup{own}, groups...)
	}
	return groups, nil
}

func (v *visit) gather(row config.Row, prefix string, group *settingGroup, groups *[]settingGroup, skip []string) {
	for _, child := range row.Children() {
		name := prefix + child.Name()
		if child.State() == config.Awaited || slices.Contains(skip, name) || child.Secret() {
			continue
		}
		switch child.Kind() {
		case config.KindContainer:
			below := settingGroup{Label: label(child.Name()), Help: child.Help()}
			v.gather(child, name+"/", &below, groups, skip)
			if len(below.Settings) > 0 {
				*groups = append(*groups, below)
			}
		case config.KindLeaf, config.KindMembers:
			group.Settings = append(group.Settings, v.settingOf(child, name))
		}
	}
}

func (v *visit) settingOf(row config.Row, name string) setting {
	s := setting{Path: name, Label: label(row.Name()), Help: row.Help(), Absent: row.Absent()}
	words := row.Words()
	switch {
	case row.Kind() == config.KindMembers:
		s.Kind = settingLines
		s.Help += "; one a line"
	case slices.Equal(words, []string{"no", "yes"}), slices.Equal(words, []string{"yes", "no"}):
		s.Kind = settingBox
	case len(row.Refers()) > 0:
		s.Kind = settingChoice
		s.Choices = v.namesIn(row.Refers())
	case len(words) > 0:
		s.Kind = settingChoice
		for _, w := range words {
			s.Choices = append(s.Choices, Choice{w, w})
		}
	}
	if s.Kind == settingChoice && !row.Needed() {
		absent := "default"
		if row.Absent() != "" {
			absent += ": " + row.Absent()
		}
		s.Choices = append([]Choice{{"", absent}}, s.Choices...)
	} else if row.Absent() != "" && s.Kind != settingBox {
		s.Help += " (" + row.Absent() + " by default)"
	}
	return s
}

// namesIn are the names of the entries of lists, to choose from.
func (v *visit) namesIn(lists []string) []Choice {
	var list []Choice
	for _, path := range lists {
		t, err := v.candidate(path)
		if err != nil {
			continue
		}
		for _, e := range t.entries() {
			list = append(list, Choice{e.name(), e.name()})
		}
	}
	return list
}

// labels are the field's words for names of the configuration, where they are
// not the names themselves.
var labels = map[string]string{
	"ssl-forward-proxy": "SSL Forward Proxy", "ssl-inbound-proxy": "SSL Inbound Inspection", "ssl-protocol-settings": "SSL Protocol Settings",
	"block-expired-certificate": "Block sessions with expired certificates", "block-untrusted-issuer": "Block sessions with untrusted issuers",
	"block-if-sni-mismatch": "Block sessions on SNI mismatch with Server Certificate (SAN/CN)", "block-unsupported-version": "Block sessions with unsupported versions",
	"block-if-hsm-unavailable": "Block sessions if HSM not available", "min-version": "Min Version", "max-version": "Max Version",
	"keyxchg-algo-rsa": "RSA key exchange", "keyxchg-algo-ecdhe": "ECDHE key exchange", "api": "XML API", "key": "API keys",
	"https-port": "HTTPS port", "ssh-port": "SSH port", "hostname": "Host name", "destination-host": "Destination host",
}

// label is a name for people.
func label(name string) string {
	if known := labels[name]; known != "" {
		return known
	}
	words := strings.ReplaceAll(name, "-", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

// fill puts what the element has into a form.
func fill(f *Form, groups []settingGroup, at tree, row config.Row) {
	for _, g := range groups {
		for _, s := range g.Settings {
			names := strings.Split(s.Path, "/")
			switch s.Kind {
			case settingLines:
				f.values.Set(s.Path, strings.Join(at.at(names...).members(), "\n"))
			case settingBox:
				absent := ""
				if r, found := below(row, names); found {
					absent = r.Absent()
				}
				f.values.Set(s.Path, at.or(absent, names...))
			default:
				f.values.Set(s.Path, at.text(names...))
			}
		}
	}
}

func below(row config.Row, names []string) (config.Row, bool) {
	for _, name := range names {
		next, found := row.Child(name)
		if !found {
			return config.Row{}, false
		}
		row = next
	}
	return row, true
}

// build makes the element of a form: what is as by default is left out. kept are
// children of the old element that the form does not have.
func build(f *Form, name string, groups []settingGroup, row config.Row, old tree, kept ...string) *config.Node {
	root := element(name)
	for _, g := range groups {
		for _, s := range g.Settings {
			names := strings.Split(s.Path, "/")
			var value *config.Node
			last := names[len(names)-1]
			switch s.Kind {
			case settingLines:
				value = memberList(last, f.Lines(s.Path))
			case settingBox:
				r, _ := below(row, names)
				said := "no"
				if f.Checked(s.Path) {
					said = "yes"
				}
				if said != r.Absent() {
					value = leaf(last, said)
				}
			default:
				value = leaf(last, f.Text(s.Path))
			}
			if value != nil {
				into := ensure(root, names[:len(names)-1])
				into.Children = append(into.Children, value)
			}
		}
	}
	for _, k := range kept {
		if n := old.at(k).node; n != nil {
			root.Children = append(root.Children, n)
		}
	}
	return root
}

func ensure(n *config.Node, names []string) *config.Node {
	for _, name := range names {
		var next *config.Node
		for _, c := range n.Children {
			if c.Name == name {
				next = c
			}
		}
		if next == nil {
			next = element(name)
			n.Children = append(n.Children, next)
		}
		n = next
	}
	return n
}

// settingErrors says which field a path of the configuration is.
func settingErrors(groups []settingGroup) map[string]string {
	fields := map[string]string{}
	for _, g := range groups {
		for _, s := range g.Settings {
			fields["/"+s.Path] = s.Path
		}
	}
	return fields
}

// setEdits are the edits that make an element of no fixed place (its parents may
// be missing) what a form says: the old one goes, the new one comes.
func setEdits(parent, name string, n *config.Node, old tree) []config.Edit {
	var edits []config.Edit
	if old.there() {
		edits = append(edits, config.Edit{Op: config.OpDelete, Path: parent + "/" + name})
	}
	if n != nil && len(n.Children) > 0 {
		edits = append(edits, config.Edit{Op: config.OpSet, Path: parent, Elements: []*config.Node{n}})
	}
	return edits
}
