package config

import "slices"

// Row is a read-only view of one element of the schema: what a CLI's grammar,
// help and completion are made of. The zero Row is of nothing.
type Row struct {
	at      target
	list    string // the path of the row
	awaited bool   // something above is not supported yet
}

// Kind is what an element holds.
type Kind string

const (
	KindContainer Kind = "container"       // elements, each at most once
	KindList      Kind = "list of entries" // entries, each with a name of its own
	KindEntry     Kind = "entry"           // one of such a list: elements, each at most once
	KindMembers   Kind = "list of values"
	KindLeaf      Kind = "value"
)

// Schema is the row of /config.
func Schema() Row { return Row{at: target{row: schema}, list: "/" + schema.name} }

// Lookup returns the row that a path leads to; an entry in the path may be
// without a name. An error is a *PathError or a Problem, which for an unknown
// element names the nearest known one.
func Lookup(path string) (Row, error) {
	p, err := parseXPath(path)
	if err != nil {
		return Row{}, err
	}
	fail := func(n int, text string) (Row, error) {
		return Row{}, Problem{Path: xpath{steps: p.steps[:n]}.String(), Text: text}
	}
	if p.names || slices.ContainsFunc(p.steps, func(s selector) bool { return s.name == "*" }) {
		return Row{}, &PathError{path, "expected the path of one element"}
	}
	if p.steps[0].name != schema.name {
		return fail(1, "unknown element, got "+shown(p.steps[0].name)+", expected "+schema.name)
	}
	r := Schema()
	for i, s := range p.steps[1:] {
		next, wrong := r.at.next(s.name, s.keys)
		if wrong != "" {
			return fail(i+2, wrong)
		}
		r = r.below(next, s.String())
	}
	return r, nil
}

func (r Row) below(at target, step string) Row {
	return Row{at: at, list: r.list + "/" + step, awaited: r.awaited || r.at.row.state == Awaited}
}

// Name is the element's: hostname; entry for a list's entries.
func (r Row) Name() string {
	switch {
	case r.at.entry:
		return entryName
	case r.at.member:
		return memberName
	default:
		return r.at.row.name
	}
}

// Help says in a few words what the element is for.
func (r Row) Help() string { return r.at.row.help }

// Kind says what the element holds.
func (r Row) Kind() Kind {
	switch {
	case r.at.entry:
		return KindEntry
	case r.at.member || r.at.row.kind == isLeaf:
		return KindLeaf
	case r.at.row.kind == isEntries:
		return KindList
	case r.at.row.kind == isMembers:
		return KindMembers
	default:
		return KindContainer
	}
}

// Children are the rows below, in the schema's order: of a list of entries, the
// one row of its entries; of values, none.
func (r Row) Children() []Row {
	switch r.Kind() {
	case KindList:
		return []Row{r.below(target{row: r.at.row, entry: true}, entryName)}
	case KindContainer, KindEntry:
		rows := make([]Row, len(r.at.row.children))
		for i, c := range r.at.row.children {
			rows[i] = r.below(target{row: c}, c.name)
		}
		return rows
	}
	return nil
}

// Child is the row below of that name: entry for a list's entries.
func (r Row) Child(name string) (Row, bool) {
	next, wrong := r.at.next(name, nil)
	if wrong != "" {
		return Row{}, false
	}
	return r.below(next, name), true
}

// value is what a leaf or member holds, and an entry's name.
func (r Row) value() *value {
	if r.at.row.kind == isEntries {
		return r.at.row.key
	}
	return r.at.row.value
}

// Doc says what a value, or an entry's name, is expected to be; "" where there is none.
func (r Row) Doc() string {
	if v := r.value(); v != nil {
		return v.doc
	}
	return ""
}

// Words are the values that can be completed: all of an enumeration, or those
// that stand beside others, such as any.
func (r Row) Words() []string {
	if v := r.value(); v != nil {
		return slices.Clone(v.words)
	}
	return nil
}

// Refers are the paths of the lists whose entries' names the value may be.
func (r Row) Refers() []string {
	if v := r.at.row.value; v != nil {
		return slices.Clone(v.refers)
	}
	return nil
}

// State says what the gateway does with the element. It is not less than that
// of what the element is in.
func (r Row) State() State {
	if r.awaited {
		return Awaited
	}
	return r.at.row.state
}

// Absent says what the gateway takes where the element is not there; "" for nothing.
func (r Row) Absent() string { return r.at.row.absent }

// IsEntry reports a row of a list's entries.
func (r Row) IsEntry() bool { return r.at.entry }

// Needed reports an element that must be there where its parent is.
func (r Row) Needed() bool { return r.at.row.needed && !r.at.entry }

// Choice reports a container that has at most one of its children.
func (r Row) Choice() bool { return r.at.row.choice }

// Secret reports a value that is not shown: Mask hides it.
func (r Row) Secret() bool { v := r.at.row.value; return v != nil && v.masked }

// Path is the row's own, entries without names.
func (r Row) Path() string { return r.list }

// Check says what is wrong with a value, or an entry's name, by itself; "" when
// nothing is.
func (r Row) Check(s string) string {
	v := r.value()
	switch {
	case v == nil:
		return "takes no value"
	case !isText(s):
		return "a character that XML cannot hold"
	case r.at.entry || r.at.list():
		return entryProblem(r.at.row, s)
	}
	return v.problem(trimmed(s))
}
