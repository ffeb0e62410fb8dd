package certstore

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"moongate/internal/gw/keys"
	"moongate/internal/gw/vault"
)

// lockable is a vault that is locked for a while.
type lockable struct {
	Vault
	locked atomic.Bool
}

func (l *lockable) Locked() error {
	if l.locked.Load() {
		return &vault.LockedError{Cause: errors.New("connection refused")}
	}
	return l.Vault.Locked()
}

func (l *lockable) Seal(kind string, plain []byte) (string, error) {
	if err := l.Locked(); err != nil {
		return "", err
	}
	return l.Vault.Seal(kind, plain)
}

func (l *lockable) Open(kind, sealed string) ([]byte, error) {
	if err := l.Locked(); err != nil {
		return nil, err
	}
	return l.Vault.Open(kind, sealed)
}

// TestLockedVault: a software key is away while the vault is locked, as one on an
// HSM is that is away, and works from when it opens; one that was used goes on.
func TestLockedVault(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(w.Editor.Generate(t.Context(), w.root, GenerateRequest{Name: "soft", Subject: Subject{CommonName: "soft"}, Algorithm: "ECDSA"}))
	v := &lockable{Vault: w.vault}
	v.locked.Store(true)
	s, err := New(w.compile().Certificates, NewKeys(w.hsm, v))
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Certificate("soft")
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Key": failed(e.Key(t.Context())), "Ready": e.Ready(), "CheckSoftware": s.CheckSoftware(t.Context())} {
		if !errors.Is(err, keys.ErrUnavailable) || errors.Is(err, errUnreadable) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%s while the vault is locked: %v", what, err)
		}
	}
	if state, err := s.State(t.Context(), "soft"); err != nil || state != Unavailable {
		t.Errorf("the key is %s, %v", state, err)
	}
	editor := NewEditor(v, w.hsm, nil)
	_, err = editor.Generate(t.Context(), w.root, GenerateRequest{Name: "x", Subject: Subject{CommonName: "x"}, Algorithm: "ECDSA"})
	if !errors.Is(err, keys.ErrUnavailable) || !errors.Is(err, vault.ErrLocked) {
		t.Errorf("sealing while the vault is locked: %v", err)
	}
	v.locked.Store(false)
	if err := errors.Join(e.Ready(), failed(e.Key(t.Context()))); err != nil {
		t.Errorf("once it is unlocked: %v", err)
	}
	v.locked.Store(true)
	if err := errors.Join(e.Ready(), failed(e.Key(t.Context()))); err != nil {
		t.Errorf("a key that was used: %v", err)
	}
}

func failed[T any](_ T, err error) error { return err }
