package ops

import (
	"context"
	"strings"
	"testing"

	"moongate/internal/gw/mgmt"
)

// words makes tokens of a line whose quoted words have no spaces.
func words(line string) []Token {
	var tokens []Token
	for _, w := range strings.Fields(line) {
		quoted := len(w) > 1 && w[0] == '"' && w[len(w)-1] == '"'
		tokens = append(tokens, Token{strings.Trim(w, `"`), quoted})
	}
	return tokens
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, want string }{
		{"show system info", "show system info"},
		{"sh sys inf", "show system info"},
		{"show jobs id 7", "show jobs id 7"},
		{`show jobs id "7"`, "show jobs id 7"},
		{"show session all", "show session all"},
		{"show session all filter ssl-decrypt yes source 192.0.2.0/24", "show session all filter ssl-decrypt yes source 192.0.2.0/24"},
		{"show session all filter source 192.0.2.1 filter ssl-decrypt no", "show session all filter ssl-decrypt no source 192.0.2.1"},
		{"show log system direction equal forward nlogs 5", "show log system direction forward nlogs 5"},
		{"show log config direction forw", "show log config direction forward"},
		{"show admins", "show admins"},
		{"show admins all", "show admins all"},
		{"request certificate generate certificate-name x name y.example algorithm RSA rsa-nbits 3072 hostname [ a.example b.example ]",
			"request certificate generate certificate-name x name y.example algorithm RSA rsa-nbits 3072 hostname [ a.example b.example ]"},
		{"request master-key new-master-key 0123456789abcdef lifetime 24", "request master-key new-master-key ******** lifetime 24"},
		{"show rule-hit-count vsys vsys-name vsys1 rule-base decryption rules list [ a b ]",
			"show rule-hit-count vsys vsys-name vsys1 rule-base decryption rules list [ a b ]"},
		{"load config from running-config.xml", "load config from running-config.xml"},
	} {
		call, err := Parse(words(test.line))
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		if got := call.String(); got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.line, got, test.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, says string }{
		{"", "the command is not complete"},
		{"show", "show is not complete"},
		{"shew system info", "shew is unexpected, expected check, clear"},
		{"show sytem info", "show -> sytem is unexpected"},
		{"show system", "show -> system is not complete, expected info"},
		{"show system info more", "show -> system -> info -> more is unexpected, expected nothing more"},
		{`show "system" info`, "a value is unexpected"},
		{"show jobs id", "show -> jobs -> id -> id is missing"},
		{"show jobs id x", `got "x", expected a number from 1`},
		{"show jobs id 0", `got "0", expected a number from 1`},
		{"show session all filter", "filter is not complete"},
		{"show session all filter ssl-decrypt maybe", `got "maybe", expected yes or no`},
		{"show session all ssl-decrypt yes", "ssl-decrypt is unexpected"},
		{"show session all filter source 192.0.2", "expected an IP address or prefix"},
		{"show log traffic nlogs 5 nlogs 6", "given twice"},
		{"show log traffic nlogs", "needs a value"},
		{"request certificate generate certificate-name x", "name is missing"},
		{"request certificate revoke certificate-name [ a b ]", "takes one value, got 2"},
		{"request certificate revoke certificate-name [ a", "the list does not end"},
		{"request certificate revoke certificate-name [ ]", "the list is empty"},
		{"re", "re is ambiguous, it may be request or revert"},
	} {
		_, err := Parse(words(test.line))
		if err == nil {
			t.Errorf("%q is taken", test.line)
			continue
		}
		if mgmt.CodeOf(err) != mgmt.CodeInvalidCommand {
			t.Errorf("%q: code %d", test.line, mgmt.CodeOf(err))
		}
		if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: got %q, want %q in it", test.line, err, test.says)
		}
	}
}

// TestSecrets: what was typed as a secret is nowhere in texts, also where it
// stands in the wrong place.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	call, err := Parse(words("request master-key new-master-key " + secret + " lifetime 24"))
	if err != nil {
		t.Fatal(err)
	}
	if !call.HasSecret() || strings.Contains(call.String(), secret) {
		t.Errorf("the call shows its secret: %s", call)
	}
	call, err = Parse(words("request master-key lifetime 24"))
	if err != nil {
		t.Fatal(err)
	}
	missing := call.Missing()
	if len(missing) != 1 || missing[0].Name != "new-master-key" || !missing[0].Twice || missing[0].Prompt == "" {
		t.Fatalf("missing: %+v", missing)
	}
	if _, err := call.Run(context.Background(), nil, mgmt.Caller{}, nil); mgmt.CodeOf(err) != mgmt.CodeInvalidCommand {
		t.Errorf("run without its secret: %v", err)
	}
	if err := call.Answer("new-master-key", secret); err != nil || len(call.Missing()) != 0 {
		t.Errorf("answered: %v, missing %v", err, call.Missing())
	}
	for _, cmd := range []string{
		"<show><jobs><id>" + secret + "</id></jobs></show>",
		"<show><system><info>" + secret + "</info></system></show>",
		"<request><master-key><new-master-key>" + secret + "</new-master-key><lifetime>x</lifetime></master-key></request>",
	} {
		_, err := ParseXML(cmd)
		if err == nil {
			t.Errorf("%s is taken", cmd)
		} else if strings.Contains(err.Error(), secret) && !strings.Contains(cmd, "jobs") {
			t.Errorf("%s: the error repeats the value: %v", cmd, err)
		}
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, partial, want string }{
		{"", "", "check clear delete load request revert set show test validate"},
		{"show", "sys", "system"},
		{"show system", "", "info masterkey-properties setting"},
		{"show system setting ssl-decrypt", "c", "certificate certificate-cache"},
		{"show jobs id", "", "<1-4294967296>"},
		{"show session all", "", "filter"},
		{"show session all filter", "s", "ssl-decrypt source"},
		{"show session all filter ssl-decrypt", "", "yes no"},
		{"show session all filter ssl-decrypt yes", "so", "source"},
		{"show log system direction", "", "backward forward"},
		{"show log system direction equal", "f", "forward"},
		{"show log system direction forward", "", "query nlogs skip severity"},
		{"request certificate generate hostname [ a.example", "", "<name> ]"},
		{"request certificate generate algorithm", "E", "ECDSA"},
		{"show system info", "", ""},
		{"nonsense", "", ""},
	} {
		var got []string
		for _, o := range Complete(context.Background(), nil, mgmt.Caller{}, words(test.line), test.partial) {
			got = append(got, o.Word)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q + %q: got %q, want %q", test.line, test.partial, strings.Join(got, " "), test.want)
		}
	}
}

// TestTable looks at what every row must have.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Commands() {
		if seen[c.Words] {
			t.Errorf("%s is there twice", c.Words)
		}
		seen[c.Words] = true
		if c.Help == "" || strings.HasSuffix(c.Help, ".") || strings.Contains(c.Help, "\n") || c.run == nil {
			t.Errorf("%s has no good help or no function: %q", c.Words, c.Help)
		}
		names, bare := map[string]bool{}, 0
		for _, a := range c.Args {
			if names[a.Name] || a.Help == "" || strings.HasSuffix(a.Help, ".") {
				t.Errorf("%s: argument %s is twice, or has no good help", c.Words, a.Name)
			}
			names[a.Name] = true
			if a.Bare {
				bare++
			}
			if a.Kind == Secret && a.Prompt == "" {
				t.Errorf("%s: secret %s has no prompt", c.Words, a.Name)
			}
			if a.Kind == Choice && len(a.Choices) == 0 {
				t.Errorf("%s: %s has no choices", c.Words, a.Name)
			}
		}
		if bare > 1 {
			t.Errorf("%s has %d values without a name", c.Words, bare)
		}
		if first := strings.Fields(c.Words)[0]; topics[first] == "" {
			t.Errorf("%s has no topic", first)
		}
		if !strings.HasPrefix(c.Usage(), c.Words) {
			t.Errorf("the usage of %s does not begin with it", c.Words)
		}
	}
}
