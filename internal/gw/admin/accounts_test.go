package admin

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestSSHKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain, encoded, stranger := newKey(t), newKey(t), newKey(t)
	w.root.PublicKeys = []string{lineOf(plain) + "\n", base64.StdEncoding.EncodeToString([]byte(lineOf(encoded)))}
	w.reopen()
	for _, key := range []struct {
		of   string
		want bool
	}{{"root", true}, {"nobody", false}, {"", false}} {
		for _, k := range w.root.PublicKeys {
			parsed, err := ParsePublicKey(k)
			must(t, err)
			shown := plain
			if !parsed.Is(plain) {
				shown = encoded
			}
			id, ok := w.SSHKey(here, key.of, shown)
			if ok != key.want || w.Offered(key.of, shown) != key.want || ok && id != (Identity{"root", Superuser}) {
				t.Errorf("%q: %+v, %v", key.of, id, ok)
			}
		}
	}
	if _, ok := w.SSHKey(here, "root", stranger); ok || w.Offered("root", stranger) {
		t.Error("a stranger's key comes in")
	}
	if s := w.Status("root"); s.LastLoginFrom != here.String() {
		t.Errorf("status %+v", s)
	}
}

// TestAccountsThatAreHalfRight are used as far as they are right.
func TestAccountsThatAreHalfRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := newKey(t)
	err := w.SetAccounts([]Account{
		w.root,
		{Name: "half", Role: DeviceAdmin, PasswordHash: "$5$salt$hash", PublicKeys: []string{"nonsense", lineOf(key)}},
		{Name: "norole", Role: "king", PasswordHash: w.root.PasswordHash},
	})
	for _, part := range []string{"administrator half: this is no hash", "administrator half, public key 1", `norole: "king" is no role`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %q in it", err, part)
		}
	}
	if strings.Contains(err.Error(), "$5$salt") {
		t.Errorf("the error shows a hash: %v", err)
	}
	if _, ok := w.SSHKey(here, "half", key); !ok {
		t.Error("a good key beside a bad one does not come in")
	}
	if w.try("half", "", somewhere()) || !w.try("root", password, somewhere()) {
		t.Error("a bad hash lets somebody in, or keeps others out")
	}
	id, err := w.Password(t.Context(), somewhere(), "norole", []byte(password))
	if err != nil || id.Role.May(OpReadSystem) {
		t.Errorf("who has no role: %+v, %v", id, err)
	}
}

func TestCurrent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if id, ok := w.Current("root"); !ok || id.Role != Superuser {
		t.Errorf("%+v, %v", id, ok)
	}
	w.root.Role = SuperReader
	must(t, w.SetAccounts([]Account{w.root}))
	if id, ok := w.Current("root"); !ok || id.Role != SuperReader {
		t.Errorf("%+v, %v", id, ok)
	}
	must(t, w.SetAccounts([]Account{{Name: "other", Role: Superuser}}))
	if id, ok := w.Current("root"); ok {
		t.Errorf("who is gone: %+v", id)
	}
}
