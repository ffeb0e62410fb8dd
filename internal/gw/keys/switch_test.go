package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

// TestSwitch: keys come from the link of the moment, and a link can be reset
// under those who use it.
func TestSwitch(t *testing.T) {
	t.Parallel()
	s := NewSwitch()
	if _, err := s.Key(t.Context(), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without a link: %v", err)
	}
	if err := s.Ready(t.Context()); !errors.Is(err, ErrUnavailable) || s.Status().Ready || !strings.Contains(s.Status().Cause, "no HSM is configured") {
		t.Errorf("without a link: %v, %+v", err, s.Status())
	}
	if err := errors.Join(s.Reset(t.Context()), s.Set(nil).Close()); err != nil {
		t.Error(err)
	}

	h := newHSM(t)
	c := h.dial()
	_, public := newKey(t, c, false)
	if before := s.Set(Network(c)); before != (None{}) {
		t.Errorf("the link before the first is %T", before)
	}
	if err := s.Ready(t.Context()); err != nil || !s.Status().Ready {
		t.Errorf("with a link: %v, %+v", err, s.Status())
	}
	key, err := s.Key(t.Context(), public)
	if err != nil {
		t.Fatal(err)
	}
	since := s.Status().Since
	digest := sha256.Sum256([]byte("message"))
	for range 2 {
		sig, err := key.Bind(t.Context()).Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], sig) {
			t.Errorf("signing: %v", err)
		}
		if err := s.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Status().Ready || !s.Status().Since.After(since) {
		t.Errorf("after a reset: %+v", s.Status())
	}
	h.stop()
	if err := s.Reset(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a reset without the HSM: %v", err)
	}
	if err := s.Set(nil).Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Key(t.Context(), public); !errors.Is(err, ErrUnavailable) {
		t.Errorf("after the link was taken away: %v", err)
	}
}
