package vault

import (
	"errors"
	"testing"
)

func TestRenewDataKeys(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	first := v.DataKeys()
	if same, changed, err := v.Reseal("private-key", text); err != nil || changed || same != text {
		t.Errorf("sealed anew under its own key: %v, %v", changed, err)
	}
	renewed, err := v.RenewDataKeys()
	must(t, err)
	if keys := v.DataKeys(); len(keys) != 2 || keys[0].ID != first[0].ID || keys[0].Active || keys[1] != renewed || !renewed.Active {
		t.Errorf("data keys %+v", keys)
	}
	v = reopen(t, v)
	wantSecret(t, v, "private-key", text, "secret")
	fresh, changed, err := v.Reseal("private-key", text)
	must(t, err)
	id, err := KeyOf(fresh)
	if !changed || err != nil || id != renewed.ID {
		t.Errorf("sealed anew under %s, %v; want %s", id, err, renewed.ID)
	}
	before, _ := parseSealed(text)
	after, _ := parseSealed(fresh)
	if string(before.id()) != string(after.id()) {
		t.Error("the secret has another id")
	}
	wantSecret(t, v, "private-key", fresh, "secret")
	if _, _, err := v.Reseal("password", text); !errors.Is(err, ErrChanged) {
		t.Errorf("sealed anew as another kind: %v", err)
	}
	if _, _, err := v.Reseal("password", "clear"); !errors.Is(err, ErrNotSealed) {
		t.Errorf("sealed anew from the clear: %v", err)
	}
	if _, err := KeyOf("clear"); !errors.Is(err, ErrNotSealed) {
		t.Errorf("the key of the clear: %v", err)
	}
}

func TestPruneDataKeys(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	var texts, ids []string
	for range 4 {
		text := sealed(t, v, "private-key", "secret")
		id, err := KeyOf(text)
		must(t, err)
		texts, ids = append(texts, text), append(ids, id)
		_, err = v.RenewDataKeys()
		must(t, err)
	}
	n, err := v.PruneDataKeys(map[string]bool{ids[1]: true, ids[3]: true, "another": true})
	if err != nil || n != 2 {
		t.Errorf("%d keys are pruned, %v; want 2", n, err)
	}
	v = reopen(t, v)
	for i, text := range texts {
		_, err := v.Open("private-key", text)
		if kept := i == 1 || i == 3; kept != (err == nil) || !kept && !errors.Is(err, ErrUnknownKey) {
			t.Errorf("secret %d: %v", i, err)
		}
	}
	// The active key stays though nothing uses it.
	if n, err := v.PruneDataKeys(nil); err != nil || n != 2 || len(v.DataKeys()) != 1 || !v.DataKeys()[0].Active {
		t.Errorf("%d keys are pruned, %v, %+v are left", n, err, v.DataKeys())
	}
	wantSecret(t, v, "private-key", sealed(t, v, "private-key", "new"), "new")
}

func TestDataKeysAreBounded(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	for range maxDataKeys - 1 {
		_, err := v.RenewDataKeys()
		must(t, err)
	}
	if _, err := v.RenewDataKeys(); err == nil {
		t.Error("a keyring holds more than it may")
	}
	must(t, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)}))
	_, err := v.Export([]byte("a long passphrase"))
	must(t, err)
	v = reopen(t, v)
	if n, err := v.PruneDataKeys(nil); err != nil || n != maxDataKeys-1 {
		t.Errorf("%d keys are pruned, %v", n, err)
	}
	_, err = v.RenewDataKeys()
	must(t, err)
}
