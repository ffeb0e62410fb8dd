package passphrase_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"moongate/internal/passphrase"
)

// TestDerive against argon2(1) of the reference implementation:
// printf 'a passphrase' | argon2 0123456789abcdef -id -t 1 -k 8192 -p 1 -l 32 -r
func TestDerive(t *testing.T) {
	t.Parallel()
	k, err := passphrase.Parse("$argon2id$v=19$m=8192,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg")
	if err != nil {
		t.Fatal(err)
	}
	got := k.Derive([]byte("a passphrase"))
	if want := "b4a2bf835573700f4f7ae227c03d0432c2cc89fbe8d176069479c7484e112caa"; hex.EncodeToString(got[:]) != want {
		t.Errorf("derived %x, want %s", got, want)
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	for _, c := range []passphrase.Cost{passphrase.Login, passphrase.File, passphrase.Least} {
		k := passphrase.New(c)
		again, err := passphrase.Parse(k.String())
		if err != nil || again != k {
			t.Errorf("%s: read as %+v, %v", k, again, err)
		}
	}
	if one, two := passphrase.New(passphrase.Login), passphrase.New(passphrase.Login); one == two {
		t.Error("two derivations have one salt")
	}
}

func TestTextsRefused(t *testing.T) {
	t.Parallel()
	const salt = "MDEyMzQ1Njc4OWFiY2RlZg"
	for _, text := range []string{
		"", "$", "$$$$", "secret",
		"$argon2i$v=19$m=8192,t=1,p=1$" + salt,
		"$argon2id$v=16$m=8192,t=1,p=1$" + salt,
		"$argon2id$v=19$m=8192,t=1,p=1$" + salt + "=",
		"$argon2id$v=19$m=8192,t=1,p=1$" + salt[:21] + "h", // a last character with bits that say nothing
		"$argon2id$v=19$m=8192,t=1,p=1$" + salt[:20],
		"$argon2id$v=19$m=8192,t=1,p=1$" + salt + "$",
		"$argon2id$v=19$m=08192,t=1,p=1$" + salt,
		"$argon2id$v=19$m=+8192,t=1,p=1$" + salt,
		"$argon2id$v=19$m=8192,t=1,p=1,x=1$" + salt,
		"$argon2id$v=19$m=8191,t=1,p=1$" + salt,
		"$argon2id$v=19$m=262145,t=1,p=1$" + salt,
		"$argon2id$v=19$m=4294967295,t=1,p=1$" + salt,
		"$argon2id$v=19$m=8192,t=0,p=1$" + salt,
		"$argon2id$v=19$m=8192,t=17,p=1$" + salt,
		"$argon2id$v=19$m=8192,t=1,p=0$" + salt,
		"$argon2id$v=19$m=8192,t=1,p=17$" + salt,
		"$argon2id$v=19$m=8192,t=1,p=257$" + salt,
		"x$argon2id$v=19$m=8192,t=1,p=1$" + salt,
		strings.Repeat("$", 1<<20),
	} {
		if k, err := passphrase.Parse(text); !errors.Is(err, passphrase.ErrText) {
			t.Errorf("%.60q: %+v, %v", text, k, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$argon2id$v=19$m=8192,t=1,p=1$")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := passphrase.Parse(text)
		if err == nil && k.String() != text {
			t.Errorf("%q is read, and written as %q", text, k)
		}
	})
}
