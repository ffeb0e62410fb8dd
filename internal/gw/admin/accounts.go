package admin

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"moongate/internal/login"
)

// Account is an administrator as the running configuration has it.
type Account struct {
	Name string
	Role Role
	// PasswordHash is what Hash made; "" for none: only keys open the account.
	PasswordHash string
	// PublicKeys are lines of authorized_keys, as they are or in base64.
	PublicKeys []string
}

// account is an Account, read.
type account struct {
	Account
	hash *hash // nil for none
	keys []login.Key
}

// ParsePublicKey reads the public key of an administrator: a line of a .pub
// file of ssh-keygen, as it is or in base64, as the configuration's clients
// send it.
func ParsePublicKey(text string) (login.Key, error) {
	text = strings.TrimSpace(text)
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
		text = string(raw)
	}
	return login.ParseKey(text)
}

// read makes an account fit for use. What cannot be read opens nothing, and is
// in the error; the rest of the account is used.
func read(a Account) (*account, error) {
	made := &account{Account: a}
	var problems []error
	if a.Role.rank() < 0 {
		problems = append(problems, fmt.Errorf("administrator %s: %.40q is no role; it may do nothing", a.Name, string(a.Role)))
	}
	if a.PasswordHash != "" {
		h, err := parseHash(a.PasswordHash)
		if err != nil {
			problems = append(problems, fmt.Errorf("administrator %s: %w", a.Name, err))
		} else {
			made.hash = &h
		}
	}
	for i, text := range a.PublicKeys {
		k, err := ParsePublicKey(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("administrator %s, public key %d: %w", a.Name, i+1, err))
			continue
		}
		made.keys = append(made.keys, k)
	}
	return made, errors.Join(problems...)
}

func (a *account) holds(key ssh.PublicKey) bool {
	return slices.ContainsFunc(a.keys, func(k login.Key) bool { return k.Is(key) })
}

func (a *account) identity() Identity { return Identity{a.Name, a.Role} }
