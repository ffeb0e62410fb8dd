package audit

import (
	"log/slog"
	"time"
)

// Options of a log. Origin and Logger are required.
type Options struct {
	// Origin names the log in its checkpoints and keys, for as long as it
	// lives: "moongate-hsm/<serial>". No white space and no "+".
	Origin string
	Logger *slog.Logger

	// Anchor tells, for each checkpoint that is signed, how far another store
	// of the same host has come: a number that never falls, of what is
	// permanent there. See [Log.Anchor]. It is called while nobody can record,
	// and must return at once: a store whose lock is held by a caller of
	// AppendDurable keeps the number in an atomic variable. Nil repeats the
	// newest anchor that the log has.
	Anchor func() uint64

	SyncInterval       time.Duration    // longest wait of a written record for its fsync; default 100 ms
	CheckpointInterval time.Duration    // between checkpoints of a log that grows; default 10 s
	Now                func() time.Time // default time.Now

	// AcceptLoss is the operator's word that a log which Open refuses with a
	// *LossError shall be put aside, in a directory lost.NNNNNN within the
	// log's, and be followed by a new one with a new key, whose first record
	// says so. It changes nothing when the log is sound.
	AcceptLoss bool

	// For tests; the zero values are the defaults.
	disk         disk
	segmentBytes int64         // instead of the policy's
	signInterval time.Duration // least time between two checkpoints on demand; default 1 s
	retry        time.Duration // between attempts to write again; default 1 s
}
