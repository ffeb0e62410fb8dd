package adminshell

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line string
		want string // the command, and what is left of the line; or what the error says
		err  bool
	}{
		{line: "client list", want: "client list []"},
		{line: "CLIENT List", want: "client list []"},
		{line: "cl l", want: "client list []"},
		{line: "c f -c x", want: "client fingerprint [-c x]"},
		{line: "client assignpartition -c x", want: "client assignPartition [-c x]"},
		{line: "client a", want: "client assignPartition []"},
		{line: "part show -p x", want: "partition show [-p x]"},
		{line: "role ch", want: "role changePw []"},
		{line: "ntls ipcheck show", want: "ntls ipcheck show []"},
		{line: "nt i e", want: "ntls ipcheck enable []"},
		{line: "nt s -json", want: "ntls show [-json]"},
		{line: "service restart ntls", want: "service restart [ntls]"},
		{line: "sysconf fi s", want: "sysconf fingerprint ssh []"},
		{line: "hsm login extra", want: "hsm login [extra]"},

		{line: "client re", want: `"re" may be register or revokePartition`, err: true},
		{line: "hsm l", want: `"l" may be login or logout`, err: true},
		{line: "n s", want: `"n" may be ntls or network`, err: true},
		{line: "client", want: `"client" is not complete; it goes on with register, delete,`, err: true},
		{line: "ntls ipcheck", want: `"ntls ipcheck" is not complete; it goes on with enable, disable, show`, err: true},
		{line: "clients list", want: `"clients" is not a command`, err: true},
		{line: "client lists", want: `"client lists" is not a command`, err: true},
		{line: "nonsense list", want: "`help` lists them", err: true},
		{line: "-json", want: `"-json" is not a command`, err: true},
	} {
		cmd, rest, err := find(commands(), strings.Fields(test.line))
		switch {
		case test.err && (!errors.Is(err, errUsage) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v, want a syntax error that says %s", test.line, err, test.want)
		case !test.err && err != nil:
			t.Errorf("%s: %v", test.line, err)
		case !test.err && cmd.words+" ["+strings.Join(rest, " ")+"]" != test.want:
			t.Errorf("%s is %s %q, want %s", test.line, cmd.words, rest, test.want)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line string
		want map[string]string
		err  string
	}{
		{line: "client show -client x", want: map[string]string{"client": "x"}},
		{line: "client show -CLIENT X", want: map[string]string{"client": "X"}},
		{line: "client show --client x -j", want: map[string]string{"client": "x", "json": ""}},
		{line: "client show -cl x", want: map[string]string{"client": "x"}},
		// -c is the client, though -certificate begins with it too; -h the
		// host name, not help.
		{line: "client register -c x -h y", want: map[string]string{"client": "x", "hostname": "y"}},
		{line: "client register -c x -ce f -i 1.2.3.4 -r", want: map[string]string{"client": "x", "certificate": "f", "ip": "1.2.3.4", "replace": ""}},
		{line: "partition delete -p x -f", want: map[string]string{"partition": "x", "force": ""}},
		{line: "partition delete -p -f", want: map[string]string{"partition": "-f"}},
		{line: "role init -p x -role co", want: map[string]string{"partition": "x", "role": "co"}},
		{line: "audit tail", want: map[string]string{}},
		{line: "audit tail -n 3", want: map[string]string{"entries": "3"}},
		{line: "client list", want: map[string]string{}},

		{line: "service restart ntls -f", want: map[string]string{"service": "ntls", "force": ""}},
		{line: "service restart -service ntls", want: map[string]string{"service": "ntls"}},
		{line: "user role bob -role admin", want: map[string]string{"username": "bob", "role": "admin"}},
		{line: "user role -role admin bob", want: map[string]string{"username": "bob", "role": "admin"}},

		{line: "service restart", err: "-service ntls is missing\nUsage: service restart ntls [-force]"},
		{line: "service restart ntls ssh", err: `"ssh" is not expected here`},
		{line: "client show", err: "-client NAME is missing\nUsage: client show -client NAME [-json]"},
		{line: "client show -client", err: "-client needs a value, NAME"},
		{line: "client show -c x -client y", err: "-client is given twice"},
		{line: "client show x", err: `"x" is not expected here; options begin with a dash`},
		{line: "client show -c x y", err: `"y" is not expected here`},
		{line: "client show -", err: "- is not an option of client show"},
		{line: "client show --", err: "-- is not an option of client show"},
		{line: "client show -x", err: "-x is not an option of client show"},
		{line: "client list -force", err: "-force is not an option of client list"},
	} {
		cmd, rest, err := find(commands(), strings.Fields(test.line))
		must(t, err)
		a, err := cmd.parse(rest, nil)
		if test.err != "" {
			if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want a syntax error that says %s", test.line, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
		}
		if diff := cmp.Diff(test.want, a.values); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.line, diff)
		}
	}
}

func TestOptionPrefixThatIsNotUnique(t *testing.T) {
	t.Parallel()
	c := command{words: "x", options: []option{{name: "hostname"}, {name: "host"}, {name: "hosts"}}}
	if o, err := c.option("-host"); err != nil || o.name != "host" {
		t.Errorf("a whole name that others begin with: %v, %v", o, err)
	}
	if _, err := c.option("-ho"); err == nil || !strings.Contains(err.Error(), "-hostname or -host or -hosts") {
		t.Errorf("a prefix of three: %v", err)
	}
}

// TestTableIsSound: no command and no option hides another, and each has help.
func TestTableIsSound(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		got, rest, err := find(commands(), strings.Fields(c.words))
		if err != nil || got.words != c.words || len(rest) > 0 {
			t.Errorf("%s finds %v, %v", c.words, got, err)
		}
		if c.help == "" || c.run == nil {
			t.Errorf("%s has no help or does nothing", c.words)
		}
		taken := map[string]string{}
		for _, o := range c.options {
			for _, name := range []string{o.name, o.short} {
				if other := taken[name]; name != "" && other != "" {
					t.Errorf("%s: -%s is -%s and -%s", c.words, name, other, o.name)
				}
				taken[name] = o.name
			}
			if o.help == "" || o.required && o.value == "" || o.file && o.value == "" {
				t.Errorf("%s: -%s has no help or no value", c.words, o.name)
			}
			if _, err := c.option("-" + o.name); err != nil {
				t.Errorf("%s: %v", c.words, err)
			}
		}
		if !strings.Contains(Help(), c.words) {
			t.Errorf("help does not list %s", c.words)
		}
	}
}

func TestFileOptions(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]map[string]string{
		"client register -c x -ip 1.2.3.4 -cert f.pem": {"certificate": "f.pem"},
		"cl reg -certificate f.pem -c x":               {"certificate": "f.pem"},
		"client register -c x -ip 1.2.3.4":             {},
		"client show -c f.pem":                         {},
		"client register -cert f.pem":                  nil, // the HSM says what is wrong
		"nonsense -cert f.pem":                         nil,
	} {
		if diff := cmp.Diff(want, FileOptions(strings.Fields(line))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		"":                             nil,
		" \t ":                         nil,
		"client list":                  {"client", "list"},
		"  client\tlist  ":             {"client", "list"},
		`-certificate "/a b/c.pem" -x`: {"-certificate", "/a b/c.pem", "-x"},
		`"" x`:                         {"", "x"},
		`"a\"b\\c"`:                    {`a"b\c`},
		`a"b c"`:                       {`a"b`, `c"`}, // a quotation mark within a word is a letter
	} {
		got, err := Words(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{`"`, `"a`, `x "a b`, `"a"b`, `"a""b"`, `"\q"`} {
		if words, err := Words(line); !errors.Is(err, errUsage) {
			t.Errorf("%s is %q, %v; want a syntax error", line, words, err)
		}
	}
}

func FuzzWords(f *testing.F) {
	f.Add("client register -c x -certificate \"/a b/c.pem\"")
	f.Add(`"a\"b\\c" "" x`)
	f.Add("\"\\u00e4\" \x00 \xff")
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Words(line)
		if err != nil {
			return
		}
		// What strconv.Quote writes is read back, whatever the words are.
		quoted := make([]string, len(words))
		for i, word := range words {
			quoted[i] = strconv.Quote(word)
		}
		again, err := Words(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q is %q, and quoted %q, %v", line, words, again, err)
		}
		FileOptions(words) // must not panic
	})
}
