package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSet(t *testing.T) {
	t.Parallel()
	root := &Node{Name: "config"}
	set := func(path string, values ...string) {
		t.Helper()
		if err := Set(root, path, values...); err != nil {
			t.Fatal(err)
		}
	}
	set(DevicePath+"/deviceconfig/system/hostname", "a")
	set(DevicePath+"/deviceconfig/system/hostname", " b\n")
	set(rulePath("2")+"/destination", "10.0.0.1")
	set(rulePath("1") + "/type/ssl-forward-proxy")
	set(rulePath("2")+"/destination/member", "10.0.0.2", "10.0.0.1")
	set(rulePath("1")+"/description", "x < y &\n]]>")
	set(SharedPath)
	want := `<?xml version="1.0"?>
<config>
  <devices>
    <entry name="localhost.localdomain">
      <deviceconfig>
        <system>
          <hostname>b</hostname>
        </system>
      </deviceconfig>
      <vsys>
        <entry name="vsys1">
          <rulebase>
            <decryption>
              <rules>
                <entry name="2">
                  <destination>
                    <member>10.0.0.1</member>
                    <member>10.0.0.2</member>
                  </destination>
                </entry>
                <entry name="1">
                  <type>
                    <ssl-forward-proxy/>
                  </type>
                  <description>x &lt; y &amp;
]]&gt;</description>
                </entry>
              </rules>
            </decryption>
          </rulebase>
        </entry>
      </vsys>
    </entry>
  </devices>
  <shared/>
</config>
`
	text := Encode(root)
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	again, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(root, again, ignoreLines); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestSetRefuses(t *testing.T) {
	t.Parallel()
	system := DevicePath + "/deviceconfig/system"
	for _, test := range []struct {
		path   string
		values []string
		want   string
	}{
		{"", nil, `/: not a path, got "", expected /config/…`},
		{"config", nil, `/: not a path, got "config", expected / before "config"`},
		{"/config/", nil, `/: not a path, got "/config/", expected an element's name after each /`},
		{"/config//shared", nil, `/: not a path, got "/config//shared", expected an element's name after each /`},
		{"/config[1]", nil, `/: not a path, got "/config[1]", expected / before "[1]"`},
		{"/config/devices/entry", nil, `/: not a path, got "/config/devices/entry", expected entry[@name='…']`},
		{"/config/devices/entry[@name='a", nil, `/: not a path, got "/config/devices/entry[@name='a", expected entry[@name='…']`},
		{"/config/devices/entry[@name='a'", nil, `/: not a path, got "/config/devices/entry[@name='a'", expected entry[@name='…']`},
		{"/config/devices/entry[@name='']", nil, `/: not a path, got "/config/devices/entry[@name='']", the entry's name is empty`},
		{strings.Repeat("\x80", maxShown+1), nil, `/: not a path, got ""…, expected / before ""…`},
		{"/config/\x1b[2J", nil, `/: not a path, got "/config/\x1b[2J", expected an element's name after each /`},
		{"/config/a b", nil, `/: not a path, got "/config/a b", expected an element's name after each /`},
		{"/conf", nil, `/conf: unknown element, got "conf", expected config`},
		{"/member", []string{"x"}, `/member: unknown element, got "member", expected config`},
		{"/config/share/x", nil, `/config/share: unknown element, got "share", did you mean "shared"?`},
		{"/config/devices/vsys", nil, `/config/devices/vsys: unknown element, got "vsys", expected entry[@name='…']`},
		{"/config/devices/" + EntryStep("fw"), nil, `/config/devices/entry[@name='fw']: not one of the choices, got "fw", expected localhost.localdomain`},
		{"/config/shared/" + EntryStep("fw"), nil, `/config/shared/entry[@name='fw']: unknown element, got "entry", expected certificate, ssl-decrypt, service, log-settings or ssl-tls-service-profile`},
		{"/config/devices", nil, `/config/devices: a list, expected entry[@name='…'] after it`},
		{"/config/shared", []string{"x"}, `/config/shared: takes no value, got 1`},
		{rulePath("1"), []string{"x"}, rulePath("1") + `: takes no value, got 1`},
		{rulePath("1") + "/source", nil, rulePath("1") + `/source: takes one value or more, got none`},
		{rulePath("1") + "/source/members", []string{"any"}, rulePath("1") + `/source/members: unknown element, got "members", expected none within source`},
		{rulePath("1") + "/source/member/member", []string{"any"}, rulePath("1") + `/source/member: unknown element, got "member", expected none within source`},
		{system + "/hostname", nil, system + `/hostname: takes one value, got 0`},
		{system + "/hostname", []string{"a", "b"}, system + `/hostname: takes one value, got 2`},
		{system + "/hostname", []string{"a_b"}, system + `/hostname: not a host name, got "a_b", expected a host name`},
		{system + "/hostname/x", []string{"a"}, system + `/hostname/x: unknown element, got "x", expected none within hostname`},
		{VsysPath + "/ssl-decrypt/forward-trust-certificate", nil, VsysPath + `/ssl-decrypt: not supported yet`},
		{rulePath("1") + "/description", []string{"a\x00b"}, rulePath("1") + `/description: a character that XML cannot hold`},
		{rulePath("1") + "/description", []string{"a\x1b[2Jb"}, rulePath("1") + `/description: a character that XML cannot hold`},
		{rulePath("1") + "/description", []string{"a\u202eb"}, rulePath("1") + `/description: a control character, got "a\u202eb", expected text of at most 1023 characters`},
	} {
		root := &Node{Name: "config"}
		err := Set(root, test.path, test.values...)
		if err == nil || err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
		if len(root.Children) > 0 {
			t.Errorf("%s changed the tree", test.path)
		}
	}
}

func TestBuilderCollects(t *testing.T) {
	t.Parallel()
	b := NewBuilder()
	b.Set("/config/x")
	b.Set(SharedPath)
	b.Set("/config/y")
	_, err := b.Bytes()
	want := []string{
		`/config/x: unknown element, got "x", expected shared, mgt-config or devices`,
		`/config/y: unknown element, got "y", expected shared, mgt-config or devices`,
	}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	b = NewBuilder()
	b.Set(trust+"/rsa", "nowhere")
	_, err = b.Bytes()
	want = []string{trust + `/rsa: no such entry, got "nowhere", expected one of /config/shared/certificate, which has none`}
	if diff := cmp.Diff(want, lines(err)); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// What a path names is what a step prints, whatever the entry is called.
func FuzzPath(f *testing.F) {
	f.Add("vsys1")
	f.Add("it's]/x")
	f.Add(`"`)
	f.Fuzz(func(t *testing.T, name string) {
		if nameProblem(name) != "" {
			return
		}
		steps, err := parsePath("/a/" + EntryStep(name) + "/b")
		if err != nil {
			t.Fatal(err)
		}
		if want := []step{{name: "a"}, {entryName, name}, {name: "b"}}; steps[1] != want[1] || len(steps) != 3 {
			t.Fatalf("got %v, want %v", steps, want)
		}
	})
}
