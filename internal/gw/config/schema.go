package config

import "slices"

// element is one row of the schema: what the manual, validation, setting by
// path and the snapshot know of an element. Rows are made once, by the table
// functions, and never written to again.
type element struct {
	name     string
	help     string
	kind     kind
	state    State
	value    *value     // of a leaf and of each member
	key      *value     // of each entry's name
	children []*element // of a container and of each entry
	attrs    []attribute
	absent   string // what the gateway takes when a leaf or list is not there
	needed   bool   // must be there where its parent is
	choice   bool   // at most one of the children may be there
	most     int    // entries; 0 for any number
	local    bool   // belongs to one device, not to a fleet of them
	title    string // begins a section of the manual

	index       map[string]*element // the children by name
	refersBelow bool                // it, or something below it, refers to an entry
	secretBelow bool                // it, or something below it, is a value that is not shown
}

// attribute is a known attribute other than an entry's name.
type attribute struct {
	name, help string
	state      State
}

type kind int

const (
	isContainer kind = iota
	isEntries        // a list of entries, each with a name of its own
	isMembers        // a list of values
	isLeaf
)

// State says what the gateway does with an element.
type State int

const (
	Obeyed  State = iota
	Noted         // kept for people and other programs; changes nothing
	Awaited       // known, and refused because nothing obeys it yet
)

func (s State) String() string {
	switch s {
	case Noted:
		return "a note"
	case Awaited:
		return "not supported yet"
	default:
		return "obeyed"
	}
}

func container(name, help string, children ...*element) *element {
	return &element{name: name, help: help, kind: isContainer, children: children}
}

// choice is a container of alternatives.
func choice(name, help string, children ...*element) *element {
	return &element{name: name, help: help, kind: isContainer, children: children, choice: true}
}

func entries(name, help string, key *value, children ...*element) *element {
	return &element{name: name, help: help, kind: isEntries, key: key, children: children}
}

func members(name, help string, v *value) *element {
	return &element{name: name, help: help, kind: isMembers, value: v}
}

func leaf(name, help string, v *value) *element {
	return &element{name: name, help: help, kind: isLeaf, value: v}
}

// or says what an absent element means. For a leaf it is a value of its kind,
// from which the snapshot is made; for a list, words.
func (e *element) or(absent string) *element { e.absent = absent; return e }

func (e *element) need() *element { e.needed = true; return e }

func (e *element) await() *element { e.state = Awaited; return e }

func (e *element) note() *element { e.state = Noted; return e }

// own marks what belongs to one device.
func (e *element) own() *element { e.local = true; return e }

func (e *element) section(title string) *element { e.title = title; return e }

// child returns the row of a child, nil when there is none of that name.
func (e *element) child(name string) *element { return e.index[name] }

func (e *element) childNames() []string {
	names := make([]string, len(e.children))
	for i, c := range e.children {
		names[i] = c.name
	}
	return names
}

// schema is the whole table. Nothing writes to it.
var schema = finished(config())

// referredTogether are the paths of the lists that values refer to, by value.
var referredTogether = schema.referred(nil)

// referredLists are those paths, each once.
var referredLists = func() []string {
	lists := slices.Concat(referredTogether...)
	slices.Sort(lists)
	return slices.Compact(lists)
}()

// finished fills in what follows from the rest of a row.
func finished(e *element) *element {
	e.index = make(map[string]*element, len(e.children))
	e.refersBelow = e.value != nil && len(e.value.refers) > 0
	e.secretBelow = e.value != nil && e.value.masked
	for _, c := range e.children {
		e.index[c.name] = finished(c)
		e.refersBelow = e.refersBelow || c.refersBelow
		e.secretBelow = e.secretBelow || c.secretBelow
	}
	return e
}

func (e *element) referred(found [][]string) [][]string {
	if e.value != nil && len(e.value.refers) > 0 {
		found = append(found, e.value.refers)
	}
	for _, c := range e.children {
		found = c.referred(found)
	}
	return found
}

func config() *element {
	root := container("config", "a gateway's configuration",
		container("shared", "what every virtual system uses",
			certificateTable("certificate").section("Certificates"),
			decryptTable("ssl-decrypt").section("Decryption certificates, trusted roots, exclusions"),
			serviceTable().section("Services"),
			logSettingsTable().section("Log forwarding"),
			tlsProfilesTable().section("The gateway's own TLS server"),
		),
		container("mgt-config", "who administers the gateway",
			usersTable().section("Administrators"),
			container("password-complexity", "what passwords must be like").await(),
		).own(),
		entries("devices", "this gateway", oneWord("localhost.localdomain"),
			container("deviceconfig", "what belongs to the device",
				systemTable().section("System and network HSM").own(),
				container("setting", "how the device works",
					proxyTable().section("Proxy: listeners, exceptions, limits").own(),
					managementTable().section("Management: addresses, sessions, logs").own(),
				),
			),
			entries("vsys", "the virtual system", oneWord("vsys1"),
				container("rulebase", "rules",
					container("decryption", "what is decrypted",
						rulesTable().section("Decryption rules"),
					),
				),
				container("profiles", "profiles that rules name",
					profilesTable().section("Decryption profiles"),
				),
				serviceTable().section("A virtual system's own services"),
				certificateTable("certificate").section("A virtual system's own certificates").await(),
				decryptTable("ssl-decrypt").section("A virtual system's own decryption settings").await(),
			),
		),
	)
	root.attrs = []attribute{
		{"version", "the release that the file was written for", Noted},
		{"detail-version", "the same with its patch level", Noted},
		{"urldb", "the URL database that the file was written with", Noted},
	}
	return root
}
