package mgmt

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/vault"
)

// elsewhere is an HSM that this gateway does not reach any more; its one
// wrapping key is in memory. What real ones do is tested in e2e.
type elsewhere struct{ gcm cipher.AEAD }

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	k := make([]byte, 32)
	rand.Read(k)
	block, err := aes.NewCipher(k)
	must(t, err)
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	must(t, err)
	return &elsewhere{gcm}
}

func (e *elsewhere) NewKey(context.Context) (string, error) { return "elsewhere", nil }

func (e *elsewhere) Wrap(_ context.Context, _ string, plain []byte) ([]byte, error) {
	return e.gcm.Seal(nil, nil, plain, nil), nil
}

func (e *elsewhere) Unwrap(_ context.Context, _ string, wrapped []byte) ([]byte, error) {
	return e.gcm.Open(nil, nil, wrapped, nil)
}

func (e *elsewhere) Keys(context.Context) ([]vault.WrappingKey, error) { return nil, nil }

// locked is a world with a software key, whose master key is on an HSM that it
// has no way to; and that key, made at random, as somebody wrote it down.
func locked(t *testing.T) (w *world, digits string) {
	t.Helper()
	w = newWorld(t)
	w.generate("soft")
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the commit is %+v", job)
	}
	w.close()
	v, err := vault.Open(filepath.Join(w.dir, "vault"), vault.Options{Wrapper: newElsewhere(t), Now: w.clock.now})
	must(t, err)
	file, err := os.ReadFile(v.MasterKeyFile())
	must(t, err)
	yes := true
	must(t, v.ChangeMaster(t.Context(), vault.Change{OnHSM: &yes, Lifetime: 24 * time.Hour}))
	must(t, v.Close())
	w.open()
	return w, string(file[len(file)-65 : len(file)-1])
}

// TestLockedVault: with the HSM away everything works that needs no software
// key, and what does is refused with the cause.
func TestLockedVault(t *testing.T) {
	t.Parallel()
	w, words := locked(t)
	ctx := t.Context()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	defer func() {
		stop()
		must(t, <-ended)
	}()
	w.logged(logstore.System, says("master-key-locked", "no HSM is configured"))
	info, err := w.SystemInfo(ctx, as("reader"))
	must(t, err)
	if !strings.Contains(info.Trouble, "the master key is on the HSM and is not unlocked yet") || w.Trouble() != nil || !w.VaultLocked() {
		t.Errorf("the gateway tells of %q; its running configuration: %v", info.Trouble, w.Trouble())
	}
	for what, err := range map[string]error{
		"making a software key": w.GenerateCertificate(ctx, as("device"), GenerateRequest{Name: "x", CommonName: "x", Algorithm: "ECDSA", Days: 1}),
		"a key in the clear": w.Change(ctx, as("device"), config.Edit{Op: config.OpSet, Path: "/config/shared/certificate/" + config.EntryStep("soft"),
			Elements: []*config.Node{{Name: "private-key", Text: keyText(t)}}}),
		"signing a request": second(w.CSR(ctx, as("device"), "soft")),
		"another key":       second(w.ChangeMasterKey(ctx, as("root"), vault.Change{Current: []byte(words), New: []byte(words)}, nil)),
		"a rotation":        second(w.RotateWrappingKey(ctx, as("root"), nil)),
		"testing a key":     w.TestKey(ctx, as("device"), "soft"),
	} {
		wantCode(t, what, err, CodeNotPossible)
		if err != nil && !strings.Contains(err.Error(), "not unlocked yet") {
			t.Errorf("%s is refused without the cause: %v", what, err)
		}
	}
	states, err := w.CertificateStates(ctx, as("reader"))
	must(t, err)
	if len(states) != 1 || states[0].Key != "unavailable" {
		t.Errorf("certificates %+v", states)
	}
	must(t, w.setHostname(as("device"), "away"))
	job := w.commit(as("device"), CommitRequest{})
	if job.Result != jobs.Succeeded || !strings.Contains(strings.Join(job.Warnings, " "), "cannot be tried now") {
		t.Errorf("a commit that needs no key is %+v", job)
	}
	list, cause, err := w.WrappingKeys(ctx, as("reader"))
	if err != nil || cause == nil || len(list) != 1 || list[0].Use != WrapsMasterKey || list[0].OnHSM != "unknown" {
		t.Errorf("wrapping keys %+v, %v, %v", list, cause, err)
	}

	// The administrator enters the master key.
	_, err = w.RecoverMasterKey(ctx, as("root"), []byte("another master key"), nil)
	wantCode(t, "another master key", err, CodeNotPossible)
	notes, err := w.RecoverMasterKey(ctx, as("root"), []byte(words), nil)
	must(t, err)
	if text := strings.Join(notes, "\n"); !strings.Contains(text, "The master key is unlocked") || !strings.Contains(text, "must be entered again at the next start") {
		t.Errorf("recovered, it says %s", text)
	}
	w.logged(logstore.System, says("master-key-unlocked"))
	must(t, second(w.CSR(ctx, as("device"), "soft")))
	w.generate("another")
	info, err = w.SystemInfo(ctx, as("reader"))
	must(t, err)
	if info.Trouble != "" || w.VaultLocked() {
		t.Errorf("unlocked, it tells of %q", info.Trouble)
	}

	// Back into the file, without any HSM.
	no := false
	notes, err = w.ChangeMasterKey(ctx, as("root"), vault.Change{Current: []byte(words), OnHSM: &no}, nil)
	must(t, err)
	file := filepath.Join(w.dir, "vault", "master.key")
	if _, err := os.Stat(file); err != nil || !strings.Contains(strings.Join(notes, "\n"), file) {
		t.Errorf("back in the file: %v, it says %q", err, notes)
	}
	entries, err := w.parts.Logs.Query(ctx, logstore.Query{Log: logstore.Config, Limit: 500})
	must(t, err)
	seen := map[string]int{}
	for _, e := range entries {
		for _, f := range e.Fields {
			if f.Name == "cmd" {
				seen[f.Value]++
			}
			if strings.Contains(f.Value, words) {
				t.Errorf("the configuration log says %s=%q", f.Name, f.Value)
			}
		}
	}
	if seen["request master-key"] != 2 || seen["request master-key recover"] != 2 || seen["request hsm mkey-wrapping-key-rotation"] != 1 {
		t.Errorf("the configuration log has the commands %v", seen)
	}
}

// TestUnreadableKeyIsToldOnceUnlocked: a commit while the vault is locked cannot
// try software keys; what does not open is told when it does.
func TestUnreadableKeyIsToldOnceUnlocked(t *testing.T) {
	t.Parallel()
	w, words := locked(t)
	other := newWorld(t)
	other.generate("foreign")
	root, _ := other.parts.Revisions.Candidate()
	foreign := part(root, "/config/shared/certificate/"+config.EntryStep("foreign"))
	must(t, w.Change(t.Context(), as("device"), config.Edit{Op: config.OpSet, Path: "/config/shared/certificate", Elements: []*config.Node{foreign}}))
	if job := w.commit(as("device"), CommitRequest{}); job.Result != jobs.Succeeded {
		t.Fatalf("the commit is %+v", job)
	}
	// The daemon unlocks before anybody looks.
	must(t, second(w.parts.Vault.Recover(t.Context(), []byte(words))))
	w.tryUnlock(t.Context())
	w.logged(logstore.System, says("private-key-unreadable", "foreign"))
}

// TestMasterKeyRenewsItself: then it is told, and does not expire.
func TestMasterKeyRenewsItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, second(w.ChangeMasterKey(t.Context(), as("root"), vault.Change{New: []byte("a master key of somebody's"), Lifetime: 2 * time.Hour, AutoRenew: 24 * time.Hour}, nil)))
	w.clock.advance(3 * time.Hour)
	w.watch(w.now())
	w.logged(logstore.System, says("master-key-renewed"))
	p, err := w.MasterKey(t.Context(), as("reader"))
	must(t, err)
	if p.State(w.now()) != vault.Valid || !p.AutoRenew {
		t.Errorf("properties %+v", p)
	}
	entries, err := w.parts.Logs.Query(t.Context(), logstore.Query{Log: logstore.System, Filter: "( eventid eq master-key-expired )"})
	if err != nil || len(entries) != 0 {
		t.Errorf("it expired all the same: %v, %v", entries, err)
	}
}
