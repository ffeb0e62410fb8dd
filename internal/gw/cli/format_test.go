package cli

import (
	"strings"
	"testing"

	"moongate/internal/gw/config"
)

// rules are a part of a configuration with every kind of element.
func rules() []*config.Node {
	return []*config.Node{{Name: "rules", Children: []*config.Node{
		{Name: "entry", Entry: "branch offices", Children: []*config.Node{
			{Name: "action", Text: "decrypt"},
			{Name: "description", Text: `of "ours"`},
			{Name: "source", Children: []*config.Node{{Name: "member", Text: "10.0.0.0/8"}, {Name: "member", Text: "192.0.2.1"}}},
			{Name: "destination", Children: []*config.Node{{Name: "member", Text: "any"}}},
			{Name: "type", Children: []*config.Node{{Name: "ssl-forward-proxy"}}},
		}},
		{Name: "entry", Entry: "rest"},
	}}}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for as, want := range map[format]string{
		braces: `rules {
  "branch offices" {
    action decrypt;
    description "of \"ours\"";
    source [ 10.0.0.0/8 192.0.2.1 ];
    destination any;
    type {
      ssl-forward-proxy;
    }
  }
  rest;
}
`,
		setCommands: `set rulebase decryption rules "branch offices" action decrypt
set rulebase decryption rules "branch offices" description "of \"ours\""
set rulebase decryption rules "branch offices" source [ 10.0.0.0/8 192.0.2.1 ]
set rulebase decryption rules "branch offices" destination any
set rulebase decryption rules "branch offices" type ssl-forward-proxy
set rulebase decryption rules rest
`,
		asXML: `<rules>
  <entry name="branch offices">
    <action>decrypt</action>
    <description>of "ours"</description>
    <source>
      <member>10.0.0.0/8</member>
      <member>192.0.2.1</member>
    </source>
    <destination>
      <member>any</member>
    </destination>
    <type>
      <ssl-forward-proxy/>
    </type>
  </entry>
  <entry name="rest"/>
</rules>
`,
		asJSON: `{
  "rules": {
    "entry": [
      {
        "@name": "branch offices",
        "action": "decrypt",
        "description": "of \"ours\"",
        "destination": {
          "member": [
            "any"
          ]
        },
        "source": {
          "member": [
            "10.0.0.0/8",
            "192.0.2.1"
          ]
        },
        "type": {
          "ssl-forward-proxy": ""
        }
      },
      {
        "@name": "rest"
      }
    ]
  }
}
`,
	} {
		if got := as.show(rules(), []string{"rulebase", "decryption"}); got != want {
			t.Errorf("%s:\n%s", as, got)
		}
	}
}

// keyed is a terminal of a given height on which keys were typed ahead.
type keyed struct {
	strings.Builder
	rows int
	keys string
}

func (k *keyed) Rows() int { return k.rows }

func (k *keyed) Key(string) (rune, error) {
	key := rune(k.keys[0])
	k.keys = k.keys[1:]
	k.WriteString("|")
	return key, nil
}

func TestPager(t *testing.T) {
	t.Parallel()
	const text = "1\n2\n3\n4\n5\n6\n7\n8"
	for _, test := range []struct {
		rows       int
		keys, want string
	}{
		{0, "", text},
		{9, "", text},
		{4, " ", "1\n2\n3\n|4\n5\n6\n|"},
		{4, "  ", "1\n2\n3\n|4\n5\n6\n|7\n8"},
		{4, "\rxjq", "1\n2\n3\n|4\n||5\n|"},
	} {
		k := &keyed{rows: test.rows, keys: test.keys + "q"}
		if err := page(k, text); err != nil || k.String() != test.want {
			t.Errorf("%d rows, %q: %q, %v", test.rows, test.keys, k.String(), err)
		}
	}
}
