package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"moongate/internal/durable"
	"moongate/internal/login"
	"moongate/internal/passphrase"
)

// Policy is what the running configuration says of logins.
type Policy struct {
	// FailedAttempts is how many wrong passwords lock an account, and
	// LockoutTime for how long; 0 attempts: never, no time: until Unlock.
	FailedAttempts int
	LockoutTime    time.Duration
	// APIKeyLifetime is that of the keys to be made; 0: until they are revoked.
	APIKeyLifetime time.Duration
}

// DefaultPolicy is in force until SetPolicy.
var DefaultPolicy = Policy{FailedAttempts: 10, LockoutTime: 15 * time.Minute}

// Options say where a Guard keeps what must survive a restart.
type Options struct {
	// Dir is a directory of the guard's own, made (0700) if need be, in a
	// parent that is there. One process may use it at a time.
	Dir string
	// Now is the clock; time.Now by default.
	Now func() time.Time

	// cost is that of new hashes and of the decoy; less in tests.
	cost passphrase.Cost
}

// Guard lets administrators in. Its methods may be called at the same time.
// Until SetAccounts nobody comes in. It writes no log: that is the caller's.
type Guard struct {
	opts   Options
	decoy  hash
	delays *login.Delays
	line   *line
	recent *recent
	logins *logins
	keys   *apiKeys

	mu       sync.RWMutex
	accounts map[string]*account // guarded by mu; replaced as a whole
	policy   Policy              // guarded by mu
}

// Open reads what the directory keeps: wrong passwords and last logins, and the
// hashes of API keys. A file that is damaged is an error that says what is lost
// without it.
func Open(opts Options) (*Guard, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.cost == (passphrase.Cost{}) {
		opts.cost = passphrase.Login
	}
	if err := durable.Mkdir(opts.Dir); err != nil {
		return nil, fmt.Errorf("opening the administrators' directory: %w", err)
	}
	if err := durable.RemoveTemps(opts.Dir); err != nil {
		return nil, fmt.Errorf("opening the administrators' directory: %w", err)
	}
	g := &Guard{
		opts: opts, decoy: decoy(opts.cost), delays: login.NewDelays(), line: newLine(), recent: newRecent(),
		accounts: map[string]*account{}, policy: DefaultPolicy,
	}
	var err error
	if g.logins, err = openLogins(filepath.Join(opts.Dir, "logins.json")); err != nil {
		return nil, err
	}
	if g.keys, err = openAPIKeys(filepath.Join(opts.Dir, "api-keys.json")); err != nil {
		return nil, err
	}
	return g, nil
}

// SetAccounts lets in these administrators and nobody else, at once. API keys of
// an account that is gone, or whose password is another one, are revoked for
// good. An error tells what of the accounts cannot be used, or that the
// revocation is not on disk; the accounts are in force all the same.
func (g *Guard) SetAccounts(list []Account) error {
	accounts := make(map[string]*account, len(list))
	var problems []error
	if len(list) > maxRemembered {
		problems = append(problems, fmt.Errorf("there are %d administrators; the last %d are not let in", len(list), len(list)-maxRemembered))
		list = list[:maxRemembered]
	}
	for _, a := range list {
		made, err := read(a)
		problems = append(problems, err)
		accounts[a.Name] = made
	}
	g.mu.Lock()
	g.accounts = accounts
	g.mu.Unlock()
	// A configuration without administrators is one that could not be read;
	// whoever puts it right finds his keys again.
	if len(accounts) > 0 {
		problems = append(problems, g.keys.keep(accounts), g.logins.keep(accounts))
	}
	return errors.Join(problems...)
}

// SetPolicy is obeyed from the next attempt on.
func (g *Guard) SetPolicy(p Policy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy = p
}

// Current returns an administrator as the running configuration has it now, for
// who came in earlier.
func (g *Guard) Current(name string) (Identity, bool) {
	a, _ := g.account(name)
	if a == nil {
		return Identity{}, false
	}
	return a.identity(), true
}

// Stamp changes with an account's password and SSH keys, so that who came in by
// one that does not count any more is told. It is empty where there is no such
// account, and says nothing of what it is made of.
func (g *Guard) Stamp(name string) string {
	a, _ := g.account(name)
	if a == nil {
		return ""
	}
	h := sha256.New()
	for _, credential := range append([]string{a.PasswordHash}, a.PublicKeys...) {
		fmt.Fprintf(h, "%d %s\n", len(credential), credential)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// account is nil where there is none.
func (g *Guard) account(name string) (*account, Policy) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.accounts[name], g.policy
}

// now is the time that files hold: UTC, whole seconds.
func (g *Guard) now() time.Time { return g.opts.Now().UTC().Truncate(time.Second) }

// readOwn reads a file of at most limit bytes that only its owner can reach;
// nil where there is none.
func readOwn(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a file of the administrators: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v: others can reach it; run `chmod 600 %s`", path, info.Mode(), path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d", path, info.Size(), limit)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a file of the administrators: %w", err)
	}
	return raw, nil
}
