package partition

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/replica"
	"moongate/internal/hsm/store"
)

// states are what an unlocked partition may be compared by, of every object and
// every destroyed one. They follow the store by its change sequence, whenever
// they are asked for: whoever changes an object or uses a key does nothing for
// them. It takes one reading of every object, of the first who asks after the
// partition was unlocked.
type states struct {
	mu       sync.Mutex
	key      *[32]byte // the domain's, for this alone; nil at first
	sequence uint64    // of the last change that is in what follows
	of       map[object.ID]*object.ObjectState

	objects, tombstones uint64
	// sum is the exclusive or of a MAC of each state, so that one is put in or
	// taken out without reading the others.
	sum [32]byte
}

func newStates() *states { return &states{of: map[object.ID]*object.ObjectState{}} }

// digestKey is the key of what partitions of one domain are compared by.
func (h *HSM) digestKey() (*[32]byte, error) {
	secret, err := h.domain()
	if err != nil {
		return nil, fmt.Errorf("reading the domain secret: %w", err)
	}
	defer clear(secret)
	return domainKey(secret, nil, "digest")
}

// withStates runs do on the states as they are in tx.
func (p *partition) withStates(h *HSM, do func(*store.Tx, *states) error) error {
	p.mu.RLock()
	if p.key == nil {
		p.mu.RUnlock()
		return object.Errorf(object.ErrNotLoggedIn, "nobody is logged in to partition %s", p.label)
	}
	key, s := *p.key, p.states
	p.mu.RUnlock()
	defer clear(key[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		fresh, err := h.digestKey()
		if err != nil {
			return err
		}
		s.key = fresh
	}
	err := h.store.View(func(tx *store.Tx) error {
		if err := s.follow(tx, p.id, &key); err != nil {
			return err
		}
		return do(tx, s)
	})
	if err != nil && p.deleted.Load() {
		return errGone
	}
	return err
}

// follow takes in what changed. It may be ended by an error at any point, and
// begun again.
func (s *states) follow(tx *store.Tx, p object.ID, key *store.PartitionKey) error {
	sequence, err := tx.Sequence(p)
	if err != nil || sequence == s.sequence {
		return err
	}
	mac := hmac.New(sha256.New, s.key[:])
	for change, err := range tx.ChangesSince(p, s.sequence) {
		if err != nil {
			return err
		}
		state := &object.ObjectState{ID: change.ID, Sequence: change.Sequence, Deleted: change.Deleted, At: tellable(change.At)}
		if !change.Deleted {
			it, err := tx.Item(p, key, change.ID)
			if err != nil {
				return err
			}
			state.Stamp, state.Vector, state.Content = it.Stamp, it.Vector, contentOf(mac, it)
			clear(it.Secret)
		}
		s.put(mac, state)
	}
	s.sequence = sequence
	return nil
}

// tellable is the nearest time that the wire has words for, 1970 to 9999: when an
// object was destroyed is what some HSM's clock said, and keeps nobody from
// comparing partitions.
func tellable(at time.Time) time.Time {
	first, last := time.Unix(1, 0).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	switch {
	case at.IsZero(): // of what is there
		return at
	case at.Before(first):
		return first
	case at.After(last):
		return last
	}
	return at
}

func (s *states) put(mac hash.Hash, state *object.ObjectState) {
	if old := s.of[state.ID]; old != nil {
		s.flip(mac, old)
		s.count(old, ^uint64(0))
	}
	s.of[state.ID] = state
	s.flip(mac, state)
	s.count(state, 1)
}

func (s *states) count(state *object.ObjectState, n uint64) {
	if state.Deleted {
		s.tombstones += n
	} else {
		s.objects += n
	}
}

func (s *states) flip(mac hash.Hash, state *object.ObjectState) {
	b := append([]byte("state"), state.ID[:]...)
	if state.Deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
		b = replica.History{Stamp: state.Stamp, Vector: state.Vector}.Append(b)
		b = append(b, state.Content[:]...)
	}
	mac.Reset()
	mac.Write(b)
	var sum [32]byte
	for i, c := range mac.Sum(sum[:0]) {
		s.sum[i] ^= c
	}
}

// contentOf is what an object holds, as two partitions compare it: its
// attributes and its secret.
func contentOf(mac hash.Hash, it *replica.Item) (sum [32]byte) {
	mac.Reset()
	mac.Write(it.Attributes.Append([]byte("content")))
	mac.Write(it.Secret)
	mac.Sum(sum[:0])
	return sum
}

// Digest says in 32 bytes what the partition holds. While nothing changes it
// costs one look at the change sequence.
func (s *Session) Digest(_ context.Context, op object.OperationID) (object.ReplicaDigest, error) {
	if err := permit(s.as(), actDigest, nil); err != nil {
		return object.ReplicaDigest{}, s.refuse(s.event(actDigest, op), err)
	}
	var d object.ReplicaDigest
	err := s.p.withStates(s.h, func(tx *store.Tx, st *states) error {
		record, err := loadReplication(tx, s.p.id)
		if err != nil {
			return err
		}
		g, err := record.group()
		d = object.ReplicaDigest{Sequence: st.sequence, Objects: st.objects, Tombstones: st.tombstones, Sum: st.sum, Epoch: g.Epoch}
		return err
	})
	return d, err
}

// Changes lists objects by their last change, from the first after the sequence
// after; more says that there are others than these.
func (s *Session) Changes(_ context.Context, op object.OperationID, after uint64, limit int) (list []object.ObjectState, more bool, err error) {
	if err := permit(s.as(), actChanges, nil); err != nil {
		return nil, false, s.refuse(s.event(actChanges, op), err)
	}
	if limit < 1 || limit > object.MaxChanges {
		return nil, false, object.Errorf(object.ErrArgumentsBad, "%d changes asked for; expected 1 to %d", limit, object.MaxChanges)
	}
	err = s.p.withStates(s.h, func(tx *store.Tx, st *states) error {
		list, more = nil, false
		for change, err := range tx.ChangesSince(s.p.id, after) {
			if err != nil {
				return err
			}
			if len(list) == limit {
				more = true
				return nil
			}
			list = append(list, *st.of[change.ID])
		}
		return nil
	})
	return list, more, err
}
