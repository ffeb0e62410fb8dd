package login

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// lineOf is a new key's line, without its end.
func lineOf(t *testing.T, comment string) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment
}

func TestKeys(t *testing.T) {
	t.Parallel()
	line := lineOf(t, "one")
	k, err := ParseKey(line)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ParseKey(strings.TrimSuffix(line, "one") + "two")
	if err != nil || !k.Same(same) || k.Line == same.Line {
		t.Errorf("under another comment: %+v, %v", same, err)
	}
	other, err := ParseKey(lineOf(t, "one"))
	if err != nil || k.Same(other) {
		t.Errorf("another key: %+v, %v", other, err)
	}
	shown, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil || !k.Is(shown) || other.Is(shown) {
		t.Errorf("as shown by a peer: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	good := lineOf(t, "comment")
	if k, err := ParseKey("  " + good + "\r\n"); err != nil || k.Line != good {
		t.Errorf("a good line: %+v, %v", k, err)
	}
	for what, line := range map[string]string{
		"nothing":            "",
		"a private key":      "-----BEGIN OPENSSH PRIVATE KEY-----",
		"options":            `command="x" ` + good,
		"two lines":          good + "\n" + good,
		"a comment line":     "# x\n" + good,
		"another type":       "ssh-dss AAAA",
		"a certificate":      "ssh-ed25519-cert-v01@openssh.com AAAA",
		"a type that lies":   strings.Replace(good, "ssh-ed25519", "ssh-rsa", 1),
		"base64 cut short":   good[:40],
		"an escape sequence": good + "\x1b[2J",
		"a turned line":      good + "\u202e",
		"a long comment":     good + strings.Repeat("x", 200),
		"a long line":        good + strings.Repeat(" ", 5000) + "x",
	} {
		if _, err := ParseKey(line); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIpEBP1Nq2eJ0Y2pZbgXmL9rWn7UEPzHqGvVd7sR0J8K comment")
	f.Add("ecdsa-sha2-nistp256 AAAA x")
	f.Add("sk-ssh-ed25519@openssh.com AAAA")
	f.Fuzz(func(t *testing.T, line string) {
		k, err := ParseKey(line)
		if err != nil {
			return
		}
		again, err := ParseKey(k.Line)
		if err != nil || again.Line != k.Line || again.Fingerprint != k.Fingerprint {
			t.Errorf("%q became %q, which reads as %+v, %v", line, k.Line, again, err)
		}
	})
}
