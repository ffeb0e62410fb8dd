package users

import (
	"cmp"
	"slices"
	"time"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// Bounds of what the accounts file holds.
const (
	maxAccounts          = 100
	maxKeysOfAccount     = 32
	maxName              = 32
	minPassword          = 8 // bytes
	maxPassword          = 256
	maxVerifier          = 32
	maxAddress           = 64
	maxFileSize          = 2 << 20
	formatVersion    int = 1
)

// Account is what may be shown of an account.
type Account struct {
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Enabled bool   `json:"enabled"`
	// Password says whether there is one; without, only keys open the account.
	Password bool `json:"password"`
	Keys     int  `json:"keys"`
	// Failures are the wrong passwords since the last login, from anywhere.
	Failures      int       `json:"failures"`
	LastFailure   time.Time `json:"last_failure,omitzero"`
	Created       time.Time `json:"created"`
	LastLogin     time.Time `json:"last_login,omitzero"`
	LastLoginFrom string    `json:"last_login_from,omitempty"`
}

// account is an account as the file holds it.
type account struct {
	Name          string    `json:"name"`
	Role          Role      `json:"role"`
	Enabled       bool      `json:"enabled"`
	Password      *verifier `json:"password,omitempty"`
	Failures      int       `json:"failures"`
	LastFailure   time.Time `json:"last_failure,omitzero"`
	Keys          []string  `json:"keys"` // lines of authorized_keys, canonical
	Created       time.Time `json:"created"`
	LastLogin     time.Time `json:"last_login,omitzero"`
	LastLoginFrom string    `json:"last_login_from,omitempty"`
}

// verifier recognises a password: Derived is what KDF makes of it.
type verifier struct {
	KDF     mech.KDF `json:"kdf"`
	Derived []byte   `json:"derived"`
}

func (a *account) show() Account {
	return Account{
		Name: a.Name, Role: a.Role, Enabled: a.Enabled, Password: a.Password != nil, Keys: len(a.Keys),
		Failures: a.Failures, LastFailure: a.LastFailure, Created: a.Created,
		LastLogin: a.LastLogin, LastLoginFrom: a.LastLoginFrom,
	}
}

// clone copies what a change may alter. A verifier is replaced, never altered.
func (a *account) clone() *account {
	c := *a
	c.Keys = slices.Clone(a.Keys)
	return &c
}

// CheckName refuses what cannot name an account: a small letter, then up to 31
// small letters, digits, dots, dashes and underlines.
func CheckName(name string) error {
	valid := len(name) > 0 && len(name) <= maxName && name[0] >= 'a' && name[0] <= 'z'
	for i := 0; valid && i < len(name); i++ {
		c := name[i]
		valid = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
	}
	if !valid {
		return object.Errorf(object.ErrArgumentsBad, "account name %.40q: expected a small letter, then up to %d small letters, digits, dots, dashes and underlines", name, maxName-1)
	}
	return nil
}

// CheckRole refuses a role that no account may have.
func CheckRole(r Role) error {
	if !slices.Contains(Roles(), r) {
		return object.Errorf(object.ErrArgumentsBad, "role %.40q: expected admin, operator, monitor or audit", string(r))
	}
	return nil
}

func checkPassword(pw []byte) error {
	if len(pw) < minPassword || len(pw) > maxPassword {
		return object.Errorf(object.ErrPINLength, "the password has %d bytes; expected %d to %d", len(pw), minPassword, maxPassword)
	}
	return nil
}

func byName(a, b *account) int { return cmp.Compare(a.Name, b.Name) }
