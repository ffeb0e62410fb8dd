package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const manualPath = "../../../docs/configuration.md"

// TestManual holds the manual to the schema. go generate writes it.
func TestManual(t *testing.T) {
	want := manual(t)
	if *update {
		if err := os.WriteFile(manualPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/configuration.md is not what the schema says; run go generate ./internal/gw/config (-want +got):\n%s", diff)
	}
}

const preface = `# Configuration

<!-- Written from the schema by go generate ./internal/gw/config. Do not edit. -->

A gateway's configuration is one XML document at the paths that PAN-OS
administrators know. This page is written from the table by which the gateway
reads it.

- An element that is not here is refused, by path, with the nearest known name.
- An element whose state is *not supported yet* is refused as such when it is
  set, whatever its value, and so is such a value of another: nothing is kept in silence.
- *A note* is kept for people and other programs and changes nothing; a note
  that contradicts its certificate is refused.
- Every problem is printed on a line of its own: file and line, path, what is
  wrong, what was found, what was expected.
- The document has at most 64 MB, 32 levels and 1,000,000 elements; document types,
  entities, processing instructions and namespaces are refused.
- A secret is kept sealed alone, and a password as its hash; both are shown as
  ` + "`" + `********` + "`" + `, which is no value: an administrator who sets it leaves what is there.
- An entry that is referred to is not removed; renaming it renames it in what
  refers to it. Where two lists can be meant, the virtual system's comes first.

What each element alone cannot show is checked too, before a commit: no two
listeners share a port, management's among them; a CA that signs leaves is a CA
with an RSA key of 2048 bits or more, or an ECDSA key; forward trust and forward
untrust have different keys; neither is a trusted root; a rule that decrypts has
certificates to do it with; where there are accounts, a superuser can log in. An
expired certificate is a warning, and so is a CA whose private key is software.

A path is the part of XPath that names elements: absolute, an entry by
` + "`" + `[@name='…']` + "`" + ` (or, where only one can be meant, by nothing), a member by
` + "`" + `[text()='…']` + "`" + `, alternatives with ` + "`" + `or` + "`" + `. To read, ` + "`" + `*` + "`" + ` is any element and a bare
` + "`" + `entry` + "`" + ` every entry.

An example, without certificates and so without decryption:

`

func manual(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("```xml\n" + example(t) + "```\n")
	manualSections(&b, schema, "", false)
	return b.String()
}

// example is accepted by the schema that it illustrates: Builder sees to it.
func example(t *testing.T) string {
	t.Helper()
	b := NewBuilder()
	b.Set(DevicePath+"/deviceconfig/system/hostname", "edge-1")
	b.Set(hsmPath+"/server-address", "10.164.75.32")
	b.Set(below(proxyPath+"/forward", "lan")+"/address", "10.164.76.45")
	b.Set(proxyPath+"/allowed-destination", "127.0.0.1:9443")
	b.Set(rulePath("branch offices")+"/action", "no-decrypt")
	b.Set(rulePath("branch offices")+"/source", "10.20.0.0/16")
	b.Set(below(decryptPath+"/ssl-exclude-cert", "*.bank.example")+"/description", "pinned in its application")
	text, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// manualSections writes a section for every titled element, in the schema's order.
func manualSections(b *strings.Builder, e *element, above string, local bool) {
	path := above + "/" + e.name
	local = local || e.local
	if e.title != "" {
		fmt.Fprintf(b, "\n## %s\n\n`%s`: %s.", e.title, path, e.help)
		if local {
			b.WriteString(" Belongs to this device; a fleet does not share it.")
		}
		if e.state == Awaited {
			b.WriteString(" Not supported yet: refused when set.\n")
			return
		}
		b.WriteString("\n\n| path | meaning | values | absent | state |\n|---|---|---|---|---|\n")
		if e.kind == isEntries {
			manualEntry(b, e, "entry", Obeyed)
			return
		}
		for _, c := range e.children {
			manualRow(b, c, "", e.state)
		}
		return
	}
	if e.kind == isEntries {
		path += "/" + EntryStep(e.key.doc) // a name that can only be one
	}
	for _, c := range e.children {
		manualSections(b, c, path, local)
	}
}

func manualRow(b *strings.Builder, e *element, above string, state State) {
	path := above + e.name
	state = max(state, e.state)
	values, absent := "", e.absent
	switch e.kind {
	case isEntries:
		manualEntry(b, e, path+"/entry", state)
		return
	case isMembers:
		path += "/member"
		values = e.value.doc
	case isLeaf:
		values = e.value.doc
	}
	if e.value != nil && e.value.unmet != "" {
		values += "; not supported yet: " + e.value.unmet
	}
	if e.choice {
		values = "one of its elements"
	}
	if e.needed {
		absent = "refused"
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", path, e.help, values, absent, state)
	for _, c := range e.children {
		manualRow(b, c, path+"/", state)
	}
}

// manualEntry writes a list's rows, those of its entries.
func manualEntry(b *strings.Builder, e *element, path string, state State) {
	absent := ""
	if e.needed {
		absent = "refused"
	}
	fmt.Fprintf(b, "| `%s` | %s | name: %s | %s | %s |\n", path, e.help, e.key.doc, absent, state)
	for _, a := range e.attrs {
		fmt.Fprintf(b, "| `%s/@%s` | %s | | | %s |\n", path, a.name, a.help, max(state, a.state))
	}
	for _, c := range e.children {
		manualRow(b, c, path+"/", state)
	}
}

// TestSchema holds the table to its own rules.
func TestSchema(t *testing.T) {
	t.Parallel()
	var walk func(e *element, path string)
	walk = func(e *element, path string) {
		path += "/" + e.name
		switch {
		case e.help == "":
			t.Errorf("%s has no help", path)
		case (e.kind == isLeaf || e.kind == isMembers) != (e.value != nil):
			t.Errorf("%s: a value where there is none, or none where there is one", path)
		case (e.kind == isEntries) != (e.key != nil):
			t.Errorf("%s: a key where there is none, or none where there is one", path)
		case e.kind == isLeaf && e.absent != "" && e.value.problem(e.absent) != "":
			t.Errorf("%s: its default %q is no value of it", path, e.absent)
		case e.needed && e.absent != "":
			t.Errorf("%s must be there and has a default", path)
		case e.choice && e.kind != isContainer:
			t.Errorf("%s: a choice of values", path)
		case e.value != nil:
			for _, refers := range e.value.refers {
				if steps, err := parsePath(refers); err != nil {
					t.Errorf("%s refers to a path that is none: %v", path, err)
				} else if list, err := resolve(steps); err != nil || list.row.kind != isEntries {
					t.Errorf("%s refers to %s, which is no list", path, refers)
				}
			}
		}
		seen := make(map[string]bool)
		for _, c := range e.children {
			if seen[c.name] || c.name == entryName || c.name == memberName || len(c.name) > maxName {
				t.Errorf("%s cannot have %s, or not twice", path, c.name)
			}
			seen[c.name] = true
			walk(c, path)
		}
	}
	walk(schema, "")
}
