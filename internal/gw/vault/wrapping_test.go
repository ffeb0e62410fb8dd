package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// wrapped is a vault with the double for its HSM.
func wrapped(t testing.TB) (*Vault, *double) {
	t.Helper()
	dir := memoryDir(t)
	d := newDouble(dir)
	return openWith(t, dir, d), d
}

func openWith(t testing.TB, dir string, w Wrapper) *Vault {
	t.Helper()
	v, err := open(filepath.Join(dir, "vault"), Options{Wrapper: w}, quickCosts)
	must(t, err)
	t.Cleanup(func() { must(t, v.Close()) })
	return v
}

// next closes a vault and opens it again with its HSM.
func next(t testing.TB, v *Vault, d *double) *Vault {
	t.Helper()
	must(t, v.Close())
	return openWith(t, filepath.Dir(v.Dir()), d)
}

func change(t testing.TB, v *Vault, c Change) {
	t.Helper()
	must(t, v.ChangeMaster(t.Context(), c))
}

// wantNoFile reports a master key's file, and its key anywhere in the vault.
func wantNoFile(t testing.TB, v *Vault) {
	t.Helper()
	if _, err := os.Lstat(v.MasterKeyFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the master key's file: %v", err)
	}
	if v.ring == nil || v.ring.master == nil {
		t.Error("the vault is not open, or does not keep its master key")
	}
}

// TestStoredOnHSM: with and without another key, and back.
func TestStoredOnHSM(t *testing.T) {
	t.Parallel()
	for _, c := range []Change{
		{OnHSM: onHSM},
		{OnHSM: onHSM, New: []byte(masterOne), Lifetime: 48 * time.Hour, Reminder: 48 * time.Hour},
	} {
		v, d := wrapped(t)
		text := sealed(t, v, "private-key", "secret")
		before := v.Properties()
		held, err := os.Open(v.MasterKeyFile())
		must(t, err)
		change(t, v, c)
		after := make([]byte, 64)
		_, err = held.ReadAt(after, 0)
		must(t, errors.Join(err, held.Close()))
		if len(bytes.Trim(after, "\x00")) > 0 {
			t.Errorf("where the master key was is still %q", after)
		}
		p := v.Properties()
		if !p.OnHSM || p.File != "" || p.WrappingKey == "" || p.Wraps != 1 || (p.ID == before.ID) != (c.New == nil) {
			t.Errorf("properties %+v, before %+v", p, before)
		}
		if c.Lifetime > 0 && !p.RemindAt.Equal(p.Created) {
			t.Errorf("a reminder as long as the life begins at %v, want %v", p.RemindAt, p.Created)
		}
		wantNoFile(t, v)
		wantSecret(t, v, "private-key", text, "secret")

		v = next(t, v, d)
		wantLocked(t, v, text)
		must(t, v.Unlock(t.Context()))
		wantNoFile(t, v)
		wantSecret(t, v, "private-key", text, "secret")
		if v.Properties() != p || v.Locked() != nil {
			t.Errorf("unlocked, properties %+v, want %+v; %v", v.Properties(), p, v.Locked())
		}
		// What was unlocked stays so, and needs the HSM no more.
		d.set(func(d *double) { d.away = errAway })
		must(t, v.Unlock(t.Context()))
		_, err = v.RenewDataKeys()
		must(t, err)
		again := sealed(t, v, "private-key", "another")
		if err := v.ChangeMaster(t.Context(), Change{Current: c.New, New: []byte(masterTwo)}); !errors.Is(err, errAway) {
			t.Errorf("a change that needs the HSM: %v", err)
		}
		if v.Properties() != p {
			t.Error("a change that failed changed something")
		}
		change(t, v, Change{Current: c.New, OnHSM: offHSM})
		if p := v.Properties(); p.OnHSM || p.File != v.MasterKeyFile() || p.Wraps != 0 || len(v.WrappingKeys()) != 1 {
			t.Errorf("back from the HSM: %+v", p)
		}
		v = next(t, v, d)
		wantSecret(t, v, "private-key", text, "secret")
		wantSecret(t, v, "private-key", again, "another")
		// The wrapping key that there is is used again.
		d.set(func(d *double) { d.away = nil })
		change(t, v, Change{Current: c.New, OnHSM: onHSM})
		if q := v.Properties(); q.WrappingKey != p.WrappingKey {
			t.Errorf("wrapped by %s, want %s again", q.WrappingKey, p.WrappingKey)
		}
	}
}

// wantLocked wants that a vault seals and opens nothing, says why, and does what
// needs no master key.
func wantLocked(t *testing.T, v *Vault, text string) {
	t.Helper()
	for what, err := range map[string]error{
		"Locked": v.Locked(),
		"Open":   failed(v.Open("private-key", text)),
		"Seal":   failed(v.Seal("private-key", []byte("x"))),
		"Renew":  failed(v.RenewDataKeys()),
		"Prune":  failed(v.PruneDataKeys(nil)),
		"Rotate": failed(v.RotateWrapping(t.Context())),
		"Settle": failed(v.SettleWrapping(t.Context())),
		"Change": v.ChangeMaster(t.Context(), Change{New: []byte(masterTwo)}),
	} {
		why, typed := errors.AsType[*LockedError](err)
		if !errors.Is(err, ErrLocked) || !typed || why.Cause == nil || why.Since.IsZero() {
			t.Errorf("%s of a locked vault: %v", what, err)
		}
	}
	file, err := v.Device().Seal(WebKey, []byte("web key"))
	must(t, err)
	if got, err := v.Device().Open(WebKey, file); err != nil || string(got) != "web key" {
		t.Errorf("the device key opens %q, %v", got, err)
	}
	if p := v.Properties(); !p.OnHSM || p.WrappingKey == "" || len(v.DataKeys()) == 0 || len(v.WrappingKeys()) == 0 {
		t.Errorf("a locked vault tells of %+v", p)
	}
	_, err = v.Export(phrase)
	must(t, err)
}

func failed[T any](_ T, err error) error { return err }

// TestUnlockTellsWhy: the cause is told, and the vault opens once it is gone.
func TestUnlockTellsWhy(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	change(t, v, Change{OnHSM: onHSM})
	v = next(t, v, d)
	d.set(func(d *double) { d.away = errAway })
	if err := v.Unlock(t.Context()); !errors.Is(err, errAway) || !errors.Is(v.Locked(), errAway) {
		t.Errorf("with the HSM away: %v, then %v", err, v.Locked())
	}
	v.StillLocked(errors.New("the password is wrong"))
	if err := v.Locked(); err == nil || !strings.Contains(err.Error(), "the password is wrong") {
		t.Errorf("another cause is told as %v", err)
	}
	d.set(func(d *double) { d.away, d.wrong = nil, true })
	if err := v.Unlock(t.Context()); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "does not open the keyring") {
		t.Errorf("with another key from the HSM: %v", err)
	}
	d.set(func(d *double) { d.wrong = false })
	must(t, d.lose(v.Properties().WrappingKey))
	if err := v.Unlock(t.Context()); !errors.Is(err, ErrNoWrappingKey) || !strings.Contains(err.Error(), "request master-key recover") {
		t.Errorf("without the wrapping key: %v", err)
	}
	ref := v.Properties().WrappingKey
	must(t, os.Rename(d.path(ref)+".lost", d.path(ref)))
	must(t, v.Unlock(t.Context()))
	wantSecret(t, v, "private-key", text, "secret")
	must(t, v.Close())
	if err := v.Unlock(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("unlocking a closed vault: %v", err)
	}
	// A process that has no way to the HSM.
	blind := openIn(t, filepath.Dir(v.Dir()))
	if err := blind.Unlock(t.Context()); !errors.Is(err, errNoWrapper) {
		t.Errorf("without an HSM: %v", err)
	}
	reader, err := Open(v.Dir(), Options{ReadOnly: true, Wrapper: d})
	must(t, err)
	must(t, reader.Unlock(t.Context()))
	wantSecret(t, reader, "private-key", text, "secret")
	must(t, reader.Close())
}

// TestRotateWrapping: both wraps stay until every member holds the new key.
func TestRotateWrapping(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	// Not on the HSM: for later.
	first, err := v.RotateWrapping(t.Context())
	must(t, err)
	second, err := v.RotateWrapping(t.Context())
	must(t, err)
	if p := v.Properties(); p.OnHSM || p.File == "" {
		t.Errorf("properties %+v", p)
	}
	change(t, v, Change{OnHSM: onHSM, New: []byte(masterOne)})
	if p := v.Properties(); p.WrappingKey != second {
		t.Errorf("wrapped by %s, want the later one of %s and %s", p.WrappingKey, first, second)
	}
	d.set(func(d *double) { d.missing = []string{"two"} })
	third, err := v.RotateWrapping(t.Context())
	must(t, err)
	if missing, err := v.SettleWrapping(t.Context()); err != nil || !slices.Equal(missing, []string{"two"}) {
		t.Errorf("missing are %q, %v", missing, err)
	}
	// Either key opens it; so it does with a new master key.
	for range 2 {
		if p := v.Properties(); p.Wraps != 2 || p.WrappingKey != third {
			t.Errorf("properties %+v", p)
		}
		for _, lost := range []string{second, third} {
			must(t, d.lose(lost))
			v = next(t, v, d)
			must(t, v.Unlock(t.Context()))
			wantSecret(t, v, "private-key", text, "secret")
			must(t, os.Rename(d.path(lost)+".lost", d.path(lost)))
		}
		change(t, v, Change{Current: []byte(masterOne), New: []byte(masterOne)})
	}
	d.set(func(d *double) { d.missing = nil })
	if missing, err := v.SettleWrapping(t.Context()); err != nil || missing != nil || v.Properties().Wraps != 1 {
		t.Errorf("settled: missing %q, %v, %d wraps", missing, err, v.Properties().Wraps)
	}
	keys := v.WrappingKeys()
	if len(keys) != 3 || keys[0].Ref != first || keys[0].Retired.IsZero() || keys[0].Wraps || keys[1].Wraps || keys[1].Retired.IsZero() ||
		keys[2].Ref != third || !keys[2].Wraps || !keys[2].Retired.IsZero() {
		t.Errorf("wrapping keys %+v", keys)
	}
	for _, ref := range []string{first, second, third} {
		if _, err := os.Stat(d.path(ref)); err != nil {
			t.Errorf("%s is not kept on the HSM: %v", ref, err)
		}
	}
	// Bounds: what is remembered, and what wraps at a time.
	for range maxWrappingKeys {
		_, err := v.RotateWrapping(t.Context())
		must(t, err)
	}
	if keys := v.WrappingKeys(); len(keys) != maxWrappingKeys || v.Properties().Wraps != 2 {
		t.Errorf("%d wrapping keys are remembered, %d wrap", len(keys), v.Properties().Wraps)
	}
	d.set(func(d *double) { d.missing = []string{"two"} })
	var many error
	for range maxWraps {
		if _, many = v.RotateWrapping(t.Context()); many != nil {
			break
		}
	}
	if many == nil || v.Properties().Wraps != maxWraps || !strings.Contains(many.Error(), "synchronize") {
		t.Errorf("rotations without end: %v, %d wraps", many, v.Properties().Wraps)
	}
	v = next(t, v, d)
	must(t, v.Unlock(t.Context()))
	wantSecret(t, v, "private-key", text, "secret")
}

// TestHSMFailsAtAnyCall: each call to the HSM fails in turn, and the vault is as
// it was, or as it was to be.
func TestHSMFailsAtAnyCall(t *testing.T) {
	t.Parallel()
	for what, do := range map[string]func(*Vault) error{
		"to the HSM":    func(v *Vault) error { return v.ChangeMaster(within(), Change{New: []byte(masterOne), OnHSM: onHSM}) },
		"rotation":      func(v *Vault) error { return failed(v.RotateWrapping(within())) },
		"a new key":     func(v *Vault) error { return v.ChangeMaster(within(), Change{New: []byte(masterOne)}) },
		"back":          func(v *Vault) error { return v.ChangeMaster(within(), Change{OnHSM: offHSM}) },
		"the first key": func(v *Vault) error { return failed(v.RotateWrapping(within())) },
	} {
		for nth := 1; ; nth++ {
			v, d := wrapped(t)
			text := sealed(t, v, "private-key", "secret")
			if what != "to the HSM" && what != "the first key" {
				change(t, v, Change{OnHSM: onHSM})
			}
			before := v.Properties()
			d.set(func(d *double) { d.failAt = nth })
			err := do(v)
			calls := d.calls
			d.set(func(d *double) { d.failAt = 0 })
			if err != nil && v.Properties() != before {
				t.Errorf("%s, call %d failed, and changed %+v into %+v", what, nth, before, v.Properties())
			}
			wantSecret(t, v, "private-key", text, "secret")
			v = next(t, v, d)
			must(t, v.Unlock(t.Context()))
			wantSecret(t, v, "private-key", text, "secret")
			must(t, v.Close())
			if calls < nth {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				break
			}
		}
	}
	v, d := wrapped(t)
	d.set(func(d *double) { d.wrong = true })
	if err := v.ChangeMaster(t.Context(), Change{OnHSM: onHSM}); err == nil || v.Properties().OnHSM {
		t.Errorf("an HSM that unwraps another key than it wrapped was trusted: %v", err)
	}
}

func TestExtendMaster(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	v, err := open(filepath.Join(t.TempDir(), "vault"), Options{Now: func() time.Time { return now }}, quickCosts)
	must(t, err)
	start := now
	change(t, v, Change{New: []byte(masterOne), Lifetime: 10 * time.Hour, Reminder: 2 * time.Hour, AutoRenew: 5 * time.Hour})
	if p := v.Properties(); !p.AutoRenew {
		t.Errorf("properties %+v", p)
	}
	for _, step := range []struct {
		after, until time.Duration
		done         bool
	}{{9 * time.Hour, 10 * time.Hour, false}, {10 * time.Hour, 15 * time.Hour, true}, {31 * time.Hour, 35 * time.Hour, true}} {
		now = start.Add(step.after)
		until, done, err := v.ExtendMaster()
		must(t, err)
		p := v.Properties()
		if done != step.done || !p.ExpireAt.Equal(start.Add(step.until)) || done && !until.Equal(p.ExpireAt) || p.ExpireAt.Sub(p.RemindAt) != 2*time.Hour {
			t.Errorf("after %v: %v %v, %+v", step.after, until, done, p)
		}
	}
	must(t, v.Close())
	v, err = open(v.Dir(), Options{Now: func() time.Time { return now }}, quickCosts)
	must(t, err)
	if p := v.Properties(); !p.AutoRenew || !p.ExpireAt.Equal(start.Add(35*time.Hour)) {
		t.Errorf("after a start: %+v", p)
	}
	must(t, v.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo), Lifetime: time.Hour}))
	if v.Properties().AutoRenew {
		t.Error("a change without a renewal left it")
	}
	must(t, v.Close())
}

func TestStrength(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"aaaaaaaaaaaaaaaa": "weak", "abcdefghijklmnop": "weak", "1234567890123456": "weak", "passwordpassword": "weak",
		"correct horse ba": "fair", "Tr0ub4dor&3-Tr0x": "fair", "q7#Lw0!zRp9@Vx2%": "strong", "correct-horse-battery-staple": "strong",
	} {
		if got := Strength([]byte(given)).String(); !strings.HasPrefix(got, want) {
			t.Errorf("%q is %s, want %s", given, got, want)
		}
	}
	if Strength(nil) != 0 {
		t.Error("nothing is hard to guess")
	}
}
