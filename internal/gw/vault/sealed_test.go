package vault

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	// The predicate that the configuration's schema has, which knows no vault.
	pattern := regexp.MustCompile(`^-AQ==[A-Za-z0-9_-]{112,}$`)
	for _, size := range []int{0, 1, 30, 31, 32, 33, 63, 64, 1700, MaxSecret} {
		for _, fill := range []byte{0, 0x80, 'x'} {
			secret := strings.Repeat(string(rune(fill)), size)[:size]
			text := sealed(t, v, "private-key", secret)
			wantSecret(t, v, "private-key", text, secret)
			if !IsSealed(text) || !pattern.MatchString(text) || len(text) > 90_000 {
				t.Errorf("%d bytes are sealed as %d bytes of text, %.30s", size, len(text), text)
			}
		}
	}
	if _, err := v.Seal("private-key", make([]byte, MaxSecret+1)); err == nil {
		t.Error("a secret that is too long was sealed")
	}
	for _, kind := range []string{"", strings.Repeat("k", maxKind+1)} {
		if _, err := v.Seal(kind, nil); err == nil {
			t.Errorf("a secret of kind %q was sealed", kind)
		}
	}
}

// TestSealedTextsSayNothing: of a secret, of another one, or of its length.
func TestSealedTextsSayNothing(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	one, two := sealed(t, v, "password", "a password"), sealed(t, v, "password", "a password")
	if one == two {
		t.Error("one secret is sealed as one text twice")
	}
	if len(one) != len(sealed(t, v, "password", "a")) || len(one) != len(sealed(t, v, "password", strings.Repeat("a", padding-1))) {
		t.Error("the text's length tells the length of a short secret")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	v, other := newVault(t), newVault(t)
	text := sealed(t, v, "private-key", "secret")
	for what, test := range map[string]struct {
		kind, text string
		want       error
	}{
		"another kind":       {"password", text, ErrChanged},
		"another gateway's":  {"private-key", sealed(t, other, "private-key", "secret"), ErrUnknownKey},
		"nothing":            {"private-key", "", ErrNotSealed},
		"the clear":          {"private-key", "secret", ErrNotSealed},
		"the prefix":         {"private-key", Prefix, ErrNotSealed},
		"cut short":          {"private-key", text[:len(text)-1], ErrNotSealed},
		"longer":             {"private-key", text + "A", ErrNotSealed},
		"a line end":         {"private-key", text + "\n", ErrNotSealed},
		"a line end within":  {"private-key", text[:20] + "\n" + text[20:], ErrNotSealed},
		"another device's":   {"private-key", "-AQ==9dvhfW9VbW7qcSVSLZAwJhc4Fsk=lXyvO3cTtkMvOgN2aFhgZw==", ErrNotSealed},
		"without the prefix": {"private-key", strings.TrimPrefix(text, Prefix), ErrNotSealed},
	} {
		if plain, err := v.Open(test.kind, test.text); !errors.Is(err, test.want) || plain != nil {
			t.Errorf("%s: %q, %v; want %v", what, plain, err, test.want)
		}
	}
}

// TestEveryByteCounts: no byte of a sealed text can be changed.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	raw, err := encoding.DecodeString(strings.TrimPrefix(text, Prefix))
	must(t, err)
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(raw)
			changed[i] ^= bit
			_, err := v.Open("private-key", Prefix+encoding.EncodeToString(changed))
			if !errors.Is(err, ErrChanged) && !(i < keyIDSize && errors.Is(err, ErrUnknownKey)) {
				t.Errorf("with byte %d changed: %v", i, err)
			}
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	text := sealed(t, v, "private-key", "secret")
	device := v.Device()
	file, err := device.Seal(WebKey, []byte("web key"))
	must(t, err)
	must(t, v.Close())
	if _, err := device.Seal(WebKey, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed device seals: %v", err)
	}
	if _, err := device.Open(WebKey, file); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed device opens: %v", err)
	}
	_, sealErr := v.Seal("private-key", nil)
	_, openErr := v.Open("private-key", text)
	_, renewErr := v.RenewDataKeys()
	_, exportErr := v.Export([]byte("a long passphrase"))
	for i, err := range []error{sealErr, openErr, renewErr, exportErr, v.ChangeMaster(t.Context(), Change{New: []byte(masterOne)})} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d on a closed vault: %v", i, err)
		}
	}
	if p := v.Properties(); p != (Properties{}) || v.DataKeys() != nil {
		t.Errorf("a closed vault has the properties %+v", p)
	}
}

// TestSealingWhileKeysChange: nobody notices a change of keys.
func TestSealingWhileKeysChange(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				text, err := v.Seal("private-key", []byte("secret"))
				if err != nil {
					t.Error(err)
					return
				}
				if plain, err := v.Open("private-key", text); err != nil || string(plain) != "secret" {
					t.Errorf("opened as %q, %v", plain, err)
					return
				}
			}
		})
	}
	current := ""
	for i := range 5 {
		next := []string{masterOne, masterTwo}[i%2]
		must(t, v.ChangeMaster(t.Context(), Change{Current: []byte(current), New: []byte(next)}))
		current = next
		_, err := v.RenewDataKeys()
		must(t, err)
	}
	close(stop)
	wg.Wait()
}

func FuzzParseSealed(f *testing.F) {
	v := newVault(f)
	f.Add(sealed(f, v, "private-key", "secret"))
	f.Add(Prefix)
	f.Add("-AQ==9dvhfW9VbW7qcSVSLZAwJhc4Fsk=lXyvO3cTtkMvOgN2aFhgZw==")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSealed(text)
		if err == nil && s.text() != text {
			t.Errorf("%q is read, and written as %q", text, s.text())
		}
		if _, err := v.Open("another kind", text); err == nil {
			t.Errorf("%q opens", text)
		}
	})
}
