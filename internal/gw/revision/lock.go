package revision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// LockKind is what a lock keeps others from.
type LockKind string

const (
	LockConfig LockKind = "config" // editing the candidate
	LockCommit LockKind = "commit"
)

// Lock is held by one administrator until they, or a superuser, give it back.
type Lock struct {
	Kind    LockKind  `json:"kind"`
	Admin   string    `json:"admin"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

var (
	// ErrLocked: somebody else holds the lock.
	ErrLocked = errors.New("locked")
	// ErrNotLocked: the administrator does not hold it.
	ErrNotLocked = errors.New("not locked")
)

// Lock takes a lock. Who holds it already keeps it, with its first comment.
func (s *Store) Lock(ctx context.Context, kind LockKind, admin, comment string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.locks {
		if l.Kind == kind && l.Admin == admin {
			return nil
		} else if l.Kind == kind {
			return fmt.Errorf("the %s is %w by %s since %s", kind, ErrLocked, l.Admin, l.At.Format(time.RFC3339))
		}
	}
	return s.writeLocks(ctx, append(slices.Clone(s.locks), Lock{kind, admin, comment, s.now().UTC()}))
}

// Unlock gives a lock back that an administrator holds.
func (s *Store) Unlock(ctx context.Context, kind LockKind, admin string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(s.locks), func(l Lock) bool { return l.Kind == kind && l.Admin == admin })
	if len(left) == len(s.locks) {
		return fmt.Errorf("the %s is %w by %s", kind, ErrNotLocked, admin)
	}
	return s.writeLocks(ctx, left)
}

// Locks lists the locks that are held.
func (s *Store) Locks() []Lock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.locks)
}

// Holder returns who holds a lock.
func (s *Store) Holder(kind LockKind) (Lock, bool) {
	for _, l := range s.Locks() {
		if l.Kind == kind {
			return l, true
		}
	}
	return Lock{}, false
}

func (s *Store) writeLocks(ctx context.Context, locks []Lock) error {
	raw, err := json.Marshal(locks)
	if err != nil {
		return err
	}
	rev, err := s.backend.Swap(ctx, locksKey, s.locksRev, raw)
	if err != nil {
		return fmt.Errorf("storing the locks: %w", err)
	}
	s.locks, s.locksRev = locks, rev
	s.tell(LocksChanged)
	return nil
}

// readLocks reads the locks. Damaged ones are given back: a lock that nobody
// can read would keep everybody out.
func (s *Store) readLocks() error {
	raw, rev, err := s.backend.Get(locksKey)
	if errors.Is(err, ErrNoValue) {
		return nil
	} else if err != nil {
		return fmt.Errorf("reading the locks: %w", err)
	}
	s.locksRev = rev
	if err := json.Unmarshal(raw, &s.locks); err != nil {
		s.log.Error("the locks cannot be read; they are given back", "file", s.backend.Name(locksKey), "cause", err)
		s.locks = nil
	}
	return nil
}
