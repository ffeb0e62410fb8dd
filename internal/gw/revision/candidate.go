package revision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"moongate/internal/gw/config"
)

// foldAfter is how many edits are kept beside the stored candidate before it is
// stored anew: a start reads them all again, and storing ten thousand rules
// takes a hundred times as long as storing an edit.
const foldAfter = 128

func editKey(n uint64) string { return candidateKey + "/" + strconv.FormatUint(n, 10) }

// Candidate returns the candidate, and the number of its last edit.
func (s *Store) Candidate() (root *config.Node, rev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.candidate, s.edits
}

// Edit changes the candidate by all edits or by none, and returns the number
// that it has then. Where rev is not 0, it must be the candidate's: ErrConflict
// is wrapped otherwise. Errors of an edit are config.Apply's.
func (s *Store) Edit(ctx context.Context, rev uint64, edits ...config.Edit) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev != 0 && rev != s.edits {
		return s.edits, fmt.Errorf("%w: the candidate is at edit %d, not %d", ErrConflict, s.edits, rev)
	}
	if s.unsure {
		if err := s.fold(ctx); err != nil {
			return s.edits, err
		}
	}
	root := s.candidate
	for _, e := range edits {
		var err error
		if root, err = config.Apply(root, e); err != nil {
			return s.edits, err
		}
	}
	raw, err := json.Marshal(edits)
	if err != nil {
		return s.edits, err
	}
	key := editKey(s.edits + 1)
	if _, err := s.backend.Swap(ctx, key, 0, raw); err != nil {
		// Whether it is there is not known: it must not be found by the next start.
		return s.edits, errors.Join(fmt.Errorf("storing an edit: %w", err), s.backend.Delete(key))
	}
	s.edits++
	s.candidate = root
	if s.edits-s.base >= foldAfter {
		if err := s.fold(ctx); err != nil {
			s.log.Warn("storing the candidate; its edits are kept", "err", err)
		}
	}
	s.tell(CandidateChanged)
	return s.edits, nil
}

// Replace makes another tree the candidate. An error leaves it as it was, though
// a crash right afterwards may bring the other.
func (s *Store) Replace(ctx context.Context, root *config.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.candidate
	s.candidate = root
	s.edits++
	if err := s.fold(ctx); err != nil {
		// What is stored may be either, under the new number: no edit may
		// follow before it is the old one again.
		s.candidate, s.unsure = before, true
		return errors.Join(err, s.fold(context.WithoutCancel(ctx)))
	}
	s.tell(CandidateChanged)
	return nil
}

// fold stores the candidate whole, and removes the edits that are in it.
func (s *Store) fold(ctx context.Context) error {
	rev, err := s.backend.Swap(ctx, candidateKey, s.baseRev, encodeCandidate(s.edits, s.candidate))
	if err != nil {
		return fmt.Errorf("storing the candidate: %w", err)
	}
	before := s.base
	s.base, s.baseRev, s.unsure = s.edits, rev, false
	for n := before + 1; n <= s.edits; n++ {
		if err := s.backend.Delete(editKey(n)); err != nil {
			s.log.Warn("removing an edit that is stored", "edit", n, "err", err)
		}
	}
	return nil
}

// encodeCandidate writes the number of the last edit on a line, then the tree.
func encodeCandidate(edits uint64, root *config.Node) []byte {
	return append(strconv.AppendUint(nil, edits, 10), append([]byte("\n"), config.Encode(root)...)...)
}

func decodeCandidate(raw []byte) (edits uint64, root *config.Node, err error) {
	line, xml, _ := bytes.Cut(raw, []byte("\n"))
	if edits, err = strconv.ParseUint(string(line), 10, 63); err != nil {
		return 0, nil, errors.New("its first line is no number of an edit")
	}
	root, err = config.Decode(xml)
	return edits, root, err
}

// readCandidate reads the stored candidate and what was done to it since. What
// cannot be read is lost with a word in the log, never the gateway's end: where
// it is the whole candidate, the running configuration takes its place.
func (s *Store) readCandidate() error {
	raw, rev, err := s.backend.Get(candidateKey)
	if err != nil && !errors.Is(err, ErrNoValue) {
		return fmt.Errorf("reading the candidate: %w", err)
	}
	s.baseRev = rev
	if err == nil {
		s.edits, s.candidate, err = decodeCandidate(raw)
		if err != nil {
			s.log.Error("the candidate cannot be read; the running configuration takes its place", "file", s.backend.Name(candidateKey), "cause", err)
		}
	}
	if err != nil {
		s.edits, s.candidate = 0, s.running
		if err := s.fold(context.Background()); err != nil {
			return err
		}
		return s.dropAll()
	}
	s.base = s.edits
	for {
		raw, _, err := s.backend.Get(editKey(s.edits + 1))
		if errors.Is(err, ErrNoValue) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading an edit of the candidate: %w", err)
		}
		if err := s.again(raw); err != nil {
			s.log.Error("an edit of the candidate cannot be made again; it and those after it are lost", "edit", s.edits+1, "cause", err)
			if err := s.fold(context.Background()); err != nil {
				return err
			}
			return s.dropAll()
		}
		s.edits++
	}
}

// again makes a stored edit.
func (s *Store) again(raw []byte) error {
	var edits []config.Edit
	if err := json.Unmarshal(raw, &edits); err != nil {
		return err
	}
	root := s.candidate
	for _, e := range edits {
		var err error
		if root, err = config.Apply(root, e); err != nil {
			return err
		}
	}
	s.candidate = root
	return nil
}

// dropAll removes every stored edit. The candidate is stored whole already, so
// that a crash in between brings none of them back but those that come next:
// they go first.
func (s *Store) dropAll() error {
	keys, err := s.backend.List()
	if err != nil {
		return fmt.Errorf("looking for edits of the candidate: %w", err)
	}
	for i, key := range keys {
		if key == editKey(s.edits+1) {
			keys[0], keys[i] = keys[i], keys[0]
		}
	}
	for _, key := range keys {
		if err := s.backend.Delete(key); err != nil {
			return fmt.Errorf("removing an edit of the candidate: %w", err)
		}
	}
	return nil
}
