package adminshell

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/users"
)

// pinned makes two HSMs whose Security Officers have pinned each other, as a
// and b, and a session of an account with a role on each.
func pinned(t *testing.T, role users.Role) (a, b *Appliance, onA, onB *admin) {
	t.Helper()
	a, _ = newServed(t)
	b, _ = newServed(t)
	onA, onB = as(t, a, role), as(t, b, role)
	for _, side := range []struct {
		s     *admin
		other *Appliance
		name  string
	}{{onA, b, "b"}, {onB, a, "a"}} {
		identity, _ := identityOf(t, side.other)
		must(t, os.WriteFile(filepath.Join(side.s.shell.appliance.Inbox, side.name+".pem"), identity, 0o600))
		side.s.ok("hsm login", soPassword)
		side.s.ok("hsm peer add -f -name " + side.name)
	}
	return a, b, onA, onB
}

func domainOf(t *testing.T, s *admin) string {
	t.Helper()
	var v struct{ Domain string }
	body, _, _ := strings.Cut(s.ok("hsm domain show -json"), "\nCommand Result")
	must(t, json.Unmarshal([]byte(body), &v))
	return v.Domain
}

// TestDomainOverSSH hands a domain over by files that scp carries.
func TestDomainOverSSH(t *testing.T) {
	t.Parallel()
	a, b, onA, onB := pinned(t, users.RoleAdmin)
	if domainOf(t, onA) == domainOf(t, onB) {
		t.Fatal("two new HSMs are of one domain")
	}
	carry := func(from, to *Appliance, name string) {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(from.Inbox, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to.Inbox, name), content, 0o600))
	}
	onA.fails("Command failed", "hsm domain share -peer b -f", nil, "scp domain.request USER@HSM:")
	onB.fails(object.ErrObjectNotFound.String(), "hsm domain request -peer nobody", nil, "nobody")
	if out := onB.ok("hsm domain request -peer a"); !strings.Contains(out, "scp USER@HSM:domain.request .") {
		t.Errorf("domain request printed\n%s", out)
	}
	carry(b, a, "domain.request")
	onA.fails("Command failed", "hsm domain share -peer b", []string{"quit"}, "b becomes one of this HSM's domain for ever")
	if _, err := os.Stat(filepath.Join(a.Inbox, "domain.share")); err == nil {
		t.Error("a domain was shared without a yes")
	}
	onA.ok("hsm domain share -peer b", "proceed")
	carry(a, b, "domain.share")
	if result, _ := onA.run("hsm domain join -peer b"); result == 0 {
		t.Error("an HSM took what it had shared itself")
	}
	onB.ok("hsm domain join -peer a")
	if domainOf(t, onA) != domainOf(t, onB) {
		t.Error("the domains differ after it was handed over")
	}
	if result, _ := onB.run("hsm domain join -peer a"); result == 0 {
		t.Error("a domain was joined twice by one request")
	}
	for _, file := range []string{filepath.Join(a.Inbox, "domain.share"), filepath.Join(b.Inbox, "domain.request")} {
		info, err := os.Stat(file)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
	}
}

// TestDomainAtConsole hands a domain over by files of the caller's.
func TestDomainAtConsole(t *testing.T) {
	t.Parallel()
	a, b, _, _ := pinned(t, users.RoleAdmin)
	dir := t.TempDir()
	run := func(a *Appliance, line, file string) string {
		t.Helper()
		req := Request{Words: strings.Fields(line), Files: map[string][]byte{}}
		if file != "" {
			var err error
			req.Files["file"], err = os.ReadFile(file)
			must(t, err)
		}
		term := &script{answers: []string{soPassword}}
		s := New(a, operator, WithFiles(term))
		defer s.Close()
		if result := s.Run(t.Context(), req); result != 0 {
			t.Fatalf("%s: %d\n%s", line, result, term.out.String())
		}
		return term.out.String()
	}
	request, share := filepath.Join(dir, "request"), filepath.Join(dir, "share")
	run(b, "hsm domain request -peer a -out "+request, "")
	run(a, "hsm domain share -peer b -f -file "+request+" -out "+share, request)
	run(b, "hsm domain join -peer a -file "+share, share)
	for _, inbox := range []string{a.Inbox, b.Inbox} {
		for _, name := range domainFiles {
			if _, err := os.Stat(filepath.Join(inbox, name)); err == nil {
				t.Errorf("%s is in the inbox too", name)
			}
		}
	}
}

// TestOutIsForTheConsole: over SSH there is no file of the caller's.
func TestOutIsForTheConsole(t *testing.T) {
	t.Parallel()
	_, _, _, onB := pinned(t, users.RoleAdmin)
	onB.fails("Command failed", "hsm domain request -peer a -out x", nil, "this terminal has no files")
}
