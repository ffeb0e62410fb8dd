package store

import (
	"errors"
	"fmt"
)

// Errors that callers branch on.
var (
	// ErrNotFound: there is no such record, partition or object.
	ErrNotFound = errors.New("not found")
	// ErrExists: a partition with this ID is there already.
	ErrExists = errors.New("already exists")
	// ErrDeleted: the object's ID was used by an object that was destroyed,
	// and is never used again.
	ErrDeleted = errors.New("was deleted")
	// ErrRootKey: the root key is not the one that the store was made with.
	ErrRootKey = errors.New("root key does not fit this store")
	// ErrFormat: the file is not a store, or of a format that is not known.
	ErrFormat = errors.New("format is not known")
	// ErrTampered is matched by every *TamperedError.
	ErrTampered = errors.New("tampered with")
)

// A TamperedError names a record that is not what this store wrote there last:
// changed, moved, copied from elsewhere, taken away or put back to an older
// version. It matches ErrTampered.
type TamperedError struct {
	Record string // which, in words
	Reason string
}

func (e *TamperedError) Error() string { return e.Record + " " + e.Reason }

func (e *TamperedError) Is(target error) bool { return target == ErrTampered }

const (
	doesNotOpen = "does not open: it was changed or moved, or the key is another; restore the store from a backup"
	malformed   = "is malformed; restore the store from a backup"
	rolledBack  = "is not the version that was written last; restore the store from a backup"
)

func tampered(reason, format string, args ...any) error {
	return &TamperedError{Record: fmt.Sprintf(format, args...), Reason: reason}
}
