package ops

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/mgmt/mgmttest"
)

// run runs a line as an administrator.
func run(t *testing.T, w *mgmttest.World, name, line string) (*Result, error) {
	t.Helper()
	call, err := Parse(words(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	caller := mgmt.Caller{Identity: admin.Identity{Name: name, Role: mgmttest.People[name]}, Via: mgmt.CLI}
	r, err := call.Run(t.Context(), w.Manager, caller, nil)
	if err == nil {
		wellFormed(t, line, r)
	}
	return r, err
}

// wellFormed holds what every result is: XML that parses, JSON, text that ends a
// line.
func wellFormed(t *testing.T, line string, r *Result) {
	t.Helper()
	var b bytes.Buffer
	E("result", r.Elements...).Append(&b)
	for dec := xml.NewDecoder(&b); ; {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if len(r.JSON()) == 0 || r.Text != "" && !strings.HasSuffix(r.Text, "\n") {
		t.Errorf("%s: text %q", line, r.Text)
	}
	for _, l := range strings.Split(r.Text, "\n") {
		if strings.HasSuffix(l, " ") {
			t.Errorf("%s: a line ends in a space: %q", line, l)
		}
	}
}

// must runs a line that must succeed, and returns its text.
func must(t *testing.T, w *mgmttest.World, name, line string) string {
	t.Helper()
	r, err := run(t, w, name, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r.Text
}

// TestText looks at what a terminal shows.
func TestText(t *testing.T) {
	t.Parallel()
	w := mgmttest.New(t)
	for _, test := range []struct{ line, want string }{
		{"show system info", `(?s)^hostname: \S+\nip-address: \S+\n.*\nsw-version: 11\.1\.0\nmoongate-version: 1\.2\.3\n.*multi-vsys: off\n`},
		{"show clock", `^\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \S+ \d{4}\n$`},
		{"show hsm state", `^state: down\ncause: no HSM is configured`},
		{"show jobs all", `^Enqueued +Dequeued +ID +PositionInQ +User +Type +Status +Result +Completed\n-+\n$`},
		{"show session all", `^No Active Sessions\n$`},
		{"show session info", `(?s)^num-max: \d+\nnum-active: 0\n`},
		{"show config versions", `^Version +Committed +Admin +Description\n-+\n1 +`},
		{"show config diff", `^$`},
		{"show config running xpath /config/mgt-config/users/entry/permissions", `(?s)^<permissions>\n  <role-based>`},
		{"show system masterkey-properties", `(?s)^expire-at: n/a\n.*\nauto-renew-mkey: no\nfile: .*master\.key\nThe master key was made at random`},
		{"show admins", `^Admin +From +Type +Session-start +Idle-for\n-+\n$`},
		{"show admins all", `(?s)^Admin +Role\n-+\n.*reader +superreader\n`},
		{"show log system nlogs 1", `^receive time +severity +subtype +eventid +object +opaque\n-+\n`},
		{"show commit pending-confirm", `^No commit waits`},
		{"check pending-changes", `^no\n$`},
		{"show high-availability state", `not enabled`},
	} {
		r, err := run(t, w, "reader", test.line)
		if err != nil {
			t.Errorf("%s: %v", test.line, err)
			continue
		}
		if !regexp.MustCompile(test.want).MatchString(r.Text) {
			t.Errorf("%s printed\n%s\nwant %s", test.line, r.Text, test.want)
		}
	}
}

// TestCertificates generates, shows, requests, renews and revokes.
func TestCertificates(t *testing.T) {
	t.Parallel()
	w := mgmttest.New(t)
	if got := must(t, w, "device", "request certificate generate certificate-name ca name ca.example algorithm ECDSA ca yes"); got != "Successfully generated certificate and key pair : ca\n" {
		t.Errorf("generate: %q", got)
	}
	must(t, w, "device", "request certificate generate certificate-name leaf name leaf.example algorithm ECDSA ecdsa-nbits 384 signed-by ca hostname [ leaf.example other.example ] ip 192.0.2.1 days-till-expiry 30")
	if got := must(t, w, "reader", "show certificate all"); !regexp.MustCompile(`(?m)^leaf +\S*leaf\.example +\S*ca\.example `).MatchString(got) {
		t.Errorf("show certificate all:\n%s", got)
	}
	if got := must(t, w, "reader", "show certificate name leaf"); !strings.Contains(got, "status: valid\n") || !strings.Contains(got, "ca: no\n") {
		t.Errorf("show certificate name:\n%s", got)
	}
	must(t, w, "device", "request certificate generate certificate-name out name out.example algorithm ECDSA signed-by external")
	block, _ := pem.Decode([]byte(must(t, w, "device", "request certificate csr certificate-name out")))
	if block == nil {
		t.Fatal("no request for a certificate")
	}
	if csr, err := x509.ParseCertificateRequest(block.Bytes); err != nil || csr.Subject.CommonName != "out.example" {
		t.Errorf("request: %v", err)
	}
	if got := must(t, w, "device", "request certificate renew certificate-name leaf days-till-expiry 60"); got != "Successfully renewed certificate leaf for 60 days\n" {
		t.Errorf("renew: %q", got)
	}
	must(t, w, "device", "request certificate revoke certificate-name leaf")
	if got := must(t, w, "reader", "show certificate name leaf"); !strings.Contains(got, "status: revoked\n") {
		t.Errorf("revoked:\n%s", got)
	}
	for line, code := range map[string]mgmt.Code{
		"request certificate generate certificate-name x name x algorithm RSA ecdsa-nbits 256": mgmt.CodeInvalidCommand,
		"request certificate generate certificate-name x name x signed-by nobody":              mgmt.CodeNotPresent,
		"show certificate name nobody": mgmt.CodeNotPresent,
		// There is no listener in this world.
		"test decryption-policy-match source 192.0.2.1 destination 198.51.100.1": mgmt.CodeNotFound,
		"test decryption-policy-match source 192.0.2.0/24":                       mgmt.CodeInvalidCommand,
	} {
		if _, err := run(t, w, "device", line); mgmt.CodeOf(err) != code {
			t.Errorf("%s: %v, code %d, want %d", line, err, mgmt.CodeOf(err), code)
		}
	}
}

func TestAdministrators(t *testing.T) {
	t.Parallel()
	w := mgmttest.New(t)
	if got := must(t, w, "reader", "request password-hash password correct-horse-battery"); !strings.HasPrefix(got, "$argon2id$") {
		t.Errorf("hash: %q", got)
	}
	key := strings.TrimSpace(must(t, w, "reader", "request api-key generate"))
	if c, err := w.KeyAuth(t.Context(), mgmt.AtConsole().From, key); err != nil || c.Name != "reader" {
		t.Errorf("the key: %v, %v", c, err)
	}
	if got := must(t, w, "admin", "show api-keys admin reader"); strings.Contains(got, key) || strings.Count(got, "\n") != 3 {
		t.Errorf("keys:\n%s", got)
	}
	if _, err := run(t, w, "reader", "show api-keys admin admin"); mgmt.CodeOf(err) != mgmt.CodeDenied {
		t.Errorf("somebody else's keys: %v", err)
	}
	if got := must(t, w, "reader", "request api-key revoke"); got != "1 API keys of reader are revoked\n" {
		t.Errorf("revoke: %q", got)
	}
	if _, err := w.KeyAuth(t.Context(), mgmt.AtConsole().From, key); mgmt.CodeOf(err) != mgmt.CodeForbidden {
		t.Errorf("a revoked key: %v", err)
	}
	if got := must(t, w, "reader", "set password password another-long-password"); !strings.Contains(got, "counts after a commit") {
		t.Errorf("set password: %q", got)
	}
	if got := must(t, w, "reader", "show config diff"); strings.Contains(got, "argon2") || got == "" {
		t.Errorf("diff:\n%s", got)
	}
}

// TestKnownValues completes what only the gateway knows.
func TestKnownValues(t *testing.T) {
	t.Parallel()
	w := mgmttest.New(t)
	caller := mgmt.Caller{Identity: admin.Identity{Name: "admin", Role: admin.Superuser}, Via: mgmt.CLI}
	must(t, w, "admin", "request certificate generate certificate-name one name one.example algorithm ECDSA")
	if _, err := w.Validate(t.Context(), caller); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"show certificate name":                       "one",
		"request certificate revoke certificate-name": "one",
		"show jobs id":                                "1",
		"load config version":                         "1",
		"request api-key revoke admin":                "admin device reader second",
	} {
		var got []string
		for _, o := range Complete(t.Context(), w.Manager, caller, words(line), "") {
			got = append(got, o.Word)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", line, got, want)
		}
	}
}
