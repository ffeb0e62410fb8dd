package users

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"moongate/internal/hsm/object"
	"moongate/internal/login"
)

// Key is a public key that opens an account.
type Key = login.Key

// ParseKey reads one line as ssh-keygen writes it to a .pub file, as
// login.ParseKey does; its errors have a code.
func ParseKey(line string) (Key, error) {
	k, err := login.ParseKey(line)
	if errors.Is(err, login.ErrKeySize) {
		return Key{}, object.Errorf(object.ErrKeySize, "%v", err)
	}
	if err != nil {
		return Key{}, object.Errorf(object.ErrArgumentsBad, "%v", err)
	}
	return k, nil
}

// sameKey compares two canonical lines without their comments.
func sameKey(a, b string) bool { return withoutComment(a) == withoutComment(b) }

func withoutComment(line string) string {
	kind, rest, _ := strings.Cut(line, " ")
	blob, _, _ := strings.Cut(rest, " ")
	return kind + " " + blob
}

// holds reports whether a key opens the account.
func (a *account) holds(key ssh.PublicKey) bool {
	return slices.ContainsFunc(a.Keys, func(line string) bool {
		k, err := ParseKey(line)
		return err == nil && k.Is(key)
	})
}
