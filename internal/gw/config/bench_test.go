package config

import (
	"fmt"
	"testing"
)

func ruleName(i int) string { return fmt.Sprintf("rule %d", i) }

// manyRules is a configuration with n rules as people write them.
func manyRules(t testing.TB, n int) *Node {
	t.Helper()
	var rules []*Node
	for i := range n {
		member := func(list, value string) *Node {
			return &Node{Name: list, Children: []*Node{{Name: memberName, Text: value}}}
		}
		leaf := func(name, value string) *Node { return &Node{Name: name, Text: value} }
		rules = append(rules, &Node{Name: entryName, Entry: ruleName(i), Children: []*Node{
			leaf("action", "no-decrypt"), {Name: "type", Children: []*Node{{Name: "ssl-forward-proxy"}}},
			member("from", "any"), member("to", "any"), member("source-user", "any"), member("category", "any"),
			member("source", fmt.Sprintf("10.%d.%d.0/24", i>>8, i&0xff)), member("destination", "any"),
			member("destination-host", fmt.Sprintf("host-%d.example", i)), member("service", "web"),
			leaf("negate-source", "no"), leaf("negate-destination", "no"), leaf("disabled", "no"),
			leaf("log-success", "yes"), leaf("log-fail", "yes"), leaf("profile", "p"), leaf("description", "a rule among many others"),
		}})
	}
	root, err := Apply(Default(), Edit{Op: OpSet, Path: VsysPath, Elements: elements(t, `<profiles><decryption><entry name="p"/></decryption></profiles>
		<service><entry name="web"><protocol><tcp><port>443</port></tcp></protocol></entry></service>`)})
	if err != nil {
		t.Fatal(err)
	}
	root, err = Apply(root, Edit{Op: OpSet, Path: rulesPath, Elements: rules})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

const many = 10_000

// Ten thousand rules are a configuration like another.
func TestManyRules(t *testing.T) {
	t.Parallel()
	root := manyRules(t, many)
	again, err := Decode(Encode(root))
	if err != nil || !Equal(root, again) {
		t.Fatalf("decoded again: %v", err)
	}
	s, _, err := Compile(again, now)
	if err != nil || len(s.Rules) != many {
		t.Fatalf("compiled: %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	root := manyRules(b, many)
	for name, e := range map[string]Edit{
		"set":    {Op: OpSet, Path: rulePath(ruleName(many / 2)), Elements: elements(b, `<disabled>yes</disabled>`)},
		"delete": {Op: OpDelete, Path: rulePath(ruleName(many / 2))},
		"move":   {Op: OpMove, Path: rulePath(ruleName(many / 2)), Where: Top},
		"rename": {Op: OpRename, Path: below(vsysServicesPath, "web"), NewName: "other"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Apply(root, e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	root := manyRules(b, many)
	for b.Loop() {
		if _, _, err := Compile(root, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	root := manyRules(b, many)
	for b.Loop() {
		b.SetBytes(int64(len(Encode(root))))
	}
}

func BenchmarkDecode(b *testing.B) {
	data := Encode(manyRules(b, many))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff(b *testing.B) {
	before := manyRules(b, many)
	after, err := Apply(before, Edit{Op: OpMove, Path: rulePath(ruleName(many / 2)), Where: Top})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if len(Diff(before, after)) != 1 {
			b.Fatal("not one difference")
		}
	}
}
