package users

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"moongate/internal/hsm/object"
)

func TestKeyLogin(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	must(t, u.Add("off", RoleOperator))
	var keys []ssh.PublicKey
	for _, kind := range []string{"ed25519", "ecdsa", "rsa2048"} {
		key := newKey(t, kind)
		keys = append(keys, key)
		added, err := u.AddKey("root", lineOf(key, "of  "+kind))
		must(t, err)
		if added.Fingerprint != ssh.FingerprintSHA256(key) || added.Comment != "of "+kind || added.Type != key.Type() {
			t.Errorf("added %+v", added)
		}
	}
	_, err := u.AddKey("root", lineOf(keys[0], "another comment"))
	wantCode(t, err, object.ErrExists)
	_, err = u.AddKey("off", lineOf(keys[0], ""))
	must(t, err)
	must(t, u.Disable("off"))

	again := reopen(t, u)
	for _, key := range keys {
		if !again.HasKey("root", key) {
			t.Errorf("%s does not open its account", key.Type())
		}
		_, err := again.AuthenticateKey(t.Context(), "root", key, here)
		must(t, err)
	}
	stranger := newKey(t, "ed25519")
	for _, test := range []struct {
		name string
		key  ssh.PublicKey
	}{{"root", stranger}, {"off", keys[0]}, {"off", keys[1]}, {"nobody", keys[0]}, {"", keys[0]}} {
		if again.HasKey(test.name, test.key) {
			t.Errorf("%q has a key that is not its own", test.name)
		}
		_, err := again.AuthenticateKey(t.Context(), test.name, test.key, here)
		wantCode(t, err, object.ErrPINIncorrect)
	}
	if a, err := again.Get("root"); err != nil || a.LastLoginFrom != here.String() || a.Keys != 3 {
		t.Errorf("after the logins: %+v, %v", a, err)
	}

	must(t, again.RemoveKey("root", ssh.FingerprintSHA256(keys[0])))
	must(t, again.RemoveKey("root", "of ecdsa"))
	wantCode(t, again.RemoveKey("root", "of ecdsa"), object.ErrObjectNotFound)
	left, err := reopen(t, u).Keys("root")
	must(t, err)
	if len(left) != 1 || left[0].Type != "ssh-rsa" || again.HasKey("root", keys[0]) {
		t.Errorf("left: %v", left)
	}
	for range 2 {
		_, err = again.AddKey("root", lineOf(newKey(t, "ed25519"), "same"))
		must(t, err)
	}
	wantCode(t, again.RemoveKey("root", "same"), object.ErrArgumentsBad)
	if _, err := again.Keys("nobody"); object.CodeOf(err) != object.ErrObjectNotFound {
		t.Errorf("keys of nobody: %v", err)
	}
}

// TestKeyLoginIsNeverDelayed: a stranger's wrong passwords are not in its way.
func TestKeyLoginIsNeverDelayed(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	key := newKey(t, "ed25519")
	_, err := u.AddKey("root", lineOf(key, ""))
	must(t, err)
	for range 20 {
		_, _ = u.delays.begin("root", here, u.now())
	}
	_, err = login(t, u, "root", password, here)
	wantCode(t, err, object.ErrDelayed)
	_, err = u.AuthenticateKey(t.Context(), "root", key, here)
	must(t, err)
}

func TestKeysAreBounded(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	for range maxKeysOfAccount {
		_, err := u.AddKey("root", lineOf(newKey(t, "ed25519"), ""))
		must(t, err)
	}
	_, err := u.AddKey("root", lineOf(newKey(t, "ed25519"), ""))
	wantCode(t, err, object.ErrBusy)
}

func TestShortRSAKeysAreRefused(t *testing.T) { // not parallel: it sets GODEBUG
	_, err := ParseKey(lineOf(newKey(t, "rsa1024"), ""))
	wantCode(t, err, object.ErrKeySize)
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	good := strings.TrimSpace(lineOf(newKey(t, "ed25519"), "comment"))
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
