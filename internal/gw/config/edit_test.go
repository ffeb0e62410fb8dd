package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elements reads a fragment of a test.
func elements(t testing.TB, text string) []*Node {
	t.Helper()
	nodes, err := ParseFragment([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// applied makes one edit after another, and sees that none writes to the tree
// that it was given.
func applied(t testing.TB, root *Node, edits ...Edit) *Node {
	t.Helper()
	for _, e := range edits {
		before := Encode(root)
		after, err := Apply(root, e)
		if err != nil {
			t.Fatalf("%s %s: %v", e.Op, e.Path, err)
		}
		if string(Encode(root)) != string(before) {
			t.Fatalf("%s %s wrote to the tree that it was given", e.Op, e.Path)
		}
		root = after
	}
	return root
}

// at is the text of what the path means, "" for nothing.
func at(t testing.TB, root *Node, path string) string {
	t.Helper()
	nodes, err := Select(root, path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range nodes {
		b.WriteString(Compact(n))
	}
	return b.String()
}

func names(t testing.TB, root *Node, list string) []string {
	t.Helper()
	nodes, err := Select(root, list+"/entry/@name")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range nodes {
		names = append(names, n.Entry)
	}
	return names
}

func TestApplySetMerges(t *testing.T) {
	t.Parallel()
	root := applied(t, Default(),
		// A client that makes a rule gives the list and the entry.
		Edit{Op: OpSet, Path: `/config/devices/entry[@name="localhost.localdomain"]/vsys/entry[ @name = 'vsys1' ]/rulebase/decryption/rules/`,
			Elements: elements(t, `<entry name="a"><action>decrypt</action><type><ssl-forward-proxy/></type><source><member>10.0.0.0/8</member></source></entry>`)},
		// Another that adds to it gives whole subtrees, from further above.
		Edit{Op: OpSet, Path: "/config/devices/entry/vsys/entry", Elements: elements(t, `
			<rulebase><decryption><rules>
				<entry name="a">
					<action> no-decrypt </action>
					<source><member>10.0.0.0/8</member><member> 10.1.2.3
					</member></source>
				</entry>
				<entry name="b"><action>no-decrypt</action></entry>
			</rules></decryption></rulebase>
			<profiles><decryption><entry name="p"/></decryption></profiles>`)},
		// One alternative takes the place of another, by either way.
		Edit{Op: OpSet, Path: rulePath("a"), Elements: elements(t, `<type><ssl-inbound-inspection><certificates><member>x</member></certificates></ssl-inbound-inspection></type>`)},
		Edit{Op: OpSet, Path: rulePath("b") + "/type/ssl-forward-proxy"},
		Edit{Op: OpSet, Path: rulePath("b") + "/type/ssl-inbound-inspection/certificates", Elements: elements(t, `<member>y</member>`)},
		// Some clients give the leaf's own path.
		Edit{Op: OpSet, Path: rulePath("b") + "/disabled", Elements: elements(t, `<disabled>yes</disabled>`)},
	)
	want := `<rules>` +
		`<entry name="a"><action>no-decrypt</action><type><ssl-inbound-inspection><certificates><member>x</member></certificates></ssl-inbound-inspection></type>` +
		`<source><member>10.0.0.0/8</member><member>10.1.2.3</member></source></entry>` +
		`<entry name="b"><action>no-decrypt</action><type><ssl-inbound-inspection><certificates><member>y</member></certificates></ssl-inbound-inspection></type>` +
		`<disabled>yes</disabled></entry></rules>`
	if diff := cmp.Diff(want, at(t, root, rulesPath)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if got := names(t, root, profilesPath); !slices.Equal(got, []string{"p"}) {
		t.Errorf("profiles: %q", got)
	}
}

// Many entries at once are found by an index, with the same result.
func TestApplySetManyEntries(t *testing.T) {
	t.Parallel()
	var one, all strings.Builder
	root := Default()
	for _, name := range strings.Fields("a b c d e f a c") {
		entry := `<entry name="` + name + `"><source><member>any</member></source></entry>`
		one.Reset()
		one.WriteString(entry)
		all.WriteString(entry)
		root = applied(t, root, Edit{Op: OpSet, Path: rulesPath, Elements: elements(t, one.String())})
	}
	var pieces []*Node
	for _, name := range strings.Fields("a b c d e f a c") {
		pieces = append(pieces, elements(t, `<entry name="`+name+`"><source><member>any</member></source></entry>`)...)
	}
	together := applied(t, Default(), Edit{Op: OpSet, Path: rulesPath, Elements: pieces})
	if diff := cmp.Diff(string(Encode(root)), string(Encode(together))); diff != "" {
		t.Errorf("one by one and together (-one +together):\n%s", diff)
	}
}

func TestApplyEdit(t *testing.T) {
	t.Parallel()
	root := applied(t, Default(),
		Edit{Op: OpSet, Path: rulesPath, Elements: elements(t, `<entry name="a"><action>decrypt</action><disabled>yes</disabled></entry><entry name="b"/>`)},
		Edit{Op: OpEdit, Path: rulePath("a"), Elements: elements(t, `<entry name="a"><action>no-decrypt</action></entry>`)},
		Edit{Op: OpEdit, Path: rulePath("c"), Elements: elements(t, `<entry name="c"/>`)},
		Edit{Op: OpEdit, Path: rulePath("c") + "/source", Elements: elements(t, `<source><member>10.0.0.1</member></source>`)},
		Edit{Op: OpEdit, Path: rulePath("c") + "/source", Elements: elements(t, `<source><member>10.0.0.2</member></source>`)},
		Edit{Op: OpEdit, Path: rulePath("b") + "/description", Elements: elements(t, `<description>x</description>`)},
	)
	want := `<rules><entry name="a"><action>no-decrypt</action></entry><entry name="b"><description>x</description></entry>` +
		`<entry name="c"><source><member>10.0.0.2</member></source></entry></rules>`
	if diff := cmp.Diff(want, at(t, root, rulesPath)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func threeRules(t testing.TB) *Node {
	return applied(t, Default(), Edit{Op: OpSet, Path: rulesPath, Elements: elements(t,
		`<entry name="a"><source><member>10.0.0.1</member><member>10.0.0.2</member></source></entry><entry name="b"><description>x</description></entry><entry name="c"/>`)})
}

func TestApplyDelete(t *testing.T) {
	t.Parallel()
	root := applied(t, threeRules(t),
		Edit{Op: OpDelete, Path: rulesPath + "/entry[@name='c' or @name='nowhere']"},
		Edit{Op: OpDelete, Path: rulePath("b") + "/description"},
		Edit{Op: OpDelete, Path: rulePath("a") + `/source/member[text()="10.0.0.1"]`},
	)
	want := `<rules><entry name="a"><source><member>10.0.0.2</member></source></entry><entry name="b"/></rules>`
	if diff := cmp.Diff(want, at(t, root, rulesPath)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	// A source without members would mean any: it stays, to be refused.
	root = applied(t, root, Edit{Op: OpDelete, Path: rulePath("a") + `/source/member[text()='10.0.0.2']`})
	if got := at(t, root, rulePath("a")); got != `<entry name="a"><source/></entry>` {
		t.Errorf("the last member of a rule's source: %s", got)
	}
	// Another list goes with its last member.
	root = applied(t, root,
		Edit{Op: OpSet, Path: proxyPath, Elements: elements(t, `<allowed-destination><member>127.0.0.1:1</member></allowed-destination>`)},
		Edit{Op: OpDelete, Path: proxyPath + "/allowed-destination/member[text()='127.0.0.1:1']"},
		Edit{Op: OpDelete, Path: rulesPath + "/entry[@name='a']"},
		Edit{Op: OpDelete, Path: rulesPath + "/entry"}, // the only one that is left
	)
	if got := at(t, root, proxyPath) + at(t, root, rulesPath); got != `<proxy/><rules/>` {
		t.Errorf("what is left: %s", got)
	}
}

func TestApplyMove(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, where, dst, want string }{
		{"c", Top, "", "c a b"},
		{"a", Bottom, "", "b c a"},
		{"c", Before, "b", "a c b"},
		{"a", After, "b", "b a c"},
		{"a", Before, "c", "b a c"},
		{"a", Top, "", "a b c"},
		{"b", After, "a", "a b c"},
	} {
		root := applied(t, threeRules(t), Edit{Op: OpMove, Path: rulePath(test.name), Where: test.where, Dst: test.dst})
		if got := strings.Join(names(t, root, rulesPath), " "); got != test.want {
			t.Errorf("%s to %s %s: %s, want %s", test.name, test.where, test.dst, got, test.want)
		}
	}
}

func TestApplyRenameAndClone(t *testing.T) {
	t.Parallel()
	root := applied(t, threeRules(t),
		Edit{Op: OpRename, Path: rulePath("a"), NewName: "z"},
		Edit{Op: OpRename, Path: rulePath("b"), NewName: "b"},
		Edit{Op: OpClone, Path: rulePath("b"), NewName: "y"},
		Edit{Op: OpSet, Path: rulePath("b"), Elements: elements(t, `<description>of b alone</description>`)},
	)
	if got := strings.Join(names(t, root, rulesPath), " "); got != "z b c y" {
		t.Errorf("names: %s", got)
	}
	if got := at(t, root, rulePath("y")); got != `<entry name="y"><description>x</description></entry>` {
		t.Errorf("the clone: %s", got)
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	fragment := func(text string) []*Node { return elements(t, text) }
	for _, test := range []struct {
		edit Edit
		want string
		is   error
	}{
		{edit: Edit{Op: "x", Path: "/config"}, want: `/config: unknown kind of edit, got "x", expected set, edit, delete, rename, move or clone`},
		{edit: Edit{Op: OpSet, Path: "config"}, want: `not a path, got "config", expected / before "config"`},
		{edit: Edit{Op: OpSet, Path: "/config//shared"}, want: `not a path, got "/config//shared", expected an element's name after each /`},
		{edit: Edit{Op: OpSet, Path: profilesPath + "/entry"}, want: `not a path, got ` + shown(profilesPath+"/entry") + `, expected entry[@name='…']`},
		{edit: Edit{Op: OpSet, Path: rulesPath + "/entry[@name='a' or @name='b']"}, want: `not a path, got ` + shown(rulesPath+"/entry[@name='a' or @name='b']") + `, expected one name in each predicate`},
		{edit: Edit{Op: OpDelete, Path: rulesPath + "/*"}, want: `not a path, got ` + shown(rulesPath+"/*") + `, expected the name of what is changed instead of *`},
		{edit: Edit{Op: OpDelete, Path: rulesPath + "/entry/@name"}, want: `not a path, got ` + shown(rulesPath+"/entry/@name") + `, expected an element, not an attribute`},
		{edit: Edit{Op: OpDelete, Path: "/config"}, want: `not a path, got "/config", expected something within the configuration`},
		{edit: Edit{Op: OpDelete, Path: rulesPath + "/entry"}, want: shown(rulesPath+"/entry") + `: not unique: 3 entries, expected entry[@name='…']`, is: ErrNotUnique},
		{edit: Edit{Op: OpDelete, Path: rulePath("x")}, want: rulePath("x") + `: not present`, is: ErrNotPresent},
		{edit: Edit{Op: OpDelete, Path: rulePath("a") + "/source/member[text()='x']"}, want: rulePath("a") + `/source/member[text()='x']: not present`, is: ErrNotPresent},
		{edit: Edit{Op: OpDelete, Path: rulePath("a") + "/sources"}, want: rulePath("a") + `/sources: unknown element, got "sources", did you mean "source"?`},
		{edit: Edit{Op: OpRename, Path: rulePath("a"), NewName: "b"}, want: rulePath("b") + `: not unique: there is one of that name`, is: ErrNotUnique},
		{edit: Edit{Op: OpRename, Path: rulePath("a"), NewName: ""}, want: rulePath("a") + `/@name: an entry's name is empty, got ""`},
		{edit: Edit{Op: OpRename, Path: rulePath("x"), NewName: "y"}, want: rulePath("x") + `: not present`, is: ErrNotPresent},
		{edit: Edit{Op: OpRename, Path: rulesPath, NewName: "y"}, want: rulesPath + `: not an entry, expected entry[@name='…'] at the end`},
		{edit: Edit{Op: OpRename, Path: DevicePath, NewName: "y"}, want: DevicePath + `/@name: not one of the choices, got "y", expected localhost.localdomain`},
		{edit: Edit{Op: OpClone, Path: rulePath("a"), NewName: "a"}, want: rulePath("a") + `: not unique: there is one of that name`, is: ErrNotUnique},
		{edit: Edit{Op: OpMove, Path: rulePath("a"), Where: "up"}, want: rulePath("a") + `: no such place, got "up", expected top, bottom, before or after`},
		{edit: Edit{Op: OpMove, Path: rulePath("a"), Where: Before, Dst: "a"}, want: rulePath("a") + `: moved before itself, expected another entry`},
		{edit: Edit{Op: OpMove, Path: rulePath("a"), Where: After, Dst: "x"}, want: rulePath("x") + `: not present`, is: ErrNotPresent},
		{edit: Edit{Op: OpEdit, Path: "/config", Elements: fragment("<config/>")}, want: `/config: the whole configuration, expected something within it`},
		{edit: Edit{Op: OpEdit, Path: rulePath("a")}, want: rulePath("a") + `: takes one element, got 0`},
		{edit: Edit{Op: OpEdit, Path: rulePath("a"), Elements: fragment(`<entry name="b"/>`)}, want: rulePath("a") + `: another element, got "entry[@name='b']", expected entry[@name='a']`},
		{edit: Edit{Op: OpSet, Path: rulePath("a"), Elements: fragment(`<action>explode</action>`)}, want: rulePath("a") + `/action: not one of the choices, got "explode", expected decrypt or no-decrypt`},
		{edit: Edit{Op: OpSet, Path: rulePath("a"), Elements: fragment(`<actoin>decrypt</actoin>`)}, want: rulePath("a") + `/actoin: unknown element, got "actoin", did you mean "action"?`},
		{edit: Edit{Op: OpSet, Path: rulesPath, Elements: fragment(`<entry name="n"><group-tag>x</group-tag></entry>`)}, want: rulePath("n") + `/group-tag: not supported yet`},
		{edit: Edit{Op: OpSet, Path: rulesPath, Elements: fragment(`<entry name="n" uuid="1"/>`)}, want: rulePath("n") + `/@uuid: not supported yet`},
		{edit: Edit{Op: OpSet, Path: rulesPath, Elements: fragment(`<entry name="/"/>`)}, want: rulePath("/") + `/@name: not a name, got "/", expected ` + objectName(63).doc},
		{edit: Edit{Op: OpSet, Path: rulePath("a") + "/source", Elements: fragment(`<member>x</member>`)}, want: rulePath("a") + `/source/member: not an address or network, got "x", expected any, an address or a network such as 10.0.0.0/8`},
		{edit: Edit{Op: OpSet, Path: rulePath("a") + "/source/member[text()='any']"}, want: `not a path, got ` + shown(rulePath("a")+"/source/member[text()='any']") + `, expected the list instead of a member of it`},
		{edit: Edit{Op: OpSet, Path: rulePath("a") + "/disabled"}, want: rulePath("a") + `/disabled: takes one value, expected <disabled>`},
		{edit: Edit{Op: OpSet, Path: rulePath("a"), Elements: []*Node{{Name: "description", Text: "a\x00b"}}}, want: rulePath("a") + `/description: a character that XML cannot hold`},
		{edit: Edit{Op: OpSet, Path: rulePath("a"), Elements: fragment(`<type><ssl-forward-proxy/><ssl-inbound-inspection/></type>`)}, want: rulePath("a") + `/type: a choice, got both ssl-forward-proxy and ssl-inbound-inspection, expected ssl-forward-proxy, ssl-inbound-inspection or ssh-proxy`},
	} {
		after, err := Apply(threeRules(t), test.edit)
		if err == nil || after != nil || err.Error() != test.want {
			t.Errorf("%s %s\ngot  %v\nwant %s", test.edit.Op, test.edit.Path, err, test.want)
		}
		if test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s %s: %v is no %v", test.edit.Op, test.edit.Path, err, test.is)
		}
	}
}

// A path of the XML API's clients that means nothing is no error; one that
// cannot be read is.
func TestSelect(t *testing.T) {
	t.Parallel()
	root := threeRules(t)
	for _, test := range []struct{ path, want string }{
		{"/config/devices/entry/vsys/entry/rulebase/decryption/rules/entry/@name", `<entry name="a"/><entry name="b"/><entry name="c"/>`},
		{rulesPath + "/entry[@name='b' or @name=\"c\"]", `<entry name="b"><description>x</description></entry><entry name="c"/>`},
		{rulesPath + "/entry/source/member", `<member>10.0.0.1</member><member>10.0.0.2</member>`},
		{rulesPath + "/entry/source/member[text()='10.0.0.2']", `<member>10.0.0.2</member>`},
		{rulesPath + "/*/description/", `<description>x</description>`},
		{"/config/shared", `<shared/>`},
		{"/config/nowhere/entry", ``},
		{"/other", ``},
		{rulePath("it's"), ``},
	} {
		if got := at(t, root, test.path); got != test.want {
			t.Errorf("%s: %s, want %s", test.path, got, test.want)
		}
	}
	for _, path := range []string{
		"", "/", "config", "//config", "/config/@name", "/config/entry/@name/x", "/config[1]", "/config/entry[1]", "/config/entry[@id='x']",
		"/config/entry[@name=x]", "/config/entry[@name='x'", "/config/entry[@name='x' and @name='y']", "/config/entry[@name='']",
		"/config/entry[@name='a' or]", "/config/member[@name='x']", "/config/shared[text()='x']", "/config/a b", "/config/\x00",
		strings.Repeat("/a", maxDepth+1), "/config/entry[@name='" + strings.Repeat("a", maxPath) + "']",
	} {
		var wrong *PathError
		if _, err := Select(root, path); !errors.As(err, &wrong) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestSetEdit(t *testing.T) {
	t.Parallel()
	root := Default()
	for _, set := range []struct {
		path   string
		values []string
	}{
		{DevicePath + "/deviceconfig/system/hostname", []string{" gw "}},
		{rulePath("a") + "/source", []string{"10.0.0.1", "10.0.0.2"}},
		{rulePath("a") + "/source/member", []string{"10.0.0.3"}},
		{rulePath("b"), nil},
		{"/config/devices/entry/vsys/entry/rulebase/decryption/rules/entry[@name='b']/type/ssl-forward-proxy", nil},
		{"/config", nil},
	} {
		e, err := SetEdit(set.path, set.values...)
		if err != nil {
			t.Fatal(err)
		}
		root = applied(t, root, e)
	}
	want := `<rules><entry name="a"><source><member>10.0.0.1</member><member>10.0.0.2</member><member>10.0.0.3</member></source></entry>` +
		`<entry name="b"><type><ssl-forward-proxy/></type></entry></rules>`
	if got := at(t, root, rulesPath); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, refused := range []struct {
		path   string
		values []string
	}{
		{"/config/x", nil},
		{"x", nil},
		{rulePath("a") + "/disabled", nil},
		{rulePath("a") + "/disabled", []string{"maybe"}},
		{rulesPath, nil},
	} {
		if e, err := SetEdit(refused.path, refused.values...); err == nil {
			t.Errorf("%s: %+v", refused.path, e)
		}
	}
}
