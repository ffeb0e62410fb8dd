package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// How often each key was used is counted in memory and written every few
// seconds, so that a use costs two atomic operations and no transaction. What
// the last seconds counted can be lost by a kill; the audit log is exact.
//
// The counters are administrative records, and no part of the objects: a use
// is no change of an object, and moves no change sequence.

const (
	// kindUses are counters, by the partition's ID and the shard's number.
	kindUses = "uses"
	// shards split a partition's counters by their keys' IDs, so that writing
	// one writes few others, and the largest partition's fit into records.
	shards = 64
	// useSize is a counter in a record: its key's ID, its count (uint64).
	useSize = len(object.ID{}) + 8
)

// counter counts one key's uses. It stays the same for the life of the
// process, whatever changes of the object.
type counter struct {
	atomic.Uint64
	dirty *atomic.Bool // its shard's
}

// used counts one more use. Whoever writes the shard takes the mark away
// first and reads the count then, so that no use stays unmarked.
func (c *counter) used() {
	if c == nil {
		return
	}
	c.Add(1)
	if !c.dirty.Load() {
		c.dirty.Store(true)
	}
}

// usage holds a partition's counters. They are read when the partition is
// first unlocked and stay in memory when it is locked: they are no secret, and
// a use may end after the last logout.
type usage struct {
	saving sync.Mutex // held while they are written, so that no older count is written last

	mu     sync.Mutex // guards what follows; nothing else is taken while it is held
	loaded bool
	shards [shards]map[object.ID]*counter

	dirty [shards]atomic.Bool // since they were written last

	// hurry has them written soon; the partition's mu guards it.
	hurry func()
}

func shardOf(id object.ID) int { return int(id[0]) % shards }

func shardKey(partition object.ID, shard int) string {
	return fmt.Sprintf("%v/%02x", partition, shard)
}

// counter returns a key's counter, at 0 for a new one.
func (u *usage) counter(id object.ID) *counter {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counterLocked(id)
}

func (u *usage) counterLocked(id object.ID) *counter {
	i := shardOf(id)
	if u.shards[i] == nil {
		u.shards[i] = map[object.ID]*counter{}
	}
	c := u.shards[i][id]
	if c == nil {
		c = &counter{dirty: &u.dirty[i]}
		u.shards[i][id] = c
	}
	return c
}

// forget drops the counter of a destroyed key.
func (u *usage) forget(id object.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forgetLocked(id)
}

func (u *usage) forgetLocked(id object.ID) {
	i := shardOf(id)
	if c := u.shards[i][id]; c != nil && c.Load() > 0 {
		u.dirty[i].Store(true)
	}
	delete(u.shards[i], id)
}

// load reads the counters, once: later ones in memory are newer.
func (u *usage) load(tx *store.Tx, partition object.ID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.loaded {
		return nil
	}
	for i := range shards {
		raw, err := tx.Record(kindUses, shardKey(partition, i))
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return fmt.Errorf("reading use counters: %w", err)
		}
		counts, err := decodeUses(i, raw)
		if err != nil {
			return fmt.Errorf("reading use counters: %w", err)
		}
		for _, c := range counts {
			u.counterLocked(c.id).Store(c.count)
		}
	}
	u.loaded = true
	return nil
}

// retain drops the counters of all keys but those that are there: what was
// destroyed while its counter was being written.
func (u *usage) retain(objects map[object.ID]*entry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, shard := range u.shards {
		for id := range shard {
			if objects[id] == nil {
				u.forgetLocked(id)
			}
		}
	}
}

// save writes the shards in which something was counted since the last time;
// where there is none, it does nothing.
func (u *usage) save(st *store.Store, partition object.ID) error {
	u.saving.Lock()
	defer u.saving.Unlock()
	var changed []int
	for i := range u.dirty {
		if u.dirty[i].Load() {
			changed = append(changed, i)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	records := make([][]byte, len(changed))
	u.mu.Lock()
	for n, i := range changed {
		u.dirty[i].Store(false)
		records[n] = u.encode(i)
	}
	u.mu.Unlock()
	err := st.Update(func(tx *store.Tx) error {
		if _, err := loadPartition(tx, partition); object.CodeOf(err) == object.ErrObjectNotFound {
			return nil // it was deleted, its counters too
		} else if err != nil {
			return err
		}
		for n, i := range changed {
			if err := putUses(tx, shardKey(partition, i), records[n]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, i := range changed {
			u.dirty[i].Store(true)
		}
		return fmt.Errorf("writing use counters: %w", err)
	}
	return nil
}

func putUses(tx *store.Tx, key string, record []byte) error {
	if len(record) > 0 {
		return tx.PutRecord(kindUses, key, record)
	}
	if err := tx.DeleteRecord(kindUses, key); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// deleteUses removes the counters of a partition that is deleted.
func deleteUses(tx *store.Tx, partition object.ID) error {
	for i := range shards {
		if err := putUses(tx, shardKey(partition, i), nil); err != nil {
			return err
		}
	}
	return nil
}

type useCount struct {
	id    object.ID
	count uint64
}

// encode needs mu. A shard is its counters that are not 0, by key: ID (16
// bytes) and count (uint64, big-endian).
func (u *usage) encode(shard int) []byte {
	var counts []useCount
	for id, c := range u.shards[shard] {
		if n := c.Load(); n > 0 {
			counts = append(counts, useCount{id, n})
		}
	}
	slices.SortFunc(counts, func(a, b useCount) int { return bytes.Compare(a.id[:], b.id[:]) })
	return appendUses(nil, counts)
}

func appendUses(b []byte, counts []useCount) []byte {
	for _, c := range counts {
		b = append(b, c.id[:]...)
		b = binary.BigEndian.AppendUint64(b, c.count)
	}
	return b
}

var errUses = errors.New("the record is malformed; restore the store from a backup")

// decodeUses refuses every encoding but the one that encode makes.
func decodeUses(shard int, b []byte) ([]useCount, error) {
	if len(b)%useSize != 0 {
		return nil, errUses
	}
	counts := make([]useCount, 0, len(b)/useSize)
	for ; len(b) > 0; b = b[useSize:] {
		c := useCount{object.ID(b), binary.BigEndian.Uint64(b[len(object.ID{}):])}
		if c.count == 0 || shardOf(c.id) != shard {
			return nil, errUses
		}
		if n := len(counts); n > 0 && bytes.Compare(counts[n-1].id[:], c.id[:]) >= 0 {
			return nil, errUses
		}
		counts = append(counts, c)
	}
	return counts, nil
}

// useKeeper writes the counters of all partitions from time to time.
type useKeeper struct {
	soon    chan struct{} // holds one token: do not wait for the time
	stop    chan struct{}
	stopped chan struct{}
}

func (k *useKeeper) start(h *HSM, every time.Duration) {
	k.soon, k.stop, k.stopped = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go k.run(h, every)
}

func (k *useKeeper) run(h *HSM, every time.Duration) {
	defer close(k.stopped)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for failing := false; ; {
		select {
		case <-ticker.C:
		case <-k.soon:
		case <-k.stop:
			return
		}
		err := h.saveUses()
		if err != nil && !failing {
			h.log.Error("how often keys were used cannot be written; what is not written is lost when the HSM stops", "err", err)
		}
		failing = err != nil
	}
}

// hurry has the counters written now, by the keeper.
func (k *useKeeper) hurry() {
	select {
	case k.soon <- struct{}{}:
	default:
	}
}

func (k *useKeeper) close(h *HSM) error {
	close(k.stop)
	<-k.stopped
	return h.saveUses()
}

// saveUses writes what was counted since it was called last.
func (h *HSM) saveUses() error {
	h.mu.RLock()
	list := make([]*partition, 0, len(h.partitions))
	for _, p := range h.partitions {
		list = append(list, p)
	}
	h.mu.RUnlock()
	var errs []error
	for _, p := range list {
		if err := p.uses.save(h.store, p.id); err != nil {
			errs = append(errs, fmt.Errorf("partition %s: %w", p.label, err))
		}
	}
	return errors.Join(errs...)
}
