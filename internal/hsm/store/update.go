package store

import (
	"errors"
	"fmt"
	"sync"

	"moongate/internal/hsm/object"
)

// maxGroup is how many updates share a commit at most.
const maxGroup = 256

// group gathers concurrent updates into one commit: while one goroutine leads
// a commit, the others queue up, and the next leader takes them all. Nobody
// waits for company: an update that is alone commits at once.
type group struct {
	lead chan struct{} // holds one token: the leader's

	mu    sync.Mutex
	queue []*update // under mu

	broken error // the leader's: the first commit that the disk refused
}

type update struct {
	fn       func(*Tx) error
	err      error
	panicked any
	done     chan struct{} // closed when err and panicked are final
}

// View runs fn on a consistent state of the store. A long fn holds space in
// the file and may hold up an Update; one that calls Update can deadlock.
func (s *Store) View(fn func(*Tx) error) error {
	f := s.file.Load()
	btx, err := f.db.Begin(false)
	if s.file.Load() != f {
		err = errors.Join(err, ErrErased)
	}
	if btx != nil {
		defer btx.Rollback() // ends a read; has nothing to fail
	}
	if err != nil {
		return fmt.Errorf("reading store: %w", err)
	}
	err = catchFaults(func() error {
		tx, err := s.begin(f, btx)
		if err != nil {
			return err
		}
		return fn(tx)
	})
	if s.file.Load() != f {
		return fmt.Errorf("reading store: %w", ErrErased)
	}
	return err
}

// errStuck is for people at a distance; why it is so stays here, and in the log
// of the update that failed first.
var errStuck = object.Errorf(object.ErrDeviceError, "the store could not be written and takes no more updates until the HSM is started again; see to its disk first")

var errGone = errors.New("updating store: the goroutine that committed for others ended")

// Update runs fn and makes what it changed permanent: when Update returns nil,
// the changes are on the disk and survive any crash. When fn returns an error
// or panics, nothing of it is kept and Update returns the error or panics.
//
// Updates of several goroutines may share one commit and one fsync, and none
// sees or suffers another's failure. For that, fn may run more than once, and on
// another goroutine; it must be prepared to begin again, and must not call
// Update or View.
//
// After an error of the disk itself, the change may be there after a restart or
// not, and the store takes no more updates until then.
func (s *Store) Update(fn func(*Tx) error) error {
	u := &update{fn: fn, done: make(chan struct{})}
	s.group.mu.Lock()
	s.group.queue = append(s.group.queue, u)
	s.group.mu.Unlock()
	for {
		select {
		case <-u.done:
			if u.panicked != nil {
				panic(u.panicked)
			}
			return u.err
		case s.group.lead <- struct{}{}:
			s.leadCommit()
		}
	}
}

// leadCommit commits what is queued and gives the lead back. The queue may be
// empty: the last leader may have taken it all.
func (s *Store) leadCommit() {
	s.group.mu.Lock()
	taken := s.group.queue
	rest := taken[min(len(taken), maxGroup):]
	taken = taken[:len(taken)-len(rest)]
	s.group.queue = append([]*update(nil), rest...)
	s.group.mu.Unlock()

	defer func() {
		// Only a fn that ends the goroutine (runtime.Goexit) leaves any.
		for _, u := range taken {
			u.finish(errGone)
		}
		<-s.group.lead
	}()
	s.commitTogether(taken)
}

// finish settles an update once.
func (u *update) finish(err error) {
	select {
	case <-u.done:
	default:
		u.err = err
		close(u.done)
	}
}

// refuseAll settles what is queued. The caller leads.
func (g *group) refuseAll(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, u := range g.queue {
		u.finish(fmt.Errorf("updating store: %w", err))
	}
	g.queue = nil
}

// commitTogether commits as many as it can at once. One that fails may have
// failed for what another did, which is then undone with it: it gets its own
// transaction, after the others.
func (s *Store) commitTogether(list []*update) {
	var alone []*update
	for len(list) > 1 {
		failed, err := s.commit(list)
		if failed == nil {
			for _, u := range list {
				u.finish(err)
			}
			break
		}
		alone = append(alone, failed)
		list = without(list, failed)
	}
	if len(list) == 1 {
		alone = append(list, alone...)
	}
	for _, u := range alone {
		failed, err := s.commit([]*update{u})
		if failed != nil {
			err = failed.err
		}
		u.finish(err)
	}
}

func without(list []*update, gone *update) []*update {
	out := make([]*update, 0, len(list)-1)
	for _, u := range list {
		if u != gone {
			out = append(out, u)
		}
	}
	return out
}

// commit runs the updates in one transaction. It returns the first that failed,
// with nothing changed, or else how the commit itself went.
func (s *Store) commit(list []*update) (failed *update, err error) {
	if s.group.broken != nil {
		return nil, fmt.Errorf("%w: %w", errStuck, s.group.broken)
	}
	f := s.file.Load() // Erase leads, too: it stays
	btx, err := f.db.Begin(true)
	if err != nil {
		return nil, fmt.Errorf("updating store: %w", err)
	}
	defer btx.Rollback() // after a commit it does nothing
	var tx *Tx
	if err := catchFaults(func() (err error) { tx, err = s.begin(f, btx); return err }); err != nil {
		return nil, err
	}
	for _, u := range list {
		if !u.run(tx) {
			return u, nil
		}
	}
	if err := catchFaults(tx.flush); err != nil {
		return nil, fmt.Errorf("updating store: %w", err)
	}
	if err := catchFaults(btx.Commit); err != nil {
		s.group.broken = fmt.Errorf("committing to store: %w", err)
		return nil, s.group.broken
	}
	if tx.stateChanged {
		f.commit.Store(tx.state.number)
	}
	return nil, nil
}

// run reports whether fn succeeded.
func (u *update) run(tx *Tx) bool {
	u.err, u.panicked = nil, nil
	defer func() {
		if r := recover(); r != nil {
			u.panicked = r
		}
	}()
	u.err = catchFaults(func() error { return u.fn(tx) })
	return u.err == nil
}
