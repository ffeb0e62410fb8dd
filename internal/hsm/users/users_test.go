package users

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/hsm/object"
)

func TestAccounts(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	must(t, u.Add("op", RoleOperator))
	must(t, u.Add("mon", RoleMonitor))
	must(t, u.SetRole("mon", RoleAudit))
	must(t, u.Disable("op"))
	must(t, u.Delete("op"))
	must(t, u.Add("op", RoleOperator)) // enabled, whatever its predecessor was
	type row struct {
		Name              string
		Role              Role
		Enabled, Password bool
	}
	rows := func(u *Users) (list []row) {
		for _, a := range u.List() {
			list = append(list, row{a.Name, a.Role, a.Enabled, a.Password})
		}
		return list
	}
	want := []row{{"mon", RoleAudit, true, false}, {"op", RoleOperator, true, false}, {"root", RoleAdmin, true, true}}
	if diff := cmp.Diff(want, rows(u)); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	again := reopen(t, u)
	if diff := cmp.Diff(u.List(), again.List()); diff != "" {
		t.Errorf("after opening again (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(u.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file: %v, %v", info.Mode(), err)
	}

	for what, test := range map[string]struct {
		err  error
		want object.Code
	}{
		"a second of one name":   {u.Add("op", RoleAdmin), object.ErrExists},
		"a role that is none":    {u.Add("x", "root"), object.ErrArgumentsBad},
		"the console's role":     {u.Add("x", RoleConsole), object.ErrArgumentsBad},
		"the console's role set": {u.SetRole("op", RoleConsole), object.ErrArgumentsBad},
		"a name that is none":    {u.Delete("x"), object.ErrObjectNotFound},
		"a role for nobody":      {u.SetRole("x", RoleAdmin), object.ErrObjectNotFound},
		"a short password":       {u.SetPassword("op", []byte("1234567")), object.ErrPINLength},
		"a long password":        {u.SetPassword("op", make([]byte, 257)), object.ErrPINLength},
		"a password for nobody":  {u.SetPassword("x", []byte(password)), object.ErrObjectNotFound},
		"an unlock of nobody":    {u.Unlock("x"), object.ErrObjectNotFound},
	} {
		t.Run(what, func(t *testing.T) { wantCode(t, test.err, test.want) })
	}
	for _, name := range []string{"", "A", "1a", "a b", "a/b", "-a", "é", "a\n", strings.Repeat("a", 33)} {
		wantCode(t, u.Add(name, RoleAdmin), object.ErrArgumentsBad)
	}
	must(t, u.Add(strings.Repeat("a", 32), RoleMonitor))
	if diff := cmp.Diff(again.List(), u.List()[1:]); diff != "" {
		t.Errorf("refusals changed something (-want +got):\n%s", diff)
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	must(t, u.Add("op", RoleOperator))
	must(t, u.Add("other", RoleAdmin))
	must(t, u.Disable("other"))
	for what, act := range map[string]func() error{
		"deleted":  func() error { return u.Delete("root") },
		"disabled": func() error { return u.Disable("root") },
		"demoted":  func() error { return u.SetRole("root", RoleOperator) },
	} {
		if err := act(); object.CodeOf(err) != object.ErrActionProhibited || !strings.Contains(err.Error(), "last enabled account") {
			t.Errorf("the last administrator was %s: %v", what, err)
		}
	}
	must(t, u.Enable("other"))
	must(t, u.Delete("root"))
	wantCode(t, u.Delete("other"), object.ErrActionProhibited)
}

func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	// By the file, to spare a hundred fsyncs.
	next := *u.state
	for i := range maxAccounts - 1 {
		a := *u.state.Accounts[0]
		a.Name = "a" + strings.Repeat("a", i/26) + string(rune('a'+i%26))
		next.Accounts = append(next.Accounts, &a)
	}
	u.state = &next
	wantCode(t, u.Add("zz", RoleMonitor), object.ErrBusy)
}

func TestCreateAndOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "users.json")
	if _, err := Open(path, Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
	u, err := Create(path, Options{})
	must(t, err)
	if list := reopen(t, u).List(); list == nil || len(list) > 0 {
		t.Errorf("new accounts: %v", list)
	}
	if _, err := Create(path, Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Create: %v", err)
	}
	must(t, os.Chmod(path, 0o640))
	if _, err := Open(path, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Open of what others read: %v", err)
	}
	must(t, os.Symlink(path, filepath.Join(dir, "link")))
	must(t, os.Chmod(path, 0o600))
	if _, err := Open(filepath.Join(dir, "link"), Options{}); err == nil {
		t.Error("Open followed a link")
	}
}

// TestAFailedWriteChangesNothing: the process obeys what is on disk.
func TestAFailedWriteChangesNothing(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	path := u.path
	u.path = filepath.Join(t.TempDir(), "gone", "users.json")
	if err := u.Add("x", RoleAdmin); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Add: %v", err)
	}
	if _, err := logIn(t, u, "root", password, here); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a login that cannot be counted: %v", err)
	}
	u.path = path
	if diff := cmp.Diff(reopen(t, u).List(), u.List()); diff != "" {
		t.Errorf("disk and memory differ (-disk +memory):\n%s", diff)
	}
}

func TestOpenIsStrict(t *testing.T) {
	t.Parallel()
	u := newUsers1(t)
	_, err := u.AddKey("root", lineOf(newKey(t, "ed25519"), "k"))
	must(t, err)
	must(t, u.Add("other", RoleMonitor))
	raw, err := os.ReadFile(u.path)
	must(t, err)
	good := string(raw)
	if _, err := decode(raw); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"another version":     {`"version": 1`, `"version": 2`},
		"an unknown field":    {`"version": 1,`, `"version": 1, "x": 1,`},
		"a field twice":       {`"version": 1,`, "\"version\": 1,\n\t\"version\": 1,"},
		"another case":        {`"version"`, `"Version"`},
		"another layout":      {"\n\t\"strangers\"", "\n \"strangers\""},
		"a role that is none": {`"role": "admin"`, `"role": "console"`},
		"a bad name":          {`"name": "root"`, `"name": "Root"`},
		"out of order":        {`"name": "other"`, `"name": "zzz"`},
		"a name twice":        {`"name": "other"`, `"name": "root"`},
		"a negative count":    {`"failures": 0`, `"failures": -1`},
		"a cheap derivation":  {`"memory": 8192`, `"memory": 1`},
		"a short verifier":    {`"derived": "`, `"derived": "AAAA`},
		"no keys":             {`"keys": []`, `"keys": null`},
		"a bad key":           {`ssh-ed25519 AAAA`, `ssh-ed25519 AAAB`},
		"a key without form":  {`ssh-ed25519 AAAA`, `ssh-ed25519  AAAA`},
		"more after it":       {"}\n}\n", "}\n}\n{}"},
		"less":                {"}\n}\n", "}\n"},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: nothing was changed", what)
		}
		must(t, os.WriteFile(u.path, []byte(bad), 0o600))
		if _, err := Open(u.path, u.opts); err == nil {
			t.Errorf("%s was opened", what)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\n\t\"version\": 1,\n\t\"accounts\": [],\n\t\"strangers\": {\n\t\t\"failures\": 0\n\t}\n}\n"))
	f.Add([]byte("{\n\t\"version\": 1,\n\t\"accounts\": [\n\t\t{\n\t\t\t\"name\": \"root\",\n\t\t\t\"role\": \"admin\",\n\t\t\t\"enabled\": true,\n\t\t\t\"failures\": 0,\n\t\t\t\"keys\": [],\n\t\t\t\"created\": \"2026-01-01T00:00:00Z\"\n\t\t}\n\t],\n\t\"strangers\": {\n\t\t\"failures\": 0\n\t}\n}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := decode(raw)
		if err != nil {
			return
		}
		again, err := c.encode()
		must(t, err)
		if string(again) != string(raw) {
			t.Errorf("%q was read and is written as %q", raw, again)
		}
	})
}
