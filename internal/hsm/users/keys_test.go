package users

import (
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
		_, _ = u.delays.Begin("root", here, u.now())
	}
	_, err = logIn(t, u, "root", password, here)
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
