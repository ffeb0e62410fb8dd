package config

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// referring is a tree in which everything refers to something.
func referring(t testing.TB) *Node {
	t.Helper()
	return applied(t, Default(),
		Edit{Op: OpSet, Path: "/config/shared", Elements: elements(t, `
			<certificate><entry name="a"/><entry name="b"/></certificate>
			<ssl-decrypt><trusted-root-CA><member>a</member><member>b</member></trusted-root-CA><forward-trust-certificate><rsa>a</rsa></forward-trust-certificate></ssl-decrypt>
			<service><entry name="web"/><entry name="hidden"/></service>`)},
		Edit{Op: OpSet, Path: VsysPath, Elements: elements(t, `
			<service><entry name="hidden"/></service>
			<profiles><decryption><entry name="p"/><entry name="q"/></decryption></profiles>
			<rulebase><decryption><rules>
				<entry name="1"><profile>p</profile><service><member>web</member><member>hidden</member></service></entry>
				<entry name="2"><profile>p</profile><type><ssl-inbound-inspection><certificates><member>b</member></certificates></ssl-inbound-inspection></type></entry>
			</rules></decryption></rulebase>`)},
	)
}

func TestReferences(t *testing.T) {
	t.Parallel()
	root := referring(t)
	for _, test := range []struct {
		list, name string
		want       []string
	}{
		{certificatesPath, "a", []string{decryptPath + "/trusted-root-CA/member[text()='a']", trust + "/rsa"}},
		{certificatesPath, "c", nil},
		{profilesPath, "p", []string{rulePath("1") + "/profile", rulePath("2") + "/profile"}},
		{sharedServicesPath, "web", []string{rulePath("1") + "/service/member[text()='web']"}},
		{sharedServicesPath, "hidden", nil},
		{vsysServicesPath, "hidden", []string{rulePath("1") + "/service/member[text()='hidden']"}},
	} {
		if diff := cmp.Diff(test.want, References(root, test.list, test.name)); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", test.name, test.list, diff)
		}
	}
}

// An entry in use is not removed, however it is tried, and goes when it is free.
func TestRemovingWhatIsInUse(t *testing.T) {
	t.Parallel()
	root := referring(t)
	for _, e := range []Edit{
		{Op: OpDelete, Path: certPath("a")},
		{Op: OpDelete, Path: certificatesPath + "/entry[@name='b' or @name='a']"},
		{Op: OpDelete, Path: certificatesPath},
		{Op: OpEdit, Path: certificatesPath, Elements: elements(t, `<certificate><entry name="b"/></certificate>`)},
	} {
		_, err := Apply(root, e)
		var inUse *RefError
		want := certPath("a") + ": in use by " + decryptPath + "/trusted-root-CA/member[text()='a'], " + trust + "/rsa"
		if !errors.As(err, &inUse) || inUse.Path != certPath("a") || len(inUse.Users) != 2 || err.Error() != want {
			t.Errorf("%s %s\ngot  %v\nwant %s", e.Op, e.Path, err, want)
		}
	}
	root = applied(t, root,
		Edit{Op: OpDelete, Path: below(profilesPath, "q")},
		Edit{Op: OpDelete, Path: below(sharedServicesPath, "hidden")}, // the virtual system's is meant
		Edit{Op: OpDelete, Path: decryptPath},
		Edit{Op: OpDelete, Path: certPath("a")},
	)
	// With what refers to it, an entry may go.
	applied(t, root, Edit{Op: OpDelete, Path: VsysPath})
	// The one that was hidden takes the other's place.
	root = applied(t, referring(t), Edit{Op: OpDelete, Path: below(vsysServicesPath, "hidden")})
	if users := References(root, sharedServicesPath, "hidden"); len(users) != 1 {
		t.Errorf("the shared service is used by %q", users)
	}
}

// A rename takes along what refers to the entry, and nothing else of that name.
func TestRenameRewrites(t *testing.T) {
	t.Parallel()
	root := applied(t, referring(t),
		Edit{Op: OpRename, Path: certPath("a"), NewName: "z"},
		Edit{Op: OpRename, Path: below(profilesPath, "p"), NewName: "a"},
		Edit{Op: OpRename, Path: below(sharedServicesPath, "hidden"), NewName: "unused"},
		Edit{Op: OpRename, Path: below(vsysServicesPath, "hidden"), NewName: "shown"},
	)
	for path, want := range map[string]string{
		decryptPath:   `<ssl-decrypt><trusted-root-CA><member>z</member><member>b</member></trusted-root-CA><forward-trust-certificate><rsa>z</rsa></forward-trust-certificate></ssl-decrypt>`,
		rulePath("1"): `<entry name="1"><profile>a</profile><service><member>web</member><member>shown</member></service></entry>`,
		rulePath("2"): `<entry name="2"><profile>a</profile><type><ssl-inbound-inspection><certificates><member>b</member></certificates></ssl-inbound-inspection></type></entry>`,
	} {
		if diff := cmp.Diff(want, at(t, root, path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	// A name that would be taken for another's.
	if _, err := Apply(root, Edit{Op: OpRename, Path: below(sharedServicesPath, "web"), NewName: "shown"}); !errors.Is(err, ErrNotUnique) {
		t.Errorf("renamed to what another list has: %v", err)
	}
	// A list that has the new name already, of nothing, has it once.
	root = applied(t, root,
		Edit{Op: OpSet, Path: rulePath("1") + "/service", Elements: elements(t, `<member>later</member>`)},
		Edit{Op: OpRename, Path: below(vsysServicesPath, "shown"), NewName: "later"},
	)
	if got, want := at(t, root, rulePath("1")+"/service"), `<service><member>web</member><member>later</member></service>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	row, err := Lookup("/config/devices/entry/vsys/entry[@name='vsys1']/rulebase/decryption/rules")
	if err != nil || row.Kind() != KindList || row.IsEntry() || row.Doc() != objectName(63).doc {
		t.Fatalf("rules: %v, %v", row.Kind(), err)
	}
	entry, ok := row.Child("entry")
	if !ok || !entry.IsEntry() || entry.Kind() != KindEntry || len(row.Children()) != 1 || entry.Name() != "entry" {
		t.Fatalf("an entry of it: %v", entry.Kind())
	}
	for _, c := range entry.Children() {
		again, err := Lookup(c.Path())
		if err != nil || again.Name() != c.Name() || again.Help() == "" || again.State() != c.State() {
			t.Errorf("%s: %v", c.Path(), err)
		}
	}
	action, _ := entry.Child("action")
	if diff := cmp.Diff([]string{"decrypt", "no-decrypt"}, action.Words()); diff != "" || !action.Needed() || action.Kind() != KindLeaf || action.Children() != nil {
		t.Errorf("action: %s", diff)
	}
	service, _ := entry.Child("service")
	if diff := cmp.Diff([]string{vsysServicesPath, sharedServicesPath}, service.Refers()); diff != "" || service.Kind() != KindMembers || service.Absent() != "any" {
		t.Errorf("service: %s", diff)
	}
	kind, _ := entry.Child("type")
	if !kind.Choice() || kind.Kind() != KindContainer {
		t.Error("type is no choice")
	}
	if key, err := Lookup(certPath("x") + "/private-key"); err != nil || !key.Secret() {
		t.Errorf("private-key: %v", err)
	}
	if below, err := Lookup(VsysPath + "/ssl-decrypt/forward-trust-certificate"); err != nil || below.State() != Awaited {
		t.Errorf("below what is not supported yet: %v, %v", below.State(), err)
	}
	for path, want := range map[string]string{
		"/config/share":          `/config/share: unknown element, got "share", did you mean "shared"?`,
		"/conf":                  `/conf: unknown element, got "conf", expected config`,
		"/config/*":              `not a path, got "/config/*", expected the path of one element`,
		rulePath("/"):            rulePath("/") + `: not a name, got "/", expected ` + objectName(63).doc,
		rulesPath + "/x":         rulesPath + `/x: unknown element, got "x", expected entry[@name='…']`,
		rulePath("a") + "/x/y/z": rulePath("a") + `/x: unknown element, got "x", ` + hint("x", entry.at.row.childNames()),
	} {
		if _, err := Lookup(path); err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", path, err, want)
		}
	}
	for value, want := range map[string]bool{"decrypt": true, " decrypt ": true, "x": false, "\x00": false} {
		if got := action.Check(value) == ""; got != want {
			t.Errorf("Check(%q): %v", value, got)
		}
	}
	if entry.Check("a/b") == "" || entry.Check("a b") != "" || kind.Check("x") == "" {
		t.Error("Check of names")
	}
}
