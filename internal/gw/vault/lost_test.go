package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLostWrappingKey: the administrator enters the master key again.
func TestLostWrappingKey(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	if _, err := v.Recover(t.Context(), []byte(masterOne)); err == nil || !strings.Contains(err.Error(), "nothing is to be recovered") {
		t.Errorf("a master key in its file was recovered: %v", err)
	}
	change(t, v, Change{New: []byte(masterOne), OnHSM: onHSM})
	lost := v.Properties().WrappingKey
	must(t, d.lose(lost))

	// Of a vault that is open: nothing was noticed until now.
	if _, err := v.Recover(t.Context(), []byte(masterTwo)); !errors.Is(err, ErrCurrentKey) {
		t.Errorf("another master key: %v", err)
	}
	done, err := v.Recover(t.Context(), []byte(masterOne))
	must(t, err)
	if done.Unlocked || done.WrappingKey == "" || done.WrappingKey == lost || v.Properties().WrappingKey != done.WrappingKey {
		t.Errorf("recovered: %+v", done)
	}
	if again, err := v.Recover(t.Context(), []byte(masterOne)); err != nil || again.WrappingKey != "" {
		t.Errorf("recovered where nothing is lost: %+v, %v", again, err)
	}

	// Of one that is locked.
	must(t, d.lose(done.WrappingKey))
	v = next(t, v, d)
	if err := v.Unlock(t.Context()); !errors.Is(err, ErrNoWrappingKey) {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", masterTwo, strings.Repeat("0", 64)} {
		if _, err := v.Recover(t.Context(), []byte(wrong)); !errors.Is(err, ErrCurrentKey) || v.Locked() == nil {
			t.Errorf("%q: %v, locked by %v", wrong, err, v.Locked())
		}
	}
	done, err = v.Recover(t.Context(), []byte(masterOne))
	must(t, err)
	if !done.Unlocked || done.WrappingKey == "" || done.Cause != nil {
		t.Errorf("recovered: %+v", done)
	}
	wantSecret(t, v, "private-key", text, "secret")
	v = next(t, v, d)
	must(t, v.Unlock(t.Context()))
	wantSecret(t, v, "private-key", text, "secret")

	// With the HSM away it is open until it is closed.
	v = next(t, v, d)
	d.set(func(d *double) { d.away = errAway })
	done, err = v.Recover(t.Context(), []byte(masterOne))
	must(t, err)
	if !done.Unlocked || done.WrappingKey != "" || !errors.Is(done.Cause, errAway) {
		t.Errorf("recovered with the HSM away: %+v", done)
	}
	wantSecret(t, v, "private-key", text, "secret")
	must(t, v.Unlock(t.Context()))

	// And without any HSM, of a gateway that does not run.
	must(t, v.Close())
	if err := Recover(v.Dir(), []byte(masterTwo)); !errors.Is(err, ErrCurrentKey) {
		t.Errorf("another master key: %v", err)
	}
	must(t, Recover(v.Dir(), []byte(masterOne)))
	v = openIn(t, filepath.Dir(v.Dir()))
	wantSecret(t, v, "private-key", text, "secret")
	if p := v.Properties(); p.OnHSM || len(v.WrappingKeys()) == 0 {
		t.Errorf("recovered without the HSM: %+v", p)
	}
}

// TestGoneWrappingKeyIsReplaced by a change of the master key, too.
func TestGoneWrappingKeyIsReplaced(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	change(t, v, Change{OnHSM: onHSM})
	lost := v.Properties().WrappingKey
	must(t, d.lose(lost))
	change(t, v, Change{New: []byte(masterOne)})
	again := v.Properties()
	if again.WrappingKey == lost || again.Wraps != 1 {
		t.Errorf("properties %+v", again)
	}
	must(t, d.lose(again.WrappingKey))
	change(t, v, Change{Current: []byte(masterOne), OnHSM: onHSM})
	if p := v.Properties(); p.WrappingKey == again.WrappingKey || p.ID != again.ID || p.Wraps != 1 {
		t.Errorf("properties %+v", p)
	}
	v = next(t, v, d)
	must(t, v.Unlock(t.Context()))
	wantSecret(t, v, "private-key", text, "secret")
}

// TestCutOffMoves: the file that a crash leaves beside a keyring with wraps goes
// with the next start, whichever way the key went.
func TestCutOffMoves(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	left := read(t, v.MasterKeyFile())
	plain := read(t, filepath.Join(v.Dir(), keyringFile))
	change(t, v, Change{OnHSM: onHSM})
	must(t, v.Close())
	write(t, v.MasterKeyFile(), left)
	reader, err := Open(v.Dir(), Options{ReadOnly: true, Wrapper: d})
	must(t, err)
	if _, err := os.Stat(v.MasterKeyFile()); err != nil || reader.Locked() == nil {
		t.Errorf("a reader changed the master key's file, or used it: %v", err)
	}
	must(t, reader.Close())
	v = openWith(t, filepath.Dir(v.Dir()), d)
	must(t, v.Unlock(t.Context()))
	wantNoFile(t, v)
	wantSecret(t, v, "private-key", text, "secret")
	// Before the keyring was replaced it is as if nothing had been.
	must(t, v.Close())
	write(t, v.MasterKeyFile(), left)
	write(t, filepath.Join(v.Dir(), keyringFile), plain)
	v = openWith(t, filepath.Dir(v.Dir()), d)
	wantSecret(t, v, "private-key", text, "secret")
}

// TestExportOnHSM: a backup of a vault whose master key is on the HSM needs the
// HSM, or the master key.
func TestExportOnHSM(t *testing.T) {
	t.Parallel()
	v, d := wrapped(t)
	text := sealed(t, v, "private-key", "secret")
	change(t, v, Change{New: []byte(masterOne), OnHSM: onHSM})
	m := *v.ring.master
	export, err := v.Export(phrase)
	must(t, err)
	e, err := openExport(export, phrase)
	must(t, err)
	if e.Master != nil || bytes.Contains(e.Keyring, m[:]) {
		t.Error("the export holds the master key")
	}
	restored := func() *Vault {
		t.Helper()
		dir := t.TempDir()
		must(t, Import(filepath.Join(dir, "vault"), export, phrase))
		p, err := PropertiesIn(filepath.Join(dir, "vault"))
		if err != nil || p != v.Properties() {
			t.Errorf("properties of what was restored: %+v, %v", p, err)
		}
		return openWith(t, dir, d)
	}
	byHSM := restored()
	wantLocked(t, byHSM, text)
	must(t, byHSM.Unlock(t.Context()))
	wantSecret(t, byHSM, "private-key", text, "secret")

	must(t, d.lose(v.Properties().WrappingKey))
	byHand := restored()
	if err := byHand.Unlock(t.Context()); !errors.Is(err, ErrNoWrappingKey) {
		t.Errorf("without the wrapping key: %v", err)
	}
	_, err = byHand.Recover(t.Context(), []byte(masterOne))
	must(t, err)
	wantSecret(t, byHand, "private-key", text, "secret")

	e.Master = encodeKeyFile(masterKind, []namedKey{{v.Properties().ID, m}})
	if err := e.check(); err == nil {
		t.Error("an export with a master key on the HSM and in a file was taken")
	}
}
