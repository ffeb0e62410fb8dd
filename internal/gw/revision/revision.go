// Package revision keeps a gateway's configuration over time: the candidate
// that administrators edit, the running one, every version before it, and the
// locks on them.
//
// Every change is durable when the method that makes it returns, and whole
// after a crash at any moment: a commit is one replaced file, an edit of the
// candidate one more file. The values lie in a [Backend], which has no more
// than compare-and-swap and watch; [Files] is the one that there is.
//
//	state            which version runs, what the versions are, who must confirm
//	version/N        a version, XML
//	candidate        the candidate as it once was, and the number of that edit
//	candidate/N      what the edit of that number did to it
//	locks            who holds them
package revision

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"moongate/internal/gw/config"
)

// Version says what a version is, not what is in it.
type Version struct {
	Number      int       `json:"number"` // from 1
	Admin       string    `json:"admin"`
	Description string    `json:"description,omitempty"`
	From        string    `json:"from,omitempty"` // where the administrator was
	At          time.Time `json:"at"`
}

// Meta is what is known of a commit before it has a number.
type Meta struct {
	Admin, Description, From string
	At                       time.Time
}

// Confirm is a version that goes back by itself unless it is confirmed.
type Confirm struct {
	Version  int       `json:"version"`
	Previous int       `json:"previous"` // what it goes back to
	Deadline time.Time `json:"deadline"`
	Admin    string    `json:"admin"`
}

var (
	// ErrNoVersion: there is no version of that number, or no longer.
	ErrNoVersion = errors.New("no such version")
	// ErrConflict: what was to be changed is not what it was.
	ErrConflict = errors.New("changed meanwhile")
	// ErrNothingPending: no commit waits to be confirmed.
	ErrNothingPending = errors.New("no commit waits to be confirmed")
)

// Options say where configurations are kept.
type Options struct {
	// Backend keeps them; nil for Files in Dir.
	Backend Backend
	Dir     string
	// Import is a configuration file that becomes version 1 where there is
	// none yet; without it that is config.Default().
	Import string
	// Keep is how many versions are kept, the running one and what a commit
	// may go back to among them; 100 where it is 0.
	Keep   int
	Logger *slog.Logger
	Now    func() time.Time // nil for time.Now
}

const defaultKeep = 100

// Store is a gateway's configurations. It is safe for concurrent use.
type Store struct {
	backend Backend
	keep    int
	log     *slog.Logger
	now     func() time.Time

	mu        sync.Mutex
	state     state        // guarded by mu, as is all that follows
	stateRev  uint64       // the backend's, of state
	running   *config.Node // of state.Running
	candidate *config.Node
	edits     uint64 // the number of the last edit
	base      uint64 // the edit that the stored candidate has
	baseRev   uint64 // the backend's, of candidate
	unsure    bool   // the stored candidate may be one that was refused
	doubt     bool   // the stored state may be one that was refused
	locks     []Lock
	locksRev  uint64
	watchers  map[chan Event]bool
}

// Open reads what is kept, or begins with version 1.
func Open(opts Options) (*Store, error) {
	if opts.Logger == nil || opts.Backend == nil && opts.Dir == "" {
		return nil, errors.New("revision: a directory and a logger are needed")
	}
	if opts.Backend == nil {
		files, err := OpenFiles(opts.Dir)
		if err != nil {
			return nil, err
		}
		opts.Backend = files
	}
	s := &Store{backend: opts.Backend, keep: opts.Keep, log: opts.Logger, now: opts.Now, watchers: map[chan Event]bool{}}
	if s.keep <= 0 {
		s.keep = defaultKeep
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.readState(opts.Import); err != nil {
		return nil, err
	}
	if err := s.readCandidate(); err != nil {
		return nil, err
	}
	return s, s.readLocks()
}

// Running returns the running configuration and what version it is.
func (s *Store) Running() (*config.Node, Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, s.state.last().Version
}

// Versions lists the versions that are kept, the running one last.
func (s *Store) Versions() []Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Version, len(s.state.Versions))
	for i, v := range s.state.Versions {
		list[i] = v.Version
	}
	return list
}

// Version returns the configuration of a version.
func (s *Store) Version(n int) (*config.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.state.Versions {
		if v.Number == n {
			return s.readVersion(v)
		}
	}
	return nil, fmt.Errorf("%w: %d; there are %d to %d", ErrNoVersion, n, s.state.Versions[0].Number, s.state.Versions[len(s.state.Versions)-1].Number)
}

// What an Event tells of.
type What string

const (
	CandidateChanged What = "candidate"
	RunningChanged   What = "running"
	LocksChanged     What = "locks"
)

// Event tells that something changed; what it is now is asked of the Store.
type Event struct{ What What }

func (s *Store) tell(what What) {
	for w := range s.watchers {
		select {
		case w <- Event{what}:
		default: // it has events to read, and will see this change with them
		}
	}
}
