package admin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"moongate/internal/durable"
	"moongate/internal/login"
)

// Bounds of what is kept of logins.
const (
	loginsVersion = 1
	maxLoginsFile = 4 << 20
	maxRemembered = 4096 // accounts
	maxNetworks   = 8    // of one account
	// familiarFor is how long a network counts as an account's own after a
	// login from it, and failureCounts how long a wrong password does.
	familiarFor   = 30 * 24 * time.Hour
	failureCounts = 24 * time.Hour
)

// logins is the durable record of attempts and logins: JSON, in the order of
// names. Wrong passwords are counted apart for the networks that an account has
// come in from lately and for all the others, and each count locks its own: so
// a stranger locks out strangers, and not the administrator at his desk.
type logins struct {
	path string

	mu    sync.Mutex
	state *loginState // guarded by mu; replaced as a whole, never altered
}

type loginState struct {
	Version  int           `json:"version"`
	Accounts []*loginEntry `json:"accounts"`
	// Nobody counts attempts that were for no account, or for one that was
	// locked, so that they take the same work as those that count.
	Nobody uint64 `json:"nobody"`
}

type loginEntry struct {
	Name     string    `json:"name"`
	Familiar failures  `json:"familiar,omitzero"`
	Strange  failures  `json:"strange,omitzero"`
	Networks []network `json:"networks"`
	Last     time.Time `json:"last_login,omitzero"`
	From     string    `json:"last_login_from,omitempty"`
}

type failures struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last,omitzero"`
}

type network struct {
	Prefix netip.Prefix `json:"prefix"`
	Last   time.Time    `json:"last"`
}

// locks reports whether these failures refuse attempts now, and until when; the
// zero time for until Unlock.
func (f failures) locks(p Policy, now time.Time) (time.Time, bool) {
	if p.FailedAttempts <= 0 || f.Count < p.FailedAttempts {
		return time.Time{}, false
	}
	if p.LockoutTime <= 0 {
		return time.Time{}, true
	}
	until := f.Last.Add(p.LockoutTime)
	return until, now.Before(until)
}

// again counts one more failure; earlier ones count no longer once they locked
// and the lock has ended, or a day has passed.
func (f failures) again(p Policy, now time.Time) failures {
	locked := p.FailedAttempts > 0 && f.Count >= p.FailedAttempts
	if locked || now.Sub(f.Last) > failureCounts {
		f.Count = 0
	}
	return failures{f.Count + 1, now}
}

func (e *loginEntry) clone() *loginEntry {
	c := *e
	c.Networks = slices.Clone(e.Networks)
	return &c
}

func (e *loginEntry) knows(p netip.Prefix, now time.Time) bool {
	return slices.ContainsFunc(e.Networks, func(n network) bool { return n.Prefix == p && now.Sub(n.Last) <= familiarFor })
}

// failures are those that an attempt from this network belongs to.
func (e *loginEntry) failures(p netip.Prefix, now time.Time) *failures {
	if e.knows(p, now) {
		return &e.Familiar
	}
	return &e.Strange
}

// entered notes a login from a network, and forgets the one longest unused when
// there are too many.
func (e *loginEntry) entered(from netip.Addr, now time.Time) {
	p := login.Network(from)
	e.Networks = slices.DeleteFunc(e.Networks, func(n network) bool { return n.Prefix == p || now.Sub(n.Last) > familiarFor })
	if len(e.Networks) >= maxNetworks {
		e.Networks = slices.Delete(e.Networks, 0, len(e.Networks)-maxNetworks+1)
	}
	if p.IsValid() {
		e.Networks = append(e.Networks, network{p, now})
	}
	e.Last, e.From = now, ""
	if from.IsValid() {
		e.From = from.Unmap().WithZone("").String()
	}
}

func openLogins(path string) (*logins, error) {
	raw, err := readOwn(path, maxLoginsFile)
	if err != nil {
		return nil, err
	}
	l := &logins{path: path, state: &loginState{Version: loginsVersion, Accounts: []*loginEntry{}}}
	if raw == nil {
		return l, nil
	}
	if l.state, err = decodeLogins(raw); err != nil {
		return nil, fmt.Errorf("reading %s: %w; remove it to forget wrong passwords, locks and last logins", path, err)
	}
	return l, nil
}

func (s *loginState) encode() ([]byte, error) { return encodeJSON(s) }

// encodeJSON is JSON as the files here have it: indented by tabs, a newline at
// its end.
func encodeJSON(what any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(what); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// decodeLogins reads the file; what encode would not have written is refused.
func decodeLogins(raw []byte) (*loginState, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var s loginState
	if err := dec.Decode(&s); err != nil {
		return nil, err
	}
	if s.Version != loginsVersion {
		return nil, fmt.Errorf("its version is %d, expected %d", s.Version, loginsVersion)
	}
	if s.Accounts == nil || len(s.Accounts) > maxRemembered {
		return nil, fmt.Errorf("it has %d accounts, expected a list of at most %d", len(s.Accounts), maxRemembered)
	}
	for i, e := range s.Accounts {
		if e == nil || e.Networks == nil || len(e.Networks) > maxNetworks || e.Familiar.Count < 0 || e.Strange.Count < 0 {
			return nil, fmt.Errorf("account %d is out of bounds", i+1)
		}
		if i > 0 && byName(s.Accounts[i-1], e) >= 0 {
			return nil, fmt.Errorf("account %d is twice there or out of order", i+1)
		}
	}
	again, err := s.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(raw, again) {
		return nil, errors.New("it was not written by this program, or was edited since")
	}
	return &s, nil
}

func byName(a, b *loginEntry) int { return cmp.Compare(a.Name, b.Name) }

func (s *loginState) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.Accounts, name, func(e *loginEntry, name string) int { return strings.Compare(e.Name, name) })
}

// entry returns a copy of the account's entry, in s, to be changed.
func (s *loginState) entry(name string) *loginEntry {
	i, found := s.find(name)
	if !found {
		e := &loginEntry{Name: name, Networks: []network{}}
		s.Accounts = slices.Insert(s.Accounts, i, e)
		return e
	}
	s.Accounts[i] = s.Accounts[i].clone()
	return s.Accounts[i]
}

// update replaces the state by what change makes of a copy, on disk first.
func (l *logins) update(change func(*loginState)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := &loginState{loginsVersion, slices.Clone(l.state.Accounts), l.state.Nobody}
	change(next)
	raw, err := next.encode()
	if err == nil {
		err = durable.WriteFile(l.path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the record of logins: %w", err)
	}
	l.state = next
	return nil
}

func (l *logins) get(name string) loginEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, found := l.state.find(name); found {
		return *l.state.Accounts[i].clone()
	}
	return loginEntry{Name: name}
}

// begin counts an attempt on disk as a failure before its password is looked
// at, so that no crash gives a guess for nothing. It returns whether the
// account is locked, and whether this failure, if it stays one, locks it.
func (l *logins) begin(name string, known bool, from netip.Addr, p Policy, now time.Time) (locked, locks bool, err error) {
	err = l.update(func(s *loginState) {
		if !known {
			s.Nobody++
			return
		}
		e := s.entry(name)
		f := e.failures(login.Network(from), now)
		if _, locked = f.locks(p, now); locked {
			s.Nobody++
			return
		}
		*f = f.again(p, now)
		_, locks = f.locks(p, now)
	})
	return locked, locks, err
}

// succeed takes back what begin counted, with the earlier failures of the same
// kind of network, and notes the login.
func (l *logins) succeed(name string, from netip.Addr, now time.Time) error {
	return l.update(func(s *loginState) {
		e := s.entry(name)
		*e.failures(login.Network(from), now) = failures{}
		e.entered(from, now)
	})
}

// enter notes a login by a key, which takes back no wrong password.
func (l *logins) enter(name string, from netip.Addr, now time.Time) error {
	return l.update(func(s *loginState) { s.entry(name).entered(from, now) })
}

func (l *logins) unlock(name string) error {
	return l.update(func(s *loginState) {
		e := s.entry(name)
		e.Familiar, e.Strange = failures{}, failures{}
	})
}

// keep forgets accounts that are gone.
func (l *logins) keep(accounts map[string]*account) error {
	gone := func(e *loginEntry) bool { return accounts[e.Name] == nil }
	l.mu.Lock()
	some := slices.ContainsFunc(l.state.Accounts, gone)
	l.mu.Unlock()
	if !some {
		return nil
	}
	return l.update(func(s *loginState) { s.Accounts = slices.DeleteFunc(s.Accounts, gone) })
}
