package config

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	deep := "/config" + strings.Repeat("/a", maxDepth-1)
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", `/: the configuration is empty, expected <config>`},
		{"white space", " \n", `/: the configuration is empty, expected <config>`},
		{"comment alone", "<!-- -->", `/: the configuration is empty, expected <config>`},
		{"text", "hostname gw", `/: text outside the configuration, got "hostname gw"`},
		{"cut off", "<config><shared>", `/config/shared: not well-formed XML: unexpected EOF`},
		{"crossed", "<config><a></config></a>", `/config/a: not well-formed XML: element <a> closed by </config>`},
		{"not UTF-8", "<config>\xff</config>", `/config: not well-formed XML: invalid UTF-8`},
		{"NUL", "<config>&#0;</config>", `/config: not well-formed XML: illegal character code U+0000`},
		{"other encoding", `<?xml version="1.0" encoding="latin1"?><config/>`, `/: not well-formed XML: xml: encoding "latin1" declared but Decoder.CharsetReader is nil`},
		{"document type", `<!DOCTYPE config><config/>`, `/: document types and entities are refused`},
		{"entity expansion", `<!DOCTYPE config [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><config>&b;</config>`, `/: document types and entities are refused`},
		{"external entity", `<config><shared>&xxe;</shared></config>`, `/config/shared: not well-formed XML: invalid character entity &xxe;`},
		{"instruction", `<config><?php x?></config>`, `/config: processing instructions are refused, got <?php`},
		{"late declaration", `<config/><?xml version="1.0"?>`, `/: processing instructions are refused, got <?xml`},
		{"namespace", `<config xmlns="urn:x"/>`, `/: namespaces are refused, got one on "config"`},
		{"prefix", `<x:config/>`, `/: namespaces are refused, got one on "config"`},
		{"attribute prefix", `<config><entry x:name="a"/></config>`, `/config: namespaces are refused, got one on <entry>`},
		{"second root", `<config/><config/>`, `/: data after the end of the configuration, got <config>`},
		{"trailing text", `<config/>more`, `/: text outside the configuration, got "more"`},
		{"mixed, text first", `<config>text<a/></config>`, `/config: text beside elements, got <a> after it`},
		{"mixed, text last", `<config><a/>secret</config>`, `/config: text beside elements`},
		{"nameless entry", `<config><entry/></config>`, `/config: an entry has no name, expected <entry name="…">`},
		{"empty name", `<config><entry name=""/></config>`, `/config: an entry's name is empty, got ""`},
		{"spaced name", `<config><entry name=" a"/></config>`, `/config: an entry's name begins or ends with white space, got " a"`},
		{"name with a line feed", `<config><entry name="a&#10;b"/></config>`, `/config: an entry's name holds a control character, got "a\nb"`},
		{"name that turns text around", "<config><entry name=\"a\u202eb\"/></config>", `/config: an entry's name holds a control character, got "a\u202eb"`},
		{"unquotable name", `<config><entry name="'&quot;"/></config>`, `/config: an entry's name holds both kinds of quotation mark, got "'\""`},
		{"attribute twice", `<config a="1" a="2"/>`, `/: attribute "a" twice on <config>`},
		{"many attributes", `<config` + many(maxAttrs+1, ` a%d="1"`) + `/>`, `/: too many attributes on <config>, expected at most 8`},
		{"long name", `<config><` + strings.Repeat("a", maxName+1) + `/></config>`, `/config: an element's name is too long, got "` + strings.Repeat("a", maxShown) + `"…, expected at most 64 bytes`},
		{"leaf twice", "<config>\n<a/>\n<a/></config>", `/config/a: twice, the first is on line 2`},
		{"entry twice", "<config><entry name='x'/>\n<entry name='x'/></config>", `/config/entry[@name='x']: twice, the first is on line 1`},
		{"member twice", "<config><member>x</member><member> x </member></config>", `/config/member: twice, got "x", the first is on line 1`},
		{"two twice", "<config><a/><a/><b/><b/></config>", "/config/a: twice, the first is on line 1\n/config/b: twice, the first is on line 1"},
		{"10,000 deep", "<config>" + strings.Repeat("<a>", 10_000), deep + `: elements are nested too deep, expected at most 32`},
		{"many children", "<config>" + many(maxChildren+1, "<a%d/>") + "</config>", `/config: too many elements, expected at most 50000`},
		{"large", "<config>" + strings.Repeat(" ", maxSize) + "</config>", `/: the configuration is too large, expected at most 67108864 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root, err := Decode([]byte(test.in))
			if root != nil {
				t.Errorf("a tree beside the error")
			}
			if diff := cmp.Diff(strings.Split(test.want, "\n"), lines(err)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// The bound is far away: the reading begins just before it.
func TestDecodeBoundsElements(t *testing.T) {
	t.Parallel()
	for after, want := range []string{"", ": too many elements, expected at most 1000000"} {
		d := decoder{xml: xml.NewDecoder(strings.NewReader("<config><a/><b/></config>")), elements: maxElements - 3 + after}
		for d.token() {
		}
		if got := d.problems.orNil(); want == "" && got != nil || want != "" && (got == nil || !strings.HasSuffix(got.Error(), want)) {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	in := `<?xml version="1.0" encoding="utf-8"?>
<!-- of the lab -->
<config version="11.1.0">
  <empty>
  </empty>
  <list><entry name="it's"><a><![CDATA[<&>]]></a></entry><entry name="b &lt; c"/></list>
  <text>
    one <!-- not said --> two
  </text>
</config>
`
	got, err := Decode([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := &Node{Name: "config", Line: 3, Attrs: []Attr{{"version", "11.1.0"}}, Children: []*Node{
		{Name: "empty", Line: 4},
		{Name: "list", Line: 6, Children: []*Node{
			{Name: "entry", Entry: "it's", Line: 6, Children: []*Node{{Name: "a", Text: "<&>", Line: 6}}},
			{Name: "entry", Entry: "b < c", Line: 6},
		}},
		{Name: "text", Text: "one  two", Line: 7},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Node{})); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	text := `<?xml version="1.0"?>
<config version="11.1.0">
  <empty/>
  <list>
    <entry name="it's">
      <a>&lt;&amp;&gt;</a>
    </entry>
    <entry name="b &lt; c"/>
  </list>
  <text>one  two</text>
</config>
`
	if diff := cmp.Diff(text, string(Encode(got))); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

var ignoreLines = cmp.Options{cmpopts.IgnoreFields(Node{}, "Line"), cmpopts.IgnoreUnexported(Node{})}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"<config/>",
		"<config a='&#13;&#10;&#9; x'><b>&#13;&#10; y &#9;</b></config>",
		"<config><entry name='a\"b'><c>x<!-- -->y</c><member>z</member></entry></config>",
		"<config><a>\n</a><b><![CDATA[]]]]><![CDATA[>]]></b></config>",
		string(Encode(gateway(f).root)),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Whatever the text, no panic; and a tree has one text.
		_, _, _ = Parse(data)
		root, err := Decode(data)
		if err != nil {
			return
		}
		text := Encode(root)
		again, err := Decode(text)
		if err != nil {
			if len(text) > maxSize { // indented, it is longer
				return
			}
			t.Fatalf("decoding what was encoded: %v\n%s", err, text)
		}
		if diff := cmp.Diff(root, again, ignoreLines); diff != "" {
			t.Fatalf("decoded again (-first +second):\n%s", diff)
		}
		if !bytes.Equal(text, Encode(again)) {
			t.Fatal("encoded again, the text differs")
		}
	})
}
