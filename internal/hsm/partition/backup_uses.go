package partition

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// usesOf returns a partition's counters of keys' uses, by shard.
func usesOf(tx *store.Tx, partition object.ID) ([shards][]byte, error) {
	var uses [shards][]byte
	for i := range uses {
		raw, err := tx.Record(kindUses, shardKey(partition, i))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return uses, fmt.Errorf("reading use counters: %w", err)
		}
		uses[i] = raw
	}
	return uses, nil
}

// restoreUses writes a backup's counters, the higher one where there is one:
// what was counted happened.
func restoreUses(tx *store.Tx, partition object.ID, uses *[shards][]byte) error {
	there, err := usesOf(tx, partition)
	if err != nil {
		return err
	}
	for i := range uses {
		merged, err := higherUses(i, uses[i], there[i])
		if err != nil {
			return fmt.Errorf("restoring use counters: %w", err)
		}
		if err := putUses(tx, shardKey(partition, i), merged); err != nil {
			return err
		}
	}
	return nil
}

func higherUses(shard int, a, b []byte) ([]byte, error) {
	first, err := decodeUses(shard, a)
	if err != nil {
		return nil, err
	}
	second, err := decodeUses(shard, b)
	if err != nil {
		return nil, err
	}
	// By key, and of one key the higher count first: that one stays.
	all := slices.SortedFunc(slices.Values(append(first, second...)), func(a, b useCount) int {
		if by := bytes.Compare(a.id[:], b.id[:]); by != 0 {
			return by
		}
		return cmp.Compare(b.count, a.count)
	})
	return appendUses(nil, slices.CompactFunc(all, func(a, b useCount) bool { return a.id == b.id })), nil
}
