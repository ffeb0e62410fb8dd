package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/config"
)

// at is the place of the words, from the top.
func at(t *testing.T, words ...string) place {
	t.Helper()
	p := place{}
	for _, w := range words {
		var ok bool
		if p, ok = p.below(w); !ok {
			t.Fatalf("no place %s in %v", w, words)
		}
	}
	return p
}

func TestSetEdit(t *testing.T) {
	t.Parallel()
	const rule = config.VsysPath
	for _, test := range []struct {
		at         []string
		line       string
		path, want string // the elements in XML without white space
	}{
		{nil, "deviceconfig system hostname edge-1", config.DevicePath,
			"<deviceconfig><system><hostname>edge-1</hostname></system></deviceconfig>"},
		{nil, `rulebase decryption rules "a b" action decrypt source [ 10.0.0.0/8 any ] type ssl-forward-proxy`, rule,
			`<rulebase><decryption><rules><entry name="a b"><action>decrypt</action><source><member>10.0.0.0/8</member><member>any</member></source>` +
				`<type><ssl-forward-proxy/></type></entry></rules></decryption></rulebase>`},
		{nil, "shared ssl-decrypt forward-trust-certificate rsa ca trusted-root-CA root", "/config",
			"<shared><ssl-decrypt><forward-trust-certificate><rsa>ca</rsa></forward-trust-certificate><trusted-root-CA><member>root</member></trusted-root-CA></ssl-decrypt></shared>"},
		{[]string{"rulebase", "decryption", "rules", "r1"}, "action no-decrypt", config.VsysPath + "/rulebase/decryption/rules/entry[@name='r1']",
			"<action>no-decrypt</action>"},
		{[]string{"rulebase", "decryption", "rules"}, "r2 action decrypt", config.VsysPath + "/rulebase/decryption/rules/entry[@name='r2']",
			"<action>decrypt</action>"},
		{nil, "profiles decryption strict ssl-protocol-settings min-version tls1-3 max-version max", config.VsysPath,
			`<profiles><decryption><entry name="strict"><ssl-protocol-settings><min-version>tls1-3</min-version><max-version>max</max-version></ssl-protocol-settings></entry></decryption></profiles>`},
	} {
		words, err := split(test.line)
		if err != nil {
			t.Fatal(err)
		}
		e, err := setEdit(at(t, test.at...), words)
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		var got strings.Builder
		for _, n := range e.Elements {
			for l := range strings.Lines(asXML.show([]*config.Node{n}, nil)) {
				got.WriteString(strings.TrimSpace(l))
			}
		}
		if diff := cmp.Diff(test.want, got.String()); diff != "" || e.Path != test.path || e.Op != config.OpSet {
			t.Errorf("%s: at %s, %s (-want +got)\n%s", test.line, e.Path, e.Op, diff)
		}
	}
}

func TestSetEditRefuses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                   "takes a path",
		"rulebas decryption":                 `did you mean "rulebase"?`,
		"rulebase decryption rules":          "a name is expected",
		"rulebase decryption rules r actoin": `"action"`,
		"deviceconfig system hostname":       "takes a value",
		"rulebase decryption rules r source [ any": "no ]",
		"rulebase decryption rules r source [ ]":   "nothing between",
		"rulebase decryption rules r source":       "a value is missing",
		"rulebase decryption rules r tag x":        "not supported yet",
	} {
		words, err := split(line)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := setEdit(place{}, words); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
