package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"moongate/internal/hsm/mech"
)

// contents is the accounts file: JSON, indented by tabs, a newline at its end,
// accounts in the order of their names.
type contents struct {
	Version  int        `json:"version"`
	Accounts []*account `json:"accounts"`
	// Strangers counts wrong passwords for names that are no accounts, so that
	// refusing them takes the same work as refusing an account's.
	Strangers strangers `json:"strangers"`
}

type strangers struct {
	Failures    int       `json:"failures"`
	LastFailure time.Time `json:"last_failure,omitzero"`
}

func (c *contents) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encoding the accounts: %w", err)
	}
	return b.Bytes(), nil
}

// decode reads an accounts file. There is one encoding of each set of
// accounts: what encode would not have written is refused.
func decode(raw []byte) (*contents, error) {
	if len(raw) > maxFileSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d", len(raw), maxFileSize)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var c contents
	if err := dec.Decode(&c); err != nil {
		return nil, err
	}
	if c.Version != formatVersion {
		return nil, fmt.Errorf("its version is %d, expected %d", c.Version, formatVersion)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	again, err := c.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(raw, again) {
		return nil, errors.New("it was not written by this program, or was edited since")
	}
	return &c, nil
}

func (c *contents) check() error {
	if c.Accounts == nil || len(c.Accounts) > maxAccounts {
		return fmt.Errorf("accounts: %d, expected a list of at most %d", len(c.Accounts), maxAccounts)
	}
	if c.Strangers.Failures < 0 {
		return fmt.Errorf("strangers: failures is %d", c.Strangers.Failures)
	}
	for i, a := range c.Accounts {
		if a == nil {
			return fmt.Errorf("account %d is null", i+1)
		}
		if err := a.check(); err != nil {
			return fmt.Errorf("account %d: %w", i+1, err)
		}
		if i > 0 && byName(c.Accounts[i-1], a) >= 0 {
			return fmt.Errorf("account %q is twice there or out of order", a.Name)
		}
	}
	return nil
}

func (a *account) check() error {
	if err := errors.Join(CheckName(a.Name), CheckRole(a.Role)); err != nil {
		return err
	}
	if a.Failures < 0 || a.Created.IsZero() || len(a.LastLoginFrom) > maxAddress {
		return errors.New("failures, created or last_login_from is out of bounds")
	}
	if a.Keys == nil || len(a.Keys) > maxKeysOfAccount {
		return fmt.Errorf("keys: %d, expected a list of at most %d", len(a.Keys), maxKeysOfAccount)
	}
	for i, line := range a.Keys {
		k, err := ParseKey(line)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		if k.Line != line {
			return fmt.Errorf("key %d is not in its canonical form", i+1)
		}
		if slices.ContainsFunc(a.Keys[:i], func(other string) bool { return sameKey(other, line) }) {
			return fmt.Errorf("key %d is twice there", i+1)
		}
	}
	if a.Password == nil {
		return nil
	}
	if len(a.Password.Derived) != maxVerifier {
		return fmt.Errorf("password: derived has %d bytes, expected %d", len(a.Password.Derived), maxVerifier)
	}
	// Whether the derivation is allowed in this process's mode is asked at the
	// login: an account must not keep the others out.
	return mech.Policy{}.CheckKDF(a.Password.KDF)
}
