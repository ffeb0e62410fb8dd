package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"moongate/internal/durable"
)

// An API key is keyPrefix and 256 random bits in base64url. The prefix lets
// scanners of repositories find one that was left there. Only its SHA-256 is
// kept: what cannot be guessed needs no slow hash.
const (
	keyPrefix = "mgk1_"
	keyBits   = 256

	keysVersion      = 1
	maxKeysFile      = 2 << 20
	maxKeys          = 4096
	maxKeysOfAccount = 64
	apiKeyIDSize     = 6
)

var keyLength = len(keyPrefix) + base64.RawURLEncoding.EncodedLen(keyBits/8)

// APIKey is what may be shown of an API key.
type APIKey struct {
	ID        string // 12 hexadecimal digits
	Name      string // the administrator's
	Created   time.Time
	ExpiresAt time.Time // zero: never
	// LastUsed is zero for never, and may be forgotten by a restart.
	LastUsed time.Time
}

// apiKeys are the keys that there are: a JSON file, in the order in which they
// were made.
type apiKeys struct {
	path string

	mu    sync.Mutex
	state *keyState // guarded by mu; replaced as a whole, but for LastUsed
}

type keyState struct {
	Version int         `json:"version"`
	Keys    []*keyEntry `json:"keys"`
}

type keyEntry struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Hash []byte `json:"hash"` // SHA-256 of the key
	// Credential is of the password's hash that the account had: a key does not
	// outlive it.
	Credential []byte    `json:"credential"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires,omitzero"`
	LastUsed   time.Time `json:"last_used,omitzero"`
}

func (e *keyEntry) show() APIKey { return APIKey{e.ID, e.Name, e.Created, e.Expires, e.LastUsed} }

func (e *keyEntry) expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// of reports whether the key is an account's as it is now.
func (e *keyEntry) of(a *account) bool {
	return a != nil && subtle.ConstantTimeCompare(e.Credential, credential(a)) == 1
}

// credential tells a password's hash from another one, without showing it.
func credential(a *account) []byte {
	sum := sha256.Sum256([]byte("moongate api-key credential\x00" + a.PasswordHash))
	return sum[:16]
}

func openAPIKeys(path string) (*apiKeys, error) {
	raw, err := readOwn(path, maxKeysFile)
	if err != nil {
		return nil, err
	}
	k := &apiKeys{path: path, state: &keyState{keysVersion, []*keyEntry{}}}
	if raw == nil {
		return k, nil
	}
	if k.state, err = decodeKeys(raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w; put a good copy back, or remove it, which revokes all API keys", path, err)
	}
	return k, nil
}

// decodeKeys reads the file; what was not written here is refused.
func decodeKeys(raw []byte) (*keyState, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var s keyState
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	if s.Version != keysVersion {
		return nil, fmt.Errorf("its version is %d, expected %d", s.Version, keysVersion)
	}
	if s.Keys == nil || len(s.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, expected a list of at most %d", len(s.Keys), maxKeys)
	}
	ids := map[string]bool{}
	for i, e := range s.Keys {
		if e == nil || len(e.Hash) != sha256.Size || len(e.Credential) != 16 || e.Created.IsZero() || e.Name == "" {
			return nil, fmt.Errorf("key %d is out of bounds", i+1)
		}
		if id, err := hex.DecodeString(e.ID); err != nil || len(id) != apiKeyIDSize || ids[e.ID] {
			return nil, fmt.Errorf("key %d has an id that is not %d hexadecimal digits, or is there twice", i+1, 2*apiKeyIDSize)
		}
		ids[e.ID] = true
	}
	again, err := encodeJSON(&s)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(raw, again) {
		return nil, errors.New("it was not written by this program, or was edited since")
	}
	return &s, nil
}

// update replaces the keys by what change makes of a copy of the list, on disk
// first. An error of change changes nothing.
func (k *apiKeys) update(change func([]*keyEntry) ([]*keyEntry, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	list, err := change(slices.Clone(k.state.Keys))
	if err != nil {
		return err
	}
	next := &keyState{keysVersion, list}
	raw, err := encodeJSON(next)
	if err == nil {
		err = durable.WriteFile(k.path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the API keys: %w", err)
	}
	k.state = next
	return nil
}

// remove takes away the keys that gone says, and returns how many. Nothing is
// written where there are none.
func (k *apiKeys) remove(gone func(*keyEntry) bool) (int, error) {
	k.mu.Lock()
	some := slices.ContainsFunc(k.state.Keys, gone)
	k.mu.Unlock()
	if !some {
		return 0, nil
	}
	removed := 0
	err := k.update(func(list []*keyEntry) ([]*keyEntry, error) {
		before := len(list)
		list = slices.DeleteFunc(list, gone)
		removed = before - len(list)
		return list, nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// keep revokes the keys of accounts that are gone or have another password.
func (k *apiKeys) keep(accounts map[string]*account) error {
	_, err := k.remove(func(e *keyEntry) bool { return !e.of(accounts[e.Name]) })
	return err
}

// NewAPIKey makes an API key for an administrator, valid as long as the policy
// says, and returns it: the only time that it can be seen. An administrator has
// at most 64; the one longest unused makes room. It ends with the account, and
// with the account's password.
func (g *Guard) NewAPIKey(name string) (key string, expires time.Time, err error) {
	a, policy := g.account(name)
	if a == nil {
		return "", time.Time{}, fmt.Errorf("there is no administrator %.40q", name)
	}
	secret, id := make([]byte, keyBits/8), make([]byte, apiKeyIDSize)
	rand.Read(secret)
	rand.Read(id)
	key = keyPrefix + base64.RawURLEncoding.EncodeToString(secret)
	clear(secret)
	sum := sha256.Sum256([]byte(key))
	now := g.now()
	if policy.APIKeyLifetime > 0 {
		expires = now.Add(policy.APIKeyLifetime.Truncate(time.Second))
	}
	fresh := &keyEntry{ID: hex.EncodeToString(id), Name: name, Hash: sum[:], Credential: credential(a), Created: now, Expires: expires}
	err = g.keys.update(func(list []*keyEntry) ([]*keyEntry, error) {
		list = slices.DeleteFunc(list, func(e *keyEntry) bool { return e.expired(now) })
		list = makeRoom(list, name)
		if len(list) >= maxKeys {
			return nil, fmt.Errorf("there are %d API keys, and no more are kept; revoke some first", maxKeys)
		}
		return append(list, fresh), nil
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return key, expires, nil
}

// makeRoom removes the key of an account that is longest unused when it has as
// many as it may have.
func makeRoom(list []*keyEntry, name string) []*keyEntry {
	oldest, count := -1, 0
	for i, e := range list {
		if e.Name != name {
			continue
		}
		count++
		if oldest < 0 || e.used().Before(list[oldest].used()) {
			oldest = i
		}
	}
	if count < maxKeysOfAccount {
		return list
	}
	return slices.Delete(list, oldest, oldest+1)
}

func (e *keyEntry) used() time.Time {
	if e.LastUsed.After(e.Created) {
		return e.LastUsed
	}
	return e.Created
}

// APIKey lets in who shows an API key. A refusal is a *Refused.
func (g *Guard) APIKey(_ context.Context, _ netip.Addr, key string) (Identity, error) {
	if len(key) != keyLength || !strings.HasPrefix(key, keyPrefix) {
		return Identity{}, refuse("this is no API key")
	}
	now := g.now()
	e, found := g.keys.use(sha256.Sum256([]byte(key)), now)
	if !found {
		return Identity{}, refuse("no such API key, or it was revoked")
	}
	a, _ := g.account(e.Name)
	switch {
	case a == nil:
		return Identity{}, refuse("the API key's administrator " + e.Name + " is gone")
	case !e.of(a):
		return Identity{}, refuse("the API key of " + e.Name + " was made before its password was changed")
	case e.expired(now):
		return Identity{}, refuse("the API key of " + e.Name + " expired at " + e.Expires.Format(time.RFC3339))
	}
	return a.identity(), nil
}

// use finds a key by its hash and notes its use. Every hash is compared, each
// in constant time: how long it takes tells nothing of what is there.
func (k *apiKeys) use(sum [sha256.Size]byte, now time.Time) (keyEntry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := -1
	for i, e := range k.state.Keys {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(e.Hash, sum[:]), i, at)
	}
	if at < 0 {
		return keyEntry{}, false
	}
	found := k.state.Keys[at]
	found.LastUsed = now
	return *found, true
}

// APIKeys lists the API keys of an administrator, or with "" everybody's, in the
// order in which they were made.
func (g *Guard) APIKeys(name string) []APIKey {
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	list := []APIKey{}
	for _, e := range g.keys.state.Keys {
		if name == "" || e.Name == name {
			list = append(list, e.show())
		}
	}
	return list
}

// RevokeAPIKeys revokes an administrator's API keys, or with ids those of them
// alone, and returns how many.
func (g *Guard) RevokeAPIKeys(name string, ids ...string) (int, error) {
	return g.keys.remove(func(e *keyEntry) bool { return e.Name == name && (len(ids) == 0 || slices.Contains(ids, e.ID)) })
}

// RevokeAllAPIKeys revokes everybody's API keys, and returns how many.
func (g *Guard) RevokeAllAPIKeys() (int, error) {
	return g.keys.remove(func(*keyEntry) bool { return true })
}
