package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The reservation is written so far ahead of the log's end that it lasts for
// some seconds, over which a disk that is slow to fsync holds nobody up; the gain
// of a short one is a close estimate of what a crash took.
const (
	minReserve     = 256 // records
	maxReserve     = 1 << 20
	reserveTooSoon = 2 * time.Second
	reserveTooLate = 20 * time.Second
)

// A reservation keeps a number ahead of the log's end on disk, so that after a
// crash it is known how many records can have been lost.
type reservation struct {
	path string
	disk disk

	// limit is on disk: no record at or above it was ever written. It is
	// changed under mu, and read without: nobody waits for the disk who has
	// room.
	limit atomic.Int64

	mu      sync.Mutex
	block   int64 // how far ahead of the end to reserve, adapted to the traffic
	written time.Time
}

// cover makes the reservation reach end, the number of records after a write
// that is about to happen. It seldom has anything to do: prepare was there.
func (r *reservation) cover(end int64) error {
	if end <= r.limit.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if end <= r.limit.Load() {
		return nil
	}
	return r.advance(end)
}

// prepare reserves ahead of end, the number of records now, so that writers
// need not wait.
func (r *reservation) prepare(end int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.limit.Load()-end >= r.block/2 {
		return nil
	}
	return r.advance(end)
}

// release says that the log ended with n records, none in flight.
func (r *reservation) release(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.write(n)
}

// advance reserves a block beyond end. The caller holds mu.
func (r *reservation) advance(end int64) error {
	switch since := time.Since(r.written); {
	case since < reserveTooSoon:
		r.block *= 2
	case since > reserveTooLate:
		r.block /= 2
	}
	r.block = min(max(r.block, minReserve), maxReserve)
	return r.write(end + r.block)
}

// write replaces the file. The caller holds mu.
func (r *reservation) write(limit int64) error {
	if err := r.disk.writeFile(r.path, fmt.Appendf(nil, "%d\n", limit), 0o600); err != nil {
		return fmt.Errorf("reserving audit records: %w", err)
	}
	r.limit.Store(limit)
	r.written = time.Now()
	return nil
}

// readReserved is the number in the file, or -1 if it cannot be told.
func readReserved(dir string) (int64, error) {
	data, err := os.ReadFile(filepath.Join(dir, reservedName))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	} else if err != nil {
		return 0, fmt.Errorf("reading reservation: %w", err)
	}
	digits, whole := strings.CutSuffix(string(data), "\n")
	n, err := strconv.ParseInt(digits, 10, 64)
	if !whole || err != nil || n < 0 {
		return -1, nil
	}
	return n, nil
}
