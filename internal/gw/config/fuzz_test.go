package config

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A path that is read is written in one way, which is read as the same.
func FuzzXPath(f *testing.F) {
	for _, path := range []string{
		"/config", rulesPath + "/entry/@name", rulePath(`it's`) + "/source/member[text()=\"x\"]/",
		"/config/*/entry[ @name = 'a' or @name=\"b\" ]", "/config/shared//x", "/config/entry[1]", rulesPath + "/entry[@name='a' or",
	} {
		f.Add(path)
	}
	root := threeRules(f)
	f.Fuzz(func(t *testing.T, path string) {
		p, err := parseXPath(path)
		if err != nil {
			if _, isPath := err.(*PathError); !isPath || len(err.Error()) > 2*4*maxShown+200 {
				t.Fatalf("%T of %d bytes: %v", err, len(err.Error()), err)
			}
			return
		}
		again, err := parseXPath(p.String())
		for _, s := range p.steps {
			for _, key := range s.keys {
				if strings.Contains(key, "'") && strings.Contains(key, `"`) {
					t.Fatalf("a key with both quotation marks: %q", key)
				}
			}
		}
		if err != nil || again.String() != p.String() || len(again.steps) != len(p.steps) {
			t.Fatalf("%q became %q: %v", p, again, err)
		}
		first, _ := Select(root, path)
		second, _ := Select(root, p.String())
		if len(first) != len(second) {
			t.Fatalf("%q means %d, %q means %d", path, len(first), p, len(second))
		}
		for i := range first {
			if !p.names && first[i] != second[i] {
				t.Fatalf("%q and %q mean different nodes", path, p)
			}
		}
		_, _ = Lookup(path)
		_, _ = SetEdit(path, "x")
		for _, op := range []Op{OpDelete, OpClone, OpRename, OpMove} {
			if _, err := Apply(root, Edit{Op: op, Path: path, NewName: "new", Where: Top}); err == nil {
				continue
			}
		}
	})
}

// What Apply makes of a fragment can be written and read again, and merging it
// twice is merging it once.
func FuzzFragment(f *testing.F) {
	for _, text := range []string{
		``, `<a/>`, `<rulebase><decryption><rules><entry name="x"><action>decrypt</action></entry></rules></decryption></rulebase>`,
		`</fragment><x/>`, `<fragment/>`, `<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`, `<?xml version="1.0"?><a/>`, `text`,
		`<profiles><decryption><entry name="p"><ssl-forward-proxy><block-expired-certificate>yes</block-expired-certificate></ssl-forward-proxy></entry></decryption></profiles>`,
		`<service><entry name="s"><protocol><tcp><port>1-2</port></tcp></protocol></entry></service>`,
		strings.Repeat("<a>", 100),
	} {
		f.Add(text)
	}
	root := threeRules(f)
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := ParseFragment([]byte(text))
		if err != nil {
			return
		}
		set := Edit{Op: OpSet, Path: VsysPath, Elements: nodes}
		once, err := Apply(root, set)
		if err != nil {
			return
		}
		holds(t, root, once)
		twice, err := Apply(once, set)
		if err != nil {
			t.Fatal(err)
		}
		if !Equal(once, twice) {
			t.Fatalf("merged twice:\n%s", FormatDiff(once, twice))
		}
	})
}

// holds sees to what is true of every tree that Apply makes.
func holds(t testing.TB, before, after *Node) {
	t.Helper()
	text := Encode(after)
	again, err := Decode(text)
	if err != nil {
		t.Fatalf("not read again: %v\n%s", err, text)
	}
	if !Equal(after, again) {
		t.Fatalf("another tree when it is read again:\n%s", FormatDiff(after, again))
	}
	known := after.weigh()
	if size := unweighed(after).weigh(); known != size {
		t.Fatalf("its weight is said to be %v and is %v", known, size)
	}
	if int(known.size) < len(text)-len("<?xml version=\"1.0\"?>\n") {
		t.Fatalf("it weighs %d and is written in %d bytes", known.size, len(text))
	}
	changes, lines := Diff(before, after), FormatDiff(before, after)
	if (len(changes) == 0) != Equal(before, after) || (lines == "") != Equal(before, after) {
		t.Fatalf("equal: %v, but the difference is %v, in lines\n%s", Equal(before, after), changes, lines)
	}
	for _, secret := range []string{someSecret, someHash} {
		if strings.Contains(string(Encode(Mask(after))), secret) || strings.Contains(lines, secret) {
			t.Fatal("a secret is shown")
		}
	}
}

// unweighed copies a tree without what is known of its weight.
func unweighed(n *Node) *Node {
	c := n.copied()
	c.Children = nil
	for _, child := range n.Children {
		c.Children = append(c.Children, unweighed(child))
	}
	return c
}

// Random edits, one after another, of a seed: whatever they do, the tree that
// was given stays as it was, what comes out can be written and read again, and
// nothing refers to an entry that was removed by them.
func FuzzApply(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, uint8(60))
	}
	f.Fuzz(func(t *testing.T, seed uint64, edits uint8) {
		random := rand.New(rand.NewPCG(seed, 1))
		root := Default()
		for range edits {
			e := randomEdit(t, random)
			before := Encode(root)
			after, err := Apply(root, e)
			if diff := cmp.Diff(string(before), string(Encode(root))); diff != "" {
				t.Fatalf("%+v wrote to its tree:\n%s", e, diff)
			}
			if err != nil {
				continue
			}
			holds(t, root, after)
			for _, list := range referredLists {
				was, is := entryNames(root, list), entryNames(after, list)
				for _, name := range was.inOrder {
					if users := References(after, list, name); e.Op != OpSet && !is.has[name] && len(users) > 0 {
						t.Fatalf("%+v removed %s of %s, which %v refer to", e, name, list, users)
					}
				}
			}
			if e.Op == OpRename && len(dangling(root)) < len(dangling(after)) {
				t.Fatalf("%+v broke references: %v", e, dangling(after))
			}
			root = after
		}
		_, _, _ = Compile(root, now)
	})
}

// dangling are the references to what is not there.
func dangling(root *Node) []string {
	names := listNames{root: root}
	var broken []string
	walkRefs(root, func(r reference) {
		if !(slices.Contains(r.row.value.words, r.node.Text) || names.meant(r.row.value, r.node.Text) != "") {
			broken = append(broken, r.path())
		}
	})
	return broken
}

// randomEdit is an edit that has something to do in most trees.
func randomEdit(t testing.TB, random *rand.Rand) Edit {
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	name := pick("a", "b", "c", "it's")
	list := pick(rulesPath, profilesPath, certificatesPath, vsysServicesPath, sharedServicesPath, syslogPath, usersPath)
	entry := below(list, name)
	switch random.IntN(9) {
	case 0:
		return Edit{Op: OpDelete, Path: pick(entry, list, rulePath(name)+"/source/member[text()='10.0.0.1']", rulePath(name)+"/type", SharedPath, VsysPath, rulesPath+"/entry")}
	case 1:
		return Edit{Op: OpRename, Path: entry, NewName: pick("a", "b", "c", "d")}
	case 2:
		return Edit{Op: OpClone, Path: entry, NewName: pick("a", "b", "c", "d")}
	case 3:
		return Edit{Op: OpMove, Path: entry, Where: pick(Top, Bottom, Before, After), Dst: pick("a", "b", "c")}
	case 4:
		return Edit{Op: OpEdit, Path: list, Elements: elements(t, pick(`<rules><entry name="a"/></rules>`, `<decryption><entry name="b"/></decryption>`, `<service/>`, `<users/>`))}
	case 5:
		return Edit{Op: OpSet, Path: below(vsysServicesPath, "a") + "/protocol", Elements: elements(t, pick(`<tcp><port>1</port></tcp>`, `<udp><port>2-3</port></udp>`))}
	case 6:
		return Edit{Op: OpSet, Path: entry}
	case 7:
		return Edit{Op: OpSet, Path: pick(certPath(name), below(usersPath, name)), Elements: elements(t, pick(
			`<private-key>`+someSecret+`</private-key>`, `<phash>`+someHash+`</phash>`, `<status>valid</status>`))}
	default:
		return Edit{Op: OpSet, Path: rulesPath, Elements: elements(t, `<entry name="`+pick("a", "b", "c")+`">`+pick(
			`<profile>`+pick("a", "b", "c")+`</profile>`,
			`<service><member>`+pick("a", "b", "any", "service-http")+`</member></service>`,
			`<type><ssl-inbound-inspection><certificates><member>`+pick("a", "b")+`</member></certificates></ssl-inbound-inspection></type>`,
			`<type><ssl-forward-proxy/></type>`,
			`<source><member>10.0.0.1</member><member>10.0.0.2</member></source>`,
			`<description>&lt;"'&amp;
			&#xD;</description>`,
		)+`</entry>`)}
	}
}
