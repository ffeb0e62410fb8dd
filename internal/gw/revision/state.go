package revision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"moongate/internal/gw/config"
)

// Keys of the backend.
const (
	stateKey     = "state"
	candidateKey = "candidate"
	locksKey     = "locks"
)

func versionKey(n int) string { return "version/" + strconv.Itoa(n) }

// state is the one value whose replacement is a commit.
type state struct {
	Versions []kept   `json:"versions"` // by number; the last one runs
	Confirm  *Confirm `json:"confirm,omitempty"`
}

// kept is a version with the digest of its file, so that a damaged one is told
// from one that says something else.
type kept struct {
	Version
	SHA256 string `json:"sha256"`
}

func (s *state) last() kept { return s.Versions[len(s.Versions)-1] }

// check refuses a state that no commit wrote.
func (s *state) check() error {
	if len(s.Versions) == 0 {
		return errors.New("it names no version")
	}
	for i, v := range s.Versions {
		if v.Number < 1 || i > 0 && v.Number <= s.Versions[i-1].Number {
			return fmt.Errorf("version %d is out of order", v.Number)
		}
	}
	return nil
}

// readState reads which version runs, and that version; or makes version 1.
func (s *Store) readState(imported string) error {
	raw, rev, err := s.backend.Get(stateKey)
	if errors.Is(err, ErrNoValue) {
		return s.begin(imported)
	} else if err != nil {
		return fmt.Errorf("reading the configuration's state: %w", err)
	}
	if err := json.Unmarshal(raw, &s.state); err != nil {
		return fmt.Errorf("reading the configuration's state: %s is damaged: %w; restore the gateway from a backup", s.backend.Name(stateKey), err)
	}
	if err := s.state.check(); err != nil {
		return fmt.Errorf("reading the configuration's state: %s is damaged: %w; restore the gateway from a backup", s.backend.Name(stateKey), err)
	}
	s.stateRev = rev
	s.running, err = s.readVersion(s.state.last())
	return err
}

// begin makes version 1 of a file, or of the default.
func (s *Store) begin(imported string) error {
	root, meta := config.Default(), Meta{Admin: "system", Description: "first start", At: s.now()}
	if imported != "" {
		raw, err := os.ReadFile(imported)
		switch {
		case err == nil:
			if root, err = config.Decode(raw); err != nil {
				return fmt.Errorf("%s: %w", imported, err)
			}
			meta.Description = "imported from " + imported
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("reading the configuration: %w", err)
		}
	}
	_, err := s.commit(context.Background(), meta, root, time.Time{})
	return err
}

func (s *Store) readVersion(v kept) (*config.Node, error) {
	raw, _, err := s.backend.Get(versionKey(v.Number))
	if err != nil {
		return nil, fmt.Errorf("reading version %d of the configuration: %w", v.Number, err)
	}
	if digest(raw) != v.SHA256 {
		return nil, fmt.Errorf("reading version %d of the configuration: %s is not as it was written; restore it from a backup", v.Number, s.backend.Name(versionKey(v.Number)))
	}
	root, err := config.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("reading version %d of the configuration: %w", v.Number, err)
	}
	return root, nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Commit makes root the running configuration, under the next number. The
// candidate stays as it is, with edits that were made meanwhile. Where
// confirmBy is not zero, the version waits to be confirmed until then; a commit
// without one confirms what waited. An error leaves everything as it was, though
// a crash right afterwards may find the version running.
func (s *Store) Commit(ctx context.Context, meta Meta, root *config.Node, confirmBy time.Time) (Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(ctx, meta, root, confirmBy)
}

func (s *Store) commit(ctx context.Context, meta Meta, root *config.Node, confirmBy time.Time) (Version, error) {
	if err := s.settle(ctx); err != nil {
		return Version{}, err
	}
	next := state{Versions: slices.Clone(s.state.Versions)}
	v := Version{Number: 1, Admin: meta.Admin, Description: meta.Description, From: meta.From, At: meta.At.UTC()}
	if n := len(next.Versions); n > 0 {
		last := next.Versions[n-1].Number
		v.Number = last + 1
		if !confirmBy.IsZero() {
			// What waits already goes back to what was before it, not to itself.
			next.Confirm = &Confirm{Version: v.Number, Previous: last, Deadline: confirmBy.UTC(), Admin: meta.Admin}
			if s.state.Confirm != nil {
				next.Confirm.Previous = s.state.Confirm.Previous
			}
		}
	}
	raw := config.Encode(root)
	// A version that a crash left without a state that names it is replaced.
	_, rev, err := s.backend.Get(versionKey(v.Number))
	if err != nil && !errors.Is(err, ErrNoValue) {
		return Version{}, fmt.Errorf("writing version %d of the configuration: %w", v.Number, err)
	}
	if _, err := s.backend.Swap(ctx, versionKey(v.Number), rev, raw); err != nil {
		return Version{}, fmt.Errorf("writing version %d of the configuration: %w", v.Number, err)
	}
	next.Versions = append(next.Versions, kept{v, digest(raw)})
	gone := next.prune(s.keep)
	if err := s.writeState(ctx, next); err != nil {
		return Version{}, err
	}
	for _, n := range gone {
		if err := s.backend.Delete(versionKey(n)); err != nil {
			s.log.Warn("removing an old version of the configuration", "version", n, "err", err)
		}
	}
	s.running = root
	s.tell(RunningChanged)
	return v, nil
}

// prune takes out the oldest versions beyond the number that is kept, and
// returns their numbers. What a commit may go back to stays.
func (s *state) prune(keep int) []int {
	var gone []int
	total, last := len(s.Versions), s.last().Number
	s.Versions = slices.DeleteFunc(s.Versions, func(v kept) bool {
		if total-len(gone) <= keep || v.Number == last || s.Confirm != nil && v.Number == s.Confirm.Previous {
			return false
		}
		gone = append(gone, v.Number)
		return true
	})
	return gone
}

// writeState replaces the state. Where that fails the stored one may be either,
// and is made the old one again.
func (s *Store) writeState(ctx context.Context, next state) error {
	if err := s.swapState(ctx, next); err != nil {
		s.doubt = true
		return errors.Join(err, s.settle(context.WithoutCancel(ctx)))
	}
	s.state = next
	return nil
}

// settle makes the stored state the one that is known. While it may be another,
// no version is written: it might be one that the other names.
func (s *Store) settle(ctx context.Context) error {
	if !s.doubt || len(s.state.Versions) == 0 {
		return nil
	}
	if err := s.swapState(ctx, s.state); err != nil {
		return err
	}
	s.doubt = false
	return nil
}

func (s *Store) swapState(ctx context.Context, next state) error {
	raw, err := json.MarshalIndent(next, "", " ")
	if err != nil {
		return err
	}
	rev, err := s.backend.Swap(ctx, stateKey, s.stateRev, append(raw, '\n'))
	if err != nil {
		return fmt.Errorf("writing the configuration's state: %w", err)
	}
	s.stateRev = rev
	return nil
}

// Pending returns the commit that waits to be confirmed.
func (s *Store) Pending() (Confirm, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Confirm == nil {
		return Confirm{}, false
	}
	return *s.state.Confirm, true
}

// Confirm keeps the commit that waits; ErrNothingPending where none does.
func (s *Store) Confirm(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Confirm == nil {
		return ErrNothingPending
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	next := s.state
	next.Confirm = nil
	if err := s.writeState(ctx, next); err != nil {
		return err
	}
	s.tell(RunningChanged)
	return nil
}
