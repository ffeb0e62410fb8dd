package mgmt

import (
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
)

// TestExpiredForwardCA: an expired certificate is no new forward CA, and one
// that expires where it is keeps nobody from committing something else.
func TestExpiredForwardCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, name := range []string{"old", "other"} {
		must(t, w.GenerateCertificate(ctx, as("device"), GenerateRequest{Name: name, CommonName: name + " CA", Algorithm: "ECDSA", CA: true, Days: 2}))
	}
	trust := config.SharedPath + "/ssl-decrypt/forward-trust-certificate/ecdsa"
	must(t, w.Change(ctx, as("device"), set(t, trust, "old")))
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the job is %+v", job)
	}
	w.clock.advance(72 * time.Hour)
	must(t, w.setHostname(as("device"), "gw1"))
	job := w.commit(as("device"), CommitRequest{})
	if job.Result != jobs.Succeeded || !slices.ContainsFunc(job.Warnings, func(l string) bool { return strings.Contains(l, "expired on") }) {
		t.Errorf("with a CA that has expired since, the job is %+v", job)
	}
	must(t, w.Change(ctx, as("device"), set(t, trust, "other")))
	job = w.commit(as("device"), CommitRequest{})
	said := strings.Join(job.Details, "\n")
	for _, want := range []string{trust + ": expired on ", `got "other"`, `cmu selfSign -CN="other CA" -startDate=`, "cmu export"} {
		if job.Result != jobs.Failed || !strings.Contains(said, want) {
			t.Errorf("a new CA that has expired: %s %q, expected %q", job.Result, said, want)
		}
	}
	w.restart() // the running one is used all the same
	if w.Hostname() != "gw1" {
		t.Errorf("after a start the name is %q", w.Hostname())
	}
}

// TestNewKeyOnHSM: a key that is said to be on the HSM signs before it is
// committed; here there is no HSM. (Keys that are there: e2e.)
func TestNewKeyOnHSM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	must(t, w.GenerateCertificate(ctx, as("device"), GenerateRequest{Name: "c", CommonName: "c.example", Algorithm: "ECDSA"}))
	entry := config.SharedPath + "/certificate/entry[@name='c']"
	must(t, w.Change(ctx, as("device"), config.Edit{Op: config.OpDelete, Path: entry + "/private-key"}))
	must(t, w.Change(ctx, as("device"), set(t, entry+"/private-key-on-hsm", "yes")))
	job := w.commit(as("device"), CommitRequest{})
	said := strings.Join(job.Details, "\n")
	if want := entry + "/private-key-on-hsm: a signature is made before it is committed"; job.Result != jobs.Failed || !strings.Contains(said, want) || !strings.Contains(said, "no HSM is configured") {
		t.Errorf("the job is %s: %q", job.Result, said)
	}
}

// TestReplacedForwardCA: a commit that replaces the CA that clients trust says
// what that takes.
func TestReplacedForwardCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, name := range []string{"old", "new"} {
		must(t, w.GenerateCertificate(ctx, as("device"), GenerateRequest{Name: name, CommonName: name + " CA", Algorithm: "ECDSA", CA: true}))
	}
	trust := config.SharedPath + "/ssl-decrypt/forward-trust-certificate/ecdsa"
	warned := func(name, want string) {
		t.Helper()
		must(t, w.Change(ctx, as("device"), set(t, trust, name)))
		job := w.commit(as("device"), CommitRequest{Force: true})
		said := slices.ContainsFunc(job.Warnings, func(l string) bool {
			return strings.HasPrefix(l, trust+": ") && strings.Contains(l, "docs/certificates.md")
		})
		if job.Result != jobs.Succeeded || said != (want != "") || said && !strings.Contains(strings.Join(job.Warnings, "\n"), want) {
			t.Errorf("forward trust %s: %s, warnings %q; want %q", name, job.Result, job.Warnings, want)
		}
	}
	warned("old", "")
	warned("old", "")
	warned("new", `replaced, "old" by "new"`)
	must(t, w.RenewCertificate(ctx, as("device"), "new", 300))
	warned("new", `renewed, "new" by "new" with the same key and name`)
}
