package mgmt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/vault"
)

// keyText is a private key in PEM.
func keyText(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (w *world) generate(name string) {
	w.t.Helper()
	must(w.t, w.GenerateCertificate(w.t.Context(), as("device"), GenerateRequest{Name: name, CommonName: name, Algorithm: "ECDSA", Days: 10}))
}

// TestSecretsAreSealedAndMasked: a private key is nowhere in the clear, and comes
// back masked.
func TestSecretsAreSealedAndMasked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.generate("one")
	entry := certstore.ListPath + "/" + config.EntryStep("one")
	stored := func() string {
		root, _ := w.parts.Revisions.Candidate()
		return part(root, entry+"/private-key").Text
	}
	before := stored()
	if !vault.IsSealed(before) {
		t.Fatalf("the key is stored as %q", before)
	}
	shown, err := w.Get(ctx, as("root"), Candidate, entry)
	must(t, err)
	if text := string(config.Encode(&config.Node{Name: "x", Children: shown})); strings.Contains(text, before) || !strings.Contains(text, masked) {
		t.Errorf("the entry is shown as %s", text)
	}
	// What was shown comes back from a client that edits it: the key stays.
	must(t, w.Change(ctx, as("device"), config.Edit{Op: config.OpEdit, Path: entry, Elements: shown}))
	if stored() != before {
		t.Error("a masked key replaced the key")
	}
	err = w.Change(ctx, as("device"), config.Edit{Op: config.OpSet, Path: certstore.ListPath + "/" + config.EntryStep("two"), Elements: []*config.Node{{Name: "private-key", Text: masked}}})
	wantCode(t, "a masked key that stands for nothing", err, CodeInvalidObject)

	// A key in the clear is sealed by whichever way it comes.
	clear := keyText(t)
	must(t, w.Change(ctx, as("device"), config.Edit{Op: config.OpSet, Path: entry, Elements: []*config.Node{{Name: "private-key", Text: clear}}}))
	if s := stored(); s == before || !vault.IsSealed(s) {
		t.Errorf("the key is stored as %q", s)
	}
	err = w.Change(ctx, as("device"), config.Edit{Op: config.OpSet, Path: entry, Elements: []*config.Node{{Name: "private-key", Text: "-----BEGIN PRIVATE KEY-----\nnonsense"}}})
	wantCode(t, "a key that is none", err, CodeInvalidObject)
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Failed { // it is not the certificate's
		t.Errorf("another key than the certificate's was committed: %+v", job)
	}
	entries, err := w.parts.Logs.Query(ctx, logstore.Query{Log: logstore.Config, Limit: 500})
	must(t, err)
	for _, e := range entries {
		for _, f := range e.Fields {
			if strings.Contains(f.Value, "PRIVATE") || strings.Contains(f.Value, vault.Prefix) {
				t.Errorf("the configuration log says %s=%q", f.Name, f.Value)
			}
		}
	}
	text, err := w.DiffText(ctx, as("reader"), Running, Candidate)
	must(t, err)
	if strings.Contains(text, vault.Prefix) {
		t.Errorf("the difference shows a sealed key:\n%s", text)
	}
}

// TestChangeMasterKey: secrets are sealed anew under a key that the old master
// key never wrapped, everywhere, and stay readable.
func TestChangeMasterKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.generate("running")
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the commit is %+v", job)
	}
	w.generate("candidate")
	ids := func() []string {
		var list []string
		for _, which := range []Which{Running, Candidate} {
			root, err := w.tree(which)
			must(t, err)
			for _, key := range sealedKeys(root) {
				id, err := vault.KeyOf(key.text)
				must(t, err)
				list = append(list, id)
			}
		}
		return slices.Compact(list)
	}
	before := ids()
	_, err := w.ChangeMasterKey(ctx, as("root"), vault.Change{New: []byte("a new master key, long"), Lifetime: 48 * time.Hour, Reminder: 24 * time.Hour}, nil)
	must(t, err)
	list, err := w.Jobs(ctx, as("reader"))
	must(t, err)
	if job := w.wait(list[0].ID); job.Type != "RenewDataKeys" || job.Result != jobs.Succeeded {
		t.Fatalf("the job is %+v", job)
	}
	after := ids()
	if len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("data keys before %v, after %v", before, after)
	}
	changes, err := w.Diff(ctx, as("reader"))
	must(t, err)
	for _, c := range changes {
		if strings.Contains(c.Path, "'running'") {
			t.Errorf("candidate and running differ in %s", c.Path)
		}
	}
	w.restart()
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Succeeded { // which opens every key
		t.Errorf("the commit is %+v", job)
	}
	must(t, w.LoadVersion(ctx, as("root"), 2)) // sealed under the old data key
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Errorf("the old version is %+v", job)
	}

	// The lifetime is told of, each hour.
	w.clock.advance(30 * time.Hour)
	w.watch(w.now())
	w.watch(w.now())
	w.clock.advance(time.Hour)
	w.watch(w.now())
	w.clock.advance(48 * time.Hour)
	w.watch(w.now())
	w.logged(logstore.System, says("master-key-expired"))
	entries, err := w.parts.Logs.Query(ctx, logstore.Query{Log: logstore.System, Filter: "( eventid eq master-key-reminder )"})
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("%d reminders, want 2", len(entries))
	}
}

func TestCertificateExpiryIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generate("soon")
	w.commit(as("device"), CommitRequest{})
	for range 3 {
		w.watch(w.now())
	}
	w.clock.advance(20 * 24 * time.Hour)
	w.watch(w.now())
	w.logged(logstore.System, says("certificate-expiry", "soon", "has expired"))
	entries, err := w.parts.Logs.Query(t.Context(), logstore.Query{Log: logstore.System, Filter: "( eventid eq certificate-expiry )"})
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("%d entries, want one of each step: %+v", len(entries), entries)
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, from := t.Context(), netip.MustParseAddr("192.0.2.9")
	c, err := w.PasswordLogin(ctx, CLI, from, "device", []byte(password))
	must(t, err)
	w.logged(logstore.System, says("login", "device", "192.0.2.9"))
	_, err = w.PasswordLogin(ctx, API, from, "device", []byte("a wrong password"))
	wantCode(t, "a wrong password", err, CodeForbidden)
	_, unknown := w.PasswordLogin(ctx, API, from, "nobody\x1b[2J", []byte("a wrong password"))
	if err == nil || unknown == nil || err.Error() != unknown.Error() {
		t.Errorf("a wrong password says %v, an unknown account %v", err, unknown)
	}
	w.logged(logstore.System, says("login-failed", "nobody?[2J"))

	key, err := w.KeyGen(ctx, c)
	must(t, err)
	byKey, err := w.KeyAuth(ctx, from, key)
	must(t, err)
	if byKey.Name != "device" || byKey.Via != API {
		t.Errorf("the key lets in %+v", byKey)
	}
	if n, err := w.RevokeAPIKeys(ctx, c, ""); err != nil || n != 1 {
		t.Errorf("%d keys revoked, %v", n, err)
	}
	_, err = w.KeyAuth(ctx, from, key)
	wantCode(t, "a revoked key", err, CodeForbidden)

	// A new password counts from the commit on.
	must(t, w.SetPassword(ctx, c, "device", []byte("the next password")))
	if job := w.commit(as("root"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the job is %+v", job)
	}
	// Who came in by the old one has to prove it anew.
	_, err = w.SystemInfo(ctx, c)
	wantCode(t, "a session of the old password", err, CodeUnauthorized)
	c, err = w.PasswordLogin(ctx, CLI, from, "device", []byte("the next password"))
	must(t, err)
	_, err = w.SystemInfo(ctx, c)
	must(t, err)
	visit := w.Enter(c)
	in, err := w.WhoIsLoggedIn(ctx, as("reader"))
	must(t, err)
	if len(in) != 1 || in[0].Name != "device" {
		t.Errorf("logged in are %+v", in)
	}
	visit.Leave()
}

// TestResetWhileDegraded: the console lets somebody in where the running
// configuration cannot be used.
func TestResetWhileDegraded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root, _ := w.parts.Revisions.Running()
	broken, err := config.Apply(root, set(t, config.VsysPath+"/rulebase/decryption/rules/"+config.EntryStep("x")+"/profile", "nowhere"))
	must(t, err)
	_, err = w.parts.Revisions.Commit(t.Context(), revisionMeta, broken, time.Time{})
	must(t, err)
	w.restart()
	if w.Trouble() == nil {
		t.Fatal("a configuration that is wrong is in use")
	}
	must(t, w.ResetAdministrator(t.Context(), "helper", []byte("the helper's password"), true))
	c, err := w.PasswordLogin(t.Context(), CLI, netip.Addr{}, "helper", []byte("the helper's password"))
	must(t, err)
	info, err := w.SystemInfo(t.Context(), c)
	must(t, err)
	if !strings.Contains(info.Trouble, "nowhere") {
		t.Errorf("the trouble is %q", info.Trouble)
	}
	if job := w.commit(c, CommitRequest{}); job.Result != jobs.Succeeded || w.Trouble() != nil {
		t.Errorf("the job is %+v, the trouble %v", job, w.Trouble())
	}
}
