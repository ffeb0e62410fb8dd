package api

import (
	"fmt"
	"strings"
	"testing"
)

const rule = `<entry name="%s"><from><member>any</member></from><to><member>any</member></to><source><member>any</member></source>` +
	`<destination><member>any</member></destination><action>no-decrypt</action></entry>`

// TestEnvelopes holds answers byte by byte: clients look at their codes, at the
// order of children, some at the text.
func TestEnvelopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type request = []string
	cfg := func(action, xpath string, more ...string) request {
		return append(request{"type", "config", "action", action, "xpath", xpath}, more...)
	}
	one := fmt.Sprintf(rule, "one")
	for _, step := range []struct {
		name string
		send request
		want string
	}{
		{"get miss", cfg("get", rulesPath), `<response status="success" code="7"><result/></response>`},
		{"show miss", cfg("show", rulesPath), `<response status="error"><msg><line>No such node</line></msg></response>`},
		{"set", cfg("set", rulesPath, "element", one), done},
		{"get hit", cfg("get", rulePath), `<response status="success" code="19"><result total-count="1" count="1">` + one + `</result></response>`},
		{"get list", cfg("get", rulesPath), `<response status="success" code="19"><result total-count="1" count="1"><rules>` + one + `</rules></result></response>`},
		{"get names", cfg("get", rulesPath+"/entry/@name"), `<response status="success" code="19"><result total-count="1" count="1"><entry name="one"/></result></response>`},
		{"show before a commit", cfg("show", rulePath), `<response status="error"><msg><line>No such node</line></msg></response>`},
		{"this device", cfg("get", rulesPath+"/entry/@name", "target", "007000000001"), `<response status="success" code="19"><result total-count="1" count="1"><entry name="one"/></result></response>`},
		{"with a declaration", cfg("edit", rulePath, "element", "<?xml version=\"1.0\"?>\n"+one), done},
		{"set another", cfg("set", rulesPath, "element", fmt.Sprintf(rule, "two")), done},
		{"get two", cfg("get", rulesPath+"/entry[@name='one' or @name='two']/@name"),
			`<response status="success" code="19"><result total-count="2" count="2"><entry name="one"/><entry name="two"/></result></response>`},
		{"move", cfg("move", rulesPath+"/entry[@name='two']", "where", "before", "dst", "one"), done},
		{"moved", cfg("get", rulesPath+"/entry/@name"),
			`<response status="success" code="19"><result total-count="2" count="2"><entry name="two"/><entry name="one"/></result></response>`},
		{"move to where it is", cfg("move", rulesPath+"/entry[@name='two']", "where", "top"), done},
		{"edit", cfg("edit", rulePath, "element", strings.Replace(one, "no-decrypt", "decrypt", 1)), done},
		{"edited", cfg("get", rulePath+"/action"), `<response status="success" code="19"><result total-count="1" count="1"><action>decrypt</action></result></response>`},
		{"rename", cfg("rename", rulesPath+"/entry[@name='two']", "newname", "three"), done},
		{"clone", cfg("clone", rulesPath, "from", rulesPath+"/entry[@name='three']", "newname", "four"), done},
		{"renamed and cloned", cfg("get", rulesPath+"/entry/@name"),
			`<response status="success" code="19"><result total-count="3" count="3"><entry name="three"/><entry name="one"/><entry name="four"/></result></response>`},
		{"delete", cfg("delete", rulesPath+"/entry[@name='four']"), done},
		{"delete again", cfg("delete", rulesPath+"/entry[@name='four']"), `<response status="success" code="7"><msg>Object doesn't exist</msg></response>`},
		{"bad parameter", request{"type", "export", "category", "certificate", "certificate-name", "x"},
			`<response status="error" code="400"><result><msg>Parameter "format" is required while exporting certificate</msg></result></response>`},
		{"no type", request{"action", "get"}, `<response status="error" code="400"><result><msg>Parameter "type" is required in every request</msg></result></response>`},
		{"no xpath", request{"type", "config", "action", "get"}, `<response status="error" code="400"><result><msg>Parameter "xpath" is required in action=get</msg></result></response>`},
		{"no element", cfg("set", rulesPath), `<response status="error" code="400"><result><msg>Parameter "element" is required in action=set</msg></result></response>`},
		{"user-id", request{"type", "user-id", "cmd", "<uid-message/>"},
			`<response status="error" code="14"><msg><line><![CDATA[type=user-id is not supported: rules go by address, host name and service]]></line></msg></response>`},
		{"unknown command", request{"type", "op", "cmd", "<show><sytem/></show>"}, ""},
		{"pending", request{"type", "op", "cmd", "<check><pending-changes></pending-changes></check>"}, `<response status="success"><result>yes</result></response>`},
	} {
		got := w.as("admin", step.send...)
		if step.want == "" {
			continue
		}
		w.want(step.name, got, step.want)
	}
}

// TestRefusals: codes of what is refused, and a line that says why.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as("admin", "type", "config", "action", "set", "xpath", rulesPath, "element", fmt.Sprintf(rule, "one"))
	w.as("admin", "type", "config", "action", "set", "xpath", rulesPath, "element", fmt.Sprintf(rule, "two"))
	for _, test := range []struct {
		name string
		send []string
		code string
		says string
	}{
		{"bad xpath", []string{"action", "get", "xpath", "config//"}, "6", ""},
		{"bad predicate", []string{"action", "set", "xpath", "/config/devices/entry[position()=1]", "element", "<a/>"}, "6", ""},
		{"unknown element", []string{"action", "set", "xpath", rulesPath, "element", "<entry name='x'><acton>decrypt</acton></entry>"}, "12", "action"},
		{"bad value", []string{"action", "set", "xpath", rulePath, "element", "<action>maybe</action>"}, "12", "maybe"},
		{"not supported yet", []string{"action", "set", "xpath", rulePath, "element", "<group-tag>x</group-tag>"}, "12", "not supported yet"},
		{"not XML", []string{"action", "set", "xpath", rulePath, "element", "<action>"}, "12", "not well-formed"},
		{"an entity", []string{"action", "set", "xpath", rulePath, "element", "<!DOCTYPE a [<!ENTITY b 'c'>]><action>&b;</action>"}, "12", "refused"},
		{"rename onto another", []string{"action", "rename", "xpath", rulePath, "newname", "two"}, "8", "two"},
		{"rename what is not there", []string{"action", "rename", "xpath", rulesPath + "/entry[@name='nine']", "newname", "ten"}, "7", "nine"},
		{"unknown action", []string{"action", "override", "xpath", rulePath}, "400", "override"},
		{"where", []string{"action", "move", "xpath", rulePath, "where", "up"}, "400", "up"},
		{"no dst", []string{"action", "move", "xpath", rulePath, "where", "after"}, "400", "dst"},
		{"another device", []string{"action", "get", "xpath", rulePath, "target", "0123"}, "400", "target"},
		{"another vsys", []string{"action", "get", "xpath", rulePath, "vsys", "vsys2"}, "400", "vsys2"},
	} {
		got := w.as("admin", append([]string{"type", "config"}, test.send...)...)
		if !strings.HasPrefix(got, `<response status="error" code="`+test.code+`">`) || !strings.Contains(got, test.says) {
			t.Errorf("%s: got %s, want code %s and %q in it", test.name, got, test.code, test.says)
		}
	}
}

func TestMultiConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	send := func(strict, element string) string {
		return w.as("admin", "type", "config", "action", "multi-config", "strict-transactional", strict, "element", element)
	}
	set := func(id, name string) string {
		return `<set id="` + id + `" xpath="` + rulesPath + `">` + fmt.Sprintf(rule, name) + `</set>`
	}
	wrap := func(steps ...string) string {
		return "<multi-configure-request>" + strings.Join(steps, "") + "</multi-configure-request>"
	}
	names := func() string {
		got := w.as("admin", "type", "config", "action", "get", "xpath", rulesPath+"/entry/@name")
		var list []string
		for _, part := range strings.Split(got, `name="`)[1:] {
			name, _, _ := strings.Cut(part, `"`)
			list = append(list, name)
		}
		return strings.Join(list, " ")
	}
	ok := func(id string) string {
		return `<response status="success" code="20" id="` + id + `"><msg>command succeeded</msg></response>`
	}
	w.want("two sets", send("no", wrap(set("1", "a"), set("2", "b"))), `<response status="success" code="20">`+ok("1")+ok("2")+`</response>`)
	w.want("without an element around", send("no", set("x", "c")), `<response status="success" code="20">`+ok("x")+`</response>`)
	w.want("edit, move, delete, rename", send("yes", wrap(
		`<edit id="1" xpath="`+rulesPath+`/entry[@name='a']">`+fmt.Sprintf(rule, "a")+`</edit>`,
		`<move id="2" xpath="`+rulesPath+`/entry[@name='c']" where="top"/>`,
		`<delete id="3" xpath="`+rulesPath+`/entry[@name='b']"></delete>`,
		`<rename id="4" xpath="`+rulesPath+`/entry[@name='a']" newname="z"/>`,
	)), `<response status="success" code="20">`+ok("1")+ok("2")+ok("3")+ok("4")+`</response>`)
	w.want("names", names(), "c z")

	bad := `<set id="2" xpath="` + rulesPath + `"><entry name="bad"><action>maybe</action></entry></set>`
	got := send("no", wrap(set("1", "d"), bad, set("3", "e")))
	if !strings.HasPrefix(got, `<response status="error" code="12">`+ok("1")+`<response status="error" code="12" id="2"><msg><line>`) {
		t.Errorf("not strict: %s", got)
	}
	w.want("the first was made", names(), "c z d")
	got = send("yes", wrap(set("1", "f"), bad))
	if !strings.HasPrefix(got, `<response status="error" code="12"><response status="error" code="12" id="2"><msg><line>`) {
		t.Errorf("strict: %s", got)
	}
	w.want("none was made", names(), "c z d")

	for _, element := range []string{"", "<a/>", "<multi-config/>", "<set", "<!DOCTYPE a><set/>", wrap(`<get id="1" xpath="/config"/>`), wrap("text"),
		wrap(set("1", "a")) + wrap(set("2", "b")), `<set xpath="a" other="b"/>`, strings.Repeat("<set>", 50) + strings.Repeat("</set>", 50)} {
		got := send("no", element)
		if !strings.HasPrefix(got, `<response status="error" code="`) {
			t.Errorf("%q: %s", element, got)
		}
	}
	w.want("still", names(), "c z d")
}

// TestMultiKeepsMarkup: what is in an action reaches the configuration as it was
// sent, also where it looks like markup.
func TestMultiKeepsMarkup(t *testing.T) {
	t.Parallel()
	steps, err := parseMulti(`<multi-config><!-- </set> --><set id="1" xpath="/a"><b><![CDATA[</set>]]></b><!-- </b> --></set ><delete xpath='/c'/></multi-config>`)
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].element != `<b><![CDATA[</set>]]></b><!-- </b> -->` || steps[1].element != "" || steps[1].get("xpath") != "/c" {
		t.Errorf("got %+v", steps)
	}
}

func FuzzMulti(f *testing.F) {
	f.Add(`<multi-configure-request><set id="1" xpath="/config"><a/></set><delete xpath="/b"/></multi-configure-request>`)
	f.Add(`<set xpath="/a">x</set><edit xpath="b"><c>d</c></edit>`)
	f.Add(`<!DOCTYPE a [<!ENTITY b "c">]><set/>`)
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parseMulti(text)
		if err != nil {
			return
		}
		if len(steps) == 0 || len(steps) > maxSteps {
			t.Errorf("%d steps", len(steps))
		}
		for _, s := range steps {
			if !strings.Contains(text, s.element) {
				t.Errorf("%q is not in what was sent", s.element)
			}
			editOf(s.action, s.get, s.element) // must not panic
		}
	})
}

func FuzzCommit(f *testing.F) {
	f.Add("<commit></commit>")
	f.Add("<commit><description>a</description><force/><confirmed>5</confirmed></commit>")
	f.Add("<commit><partial><admin><member>a</member></admin></partial></commit>")
	f.Fuzz(func(t *testing.T, text string) {
		req, _, err := parseCommit(text)
		if err == nil && (req.Confirm < 0 || req.Confirm.Hours() > 7*24) {
			t.Errorf("%q: %+v", text, req)
		}
	})
}
