package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChangeMaster(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	old, err := readKeyFile(v.MasterKeyFile(), masterKind)
	must(t, err)
	oldRing := read(t, filepath.Join(v.Dir(), keyringFile))

	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne), Lifetime: 48 * time.Hour, Reminder: 24 * time.Hour}))
	p := v.Properties()
	if p.Generated || p.ID == old[0].id || p.ExpireAt.Sub(p.Created) != 48*time.Hour || p.ExpireAt.Sub(p.RemindAt) != 24*time.Hour {
		t.Errorf("properties %+v", p)
	}
	wantSecret(t, v, "private-key", text, "secret")
	now, err := readKeyFile(v.MasterKeyFile(), masterKind)
	must(t, err)
	if len(now) != 1 || now[0].id != p.ID {
		t.Errorf("the file holds %d keys, want the new one alone", len(now))
	}
	if r, err := openRing(read(t, filepath.Join(v.Dir(), keyringFile)), old); err == nil {
		t.Errorf("the old master key opens the keyring: %v", r.header)
	}
	if _, err := openRing(oldRing, now); err == nil {
		t.Error("the new master key opens the old keyring")
	}
	if text := read(t, v.MasterKeyFile()); bytes.Contains(text, []byte(masterOne)) || bytes.Contains(text, []byte(hex.EncodeToString([]byte(masterOne)))) {
		t.Error("the file holds the master key as it was given")
	}

	v = reopen(t, v)
	if v.Properties() != p {
		t.Errorf("properties became %+v", v.Properties())
	}
	wantSecret(t, v, "private-key", text, "secret")
	for _, current := range []string{"", masterTwo, masterOne + " ", hex.EncodeToString(now[0].key[:])} {
		if err := v.ChangeMaster(t.Context(), Change{Current: []byte(current), New: []byte(masterTwo)}); !errors.Is(err, ErrCurrentKey) {
			t.Errorf("with the current key %q: %v", current, err)
		}
	}
	if v.Properties() != p {
		t.Error("a change that was refused changed something")
	}
	must(t, v.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo)}))
	if p := v.Properties(); !p.ExpireAt.IsZero() || !p.RemindAt.IsZero() {
		t.Errorf("without a lifetime: %+v", p)
	}
	wantSecret(t, reopen(t, v), "private-key", text, "secret")
}

// TestCurrentOfAGeneratedKey may be left out, or be what is in its file.
func TestCurrentOfAGeneratedKey(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for _, wrong := range []string{masterOne, strings.Repeat("0", 64), strings.Repeat("x", 64)} {
		if err := v.ChangeMaster(t.Context(), Change{Current: []byte(wrong), New: []byte(masterTwo)}); !errors.Is(err, ErrCurrentKey) {
			t.Errorf("with the current key %q: %v", wrong, err)
		}
	}
	line := read(t, v.MasterKeyFile())
	must(t, v.ChangeMaster(t.Context(), Change{Current: line[len(line)-65 : len(line)-1], New: []byte(masterTwo)}))
}

func TestChangesRefused(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	before := v.Properties()
	good := []byte(masterOne)
	for what, c := range map[string]Change{
		"none":                    {},
		"short":                   {New: []byte("fifteen bytes..")},
		"long":                    {New: bytes.Repeat([]byte("x"), MaxMasterKey+1)},
		"a lifetime too short":    {New: good, Lifetime: time.Hour - 1},
		"a lifetime too long":     {New: good, Lifetime: MaxLifetime + 1},
		"a negative lifetime":     {New: good, Lifetime: -time.Hour},
		"a reminder alone":        {New: good, Reminder: time.Hour},
		"a reminder longer":       {New: good, Lifetime: 2 * time.Hour, Reminder: 2*time.Hour + time.Second},
		"a renewal alone":         {New: good, AutoRenew: time.Hour},
		"a renewal too long":      {New: good, Lifetime: time.Hour, AutoRenew: MaxLifetime + time.Hour},
		"a renewal of minutes":    {New: good, Lifetime: time.Hour, AutoRenew: 90 * time.Minute},
		"a reminder too long":     {New: good, Lifetime: MaxLifetime, Reminder: MaxReminder + 1},
		"a reminder in the past":  {New: good, Lifetime: 2 * time.Hour, Reminder: -time.Hour},
		"a lifetime without time": {New: good, Lifetime: time.Nanosecond},
	} {
		if err := v.ChangeMaster(t.Context(), c); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if v.Properties() != before {
		t.Error("a change that was refused changed something")
	}
}

// TestExpiryLocksNobodyOut: it is told, and everything opens.
func TestExpiryLocksNobodyOut(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC)
	v, err := open(filepath.Join(t.TempDir(), "vault"), Options{Now: at(start)}, quickCosts)
	must(t, err)
	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne), Lifetime: 10 * time.Hour, Reminder: 2 * time.Hour}))
	text := sealed(t, v, "private-key", "secret")
	p := v.Properties()
	for after, want := range map[time.Duration]State{
		0: Valid, 8*time.Hour - time.Second: Valid, 8 * time.Hour: Reminded, 10*time.Hour - time.Second: Reminded, 10 * time.Hour: Expired, 1000 * time.Hour: Expired,
	} {
		if got := p.State(start.Truncate(time.Second).Add(after)); got != want {
			t.Errorf("after %v: %s, want %s", after, got, want)
		}
	}
	must(t, v.Close())
	late, err := open(v.Dir(), Options{Now: at(start.Add(10_000 * time.Hour))}, quickCosts)
	must(t, err)
	wantSecret(t, late, "private-key", text, "secret")
	wantSecret(t, late, "private-key", sealed(t, late, "private-key", "new"), "new")
	must(t, late.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo)}))
	must(t, late.Close())
}

// TestTheOldKeyIsOverwritten on what it was written on, unless somebody gave
// that another name.
func TestTheOldKeyIsOverwritten(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	held, err := os.Open(v.MasterKeyFile())
	must(t, err)
	defer held.Close()
	before := read(t, v.MasterKeyFile())
	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)}))
	after := make([]byte, len(before))
	_, err = held.ReadAt(after, 0)
	must(t, err)
	if len(bytes.Trim(after, "\x00")) > 0 {
		t.Errorf("where the old master key was is still %q...", after[:20])
	}

	linked := filepath.Join(filepath.Dir(v.Dir()), "a copy")
	must(t, os.Link(v.MasterKeyFile(), linked))
	before = read(t, linked)
	must(t, v.ChangeMaster(t.Context(), Change{Current: []byte(masterOne), New: []byte(masterTwo)}))
	if !bytes.Equal(read(t, linked), before) {
		t.Error("a copy that somebody made was overwritten")
	}
}

// TestCutOffChanges: the files as a crash leaves them on both sides of the
// moment at which the master key changes.
func TestCutOffChanges(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	ringPath := filepath.Join(v.Dir(), keyringFile)
	oldRing := read(t, ringPath)
	old, err := readKeyFile(v.MasterKeyFile(), masterKind)
	must(t, err)
	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)}))
	fresh, err := readKeyFile(v.MasterKeyFile(), masterKind)
	must(t, err)
	newRing := read(t, ringPath)
	for what, c := range map[string]struct {
		ring []byte
		want namedKey
	}{"before": {oldRing, old[0]}, "behind": {newRing, fresh[0]}} {
		must(t, v.Close())
		write(t, v.MasterKeyFile(), encodeKeyFile(masterKind, []namedKey{old[0], fresh[0]}))
		write(t, ringPath, c.ring)
		reader, err := Open(v.Dir(), Options{ReadOnly: true})
		must(t, err)
		wantSecret(t, reader, "private-key", text, "secret")
		must(t, reader.Close())
		if keys, err := readKeyFile(v.MasterKeyFile(), masterKind); err != nil || len(keys) != 2 {
			t.Errorf("%s: a reader changed the master key's file: %v", what, err)
		}
		v = openIn(t, filepath.Dir(v.Dir()))
		wantSecret(t, v, "private-key", text, "secret")
		if keys, err := readKeyFile(v.MasterKeyFile(), masterKind); err != nil || !slices.Equal(keys, []namedKey{c.want}) {
			t.Errorf("%s: the next start left %d keys, %v", what, len(keys), err)
		}
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	generated := read(t, v.MasterKeyFile())
	digits := generated[len(generated)-65 : len(generated)-1]
	for _, given := range []string{string(digits), masterOne} {
		if given == masterOne {
			must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)}))
		}
		if err := Recover(v.Dir(), []byte(given)); err == nil {
			t.Error("a vault in use was recovered")
		}
		must(t, v.Close())
		if err := Recover(v.Dir(), []byte(given)); err == nil || !strings.Contains(err.Error(), "nothing is to be recovered") {
			t.Errorf("of a vault that has its key: %v", err)
		}
		want := read(t, v.MasterKeyFile())
		must(t, os.Remove(v.MasterKeyFile()))
		for _, wrong := range []string{"", masterTwo, strings.Repeat("0", 64)} {
			if err := Recover(v.Dir(), []byte(wrong)); !errors.Is(err, ErrCurrentKey) {
				t.Errorf("from %q: %v", wrong, err)
			}
		}
		must(t, Recover(v.Dir(), []byte(given)))
		if !bytes.Equal(read(t, v.MasterKeyFile()), want) {
			t.Error("the file is another one than before")
		}
		v = openIn(t, filepath.Dir(v.Dir()))
		wantSecret(t, v, "private-key", text, "secret")
	}
}

func FuzzOpenRing(f *testing.F) {
	m := newNamedKey()
	r := &ring{header: header{Master: master{ID: m.id}, Keys: []dataKey{{ID: newID()}}}, keys: []key{newKey()}}
	text, err := r.encode(&m.key)
	must(f, err)
	f.Add(text)
	on := &ring{header: r.header, keys: r.keys}
	on.header.Master.AutoRenew = 24
	on.header.Wrapping = []wrappingKey{{Ref: "a", Made: time.Unix(1, 0).UTC(), Wrapped: []byte("wrapped")}}
	onText, err := on.encode(&m.key)
	must(f, err)
	f.Add(onText)
	f.Add([]byte(ringVersion2 + headerField + "{}\n" + keysField + "\n"))
	f.Add([]byte(ringVersion1 + headerField + "{}\n" + keysField + "\n"))
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		if r, err := openRing(fuzzed, []namedKey{m}); err == nil && !bytes.Equal(fuzzed, text) && !bytes.Equal(fuzzed, onText) {
			t.Errorf("a keyring that was not written opens: %+v", r.header)
		}
		h, head, _, err := parseRing(fuzzed)
		if err != nil {
			return
		}
		if again, err := h.encode(); err != nil || !bytes.Equal(again, head) {
			t.Errorf("a header is read, and written as %q, %v", again, err)
		}
	})
}

func FuzzDecodeKeyFile(f *testing.F) {
	f.Add(encodeKeyFile(masterKind, []namedKey{newNamedKey(), newNamedKey()}))
	f.Add([]byte(firstLine(masterKind)))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := decodeKeyFile(masterKind, text)
		if err == nil && !bytes.Equal(encodeKeyFile(masterKind, keys), text) {
			t.Errorf("%q is read, and written as another text", text)
		}
	})
}
