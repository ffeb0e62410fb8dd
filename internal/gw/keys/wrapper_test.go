package keys

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"moongate/client"
	"moongate/internal/gw/vault"
)

// TestWrapper wraps on a real HSM: the key never leaves it, and a Crypto User
// can unwrap.
func TestWrapper(t *testing.T) {
	t.Parallel()
	h := newHSM(t)
	officer := h.dial()
	s := NewSwitch()
	if _, err := s.NewKey(t.Context()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no HSM is configured") {
		t.Errorf("a wrapping key without an HSM: %v", err)
	}
	s.Set(Network(officer))
	ref, err := s.NewKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.NewKey(t.Context())
	if err != nil || second == ref {
		t.Fatalf("a second wrapping key: %s, %v", second, err)
	}
	plain := bytes.Repeat([]byte{7}, 64)
	wrapped, err := s.Wrap(t.Context(), ref, plain)
	if err != nil || len(wrapped) > vault.MaxWrapped || len(ref) > vault.MaxWrappingRef || bytes.Contains(wrapped, plain[:8]) {
		t.Fatalf("wrapping: %d bytes, %v", len(wrapped), err)
	}
	if again, err := s.Wrap(t.Context(), ref, plain); err != nil || bytes.Equal(again, wrapped) {
		t.Errorf("wrapping again gives the same: %v", err)
	}
	out, err := s.Unwrap(t.Context(), ref, wrapped)
	if err != nil || !bytes.Equal(out, plain) {
		t.Fatalf("unwrapping: %v", err)
	}
	for name, open := range map[string]func() ([]byte, error){
		"by another key": func() ([]byte, error) { return s.Unwrap(t.Context(), second, wrapped) },
		"changed": func() ([]byte, error) {
			changed := bytes.Clone(wrapped)
			changed[len(changed)-1] ^= 1
			return s.Unwrap(t.Context(), ref, changed)
		},
	} {
		if out, err := open(); err == nil || out != nil || errors.Is(err, vault.ErrNoWrappingKey) || errors.Is(err, ErrUnavailable) {
			t.Errorf("unwrapping %s: %v", name, err)
		}
	}
	for _, other := range []string{ref + "x", "another", WrappingPrefix + strings.Repeat("x", vault.MaxWrappingRef)} {
		if _, err := s.Unwrap(t.Context(), other, wrapped); !errors.Is(err, vault.ErrNoWrappingKey) {
			t.Errorf("unwrapping by %q: %v", other, err)
		}
	}

	list, err := s.Keys(t.Context())
	if err != nil || len(list) != 2 || list[0].Created.IsZero() {
		t.Fatalf("wrapping keys: %+v, %v", list, err)
	}
	found, err := officer.Find(t.Context(), client.NewTemplate(client.TextAttr(client.AttrLabel, ref)))
	if err != nil || len(found) != 1 {
		t.Fatalf("finding the wrapping key: %v, %v", found, err)
	}
	for attribute, want := range map[client.AttributeType]bool{
		client.AttrExtractable: false, client.AttrNeverExtractable: true, client.AttrSensitive: true, client.AttrAlwaysSensitive: true,
		client.AttrLocal: true, client.AttrWrap: false, client.AttrUnwrap: false,
	} {
		if found[0].Attributes.Bool(attribute) != want {
			t.Errorf("%v of the wrapping key is %t", attribute, !want)
		}
	}
	// A key that can leave the HSM is no wrapping key, whatever it is called.
	if _, err := officer.GenerateAES(t.Context(), 32, client.NewTemplate(client.TextAttr(client.AttrLabel, WrappingPrefix+"bait"),
		client.BoolAttr(client.AttrEncrypt, true), client.BoolAttr(client.AttrExtractable, true))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wrap(t.Context(), WrappingPrefix+"bait", plain); !errors.Is(err, vault.ErrNoWrappingKey) {
		t.Errorf("wrapping by a key that can leave: %v", err)
	}

	if err := officer.Destroy(t.Context(), found[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unwrap(t.Context(), ref, wrapped); !errors.Is(err, vault.ErrNoWrappingKey) {
		t.Errorf("unwrapping by a key that was destroyed: %v", err)
	}
}
