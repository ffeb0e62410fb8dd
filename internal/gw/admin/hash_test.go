package admin

import (
	"errors"
	"strings"
	"testing"

	"moongate/internal/passphrase"
)

func TestHash(t *testing.T) {
	t.Parallel()
	text, err := Hash([]byte(password))
	must(t, err)
	if !strings.HasPrefix(text, "$argon2id$v=19$m=65536,t=2,p=2$") {
		t.Errorf("hash %s", text)
	}
	must(t, CheckHash(text))
	h, err := parseHash(text)
	must(t, err)
	if !h.fits([]byte(password)) || h.fits([]byte("another one")) || h.fits(nil) {
		t.Error("the hash does not tell its password from another one")
	}
	if again, err := Hash([]byte(password)); err != nil || again == text {
		t.Errorf("a second hash: %v", err)
	}
	for _, size := range []int{0, MinPassword - 1, MaxPassword + 1} {
		if _, err := Hash(make([]byte, size)); err == nil {
			t.Errorf("a password of %d bytes was taken", size)
		}
	}
}

// TestHashOfTheReference is what argon2(1) prints for
// printf 'a passphrase' | argon2 0123456789abcdef -id -t 1 -k 8192 -p 1 -l 32
func TestHashOfTheReference(t *testing.T) {
	t.Parallel()
	h, err := parseHash("$argon2id$v=19$m=8192,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$tKK/g1VzcA9PeuInwD0EMsLMifvo0XYGlHnHSE4RLKo")
	if err != nil || !h.fits([]byte("a passphrase")) {
		t.Errorf("the reference's hash does not fit: %v", err)
	}
}

func TestHashesRefused(t *testing.T) {
	t.Parallel()
	good := hashOf(t, password)
	for _, text := range []string{
		"", "$", password, "$5$salt$hash", "$1$salt$hash", "*", good + "$", good + "A", good[:len(good)-1], " " + good,
		strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "m=8192", "m=4194304", 1), strings.Repeat("$", 1<<16),
	} {
		if err := CheckHash(text); !errors.Is(err, ErrHash) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(hash{kdf: passphrase.New(passphrase.Login)}.String())
	f.Add("$5$salt$hash")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHash(text)
		if err == nil && h.String() != text {
			t.Errorf("%q is read, and written as %q", text, h)
		}
	})
}
