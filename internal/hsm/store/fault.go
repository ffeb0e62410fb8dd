package store

import (
	"fmt"
	"runtime/debug"
)

// bbolt maps the file into memory and trusts its pages. One that it did not
// write makes it panic, or reach outside the map; one that the disk cannot read
// is a fault of the access. What of this can be caught is an error here; the
// first two pages, and bytes that were changed on purpose, can still end the
// program, never make it accept what it did not write.

// guard makes errors of panics and faults, for what reads a file that nobody
// has checked yet.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: its pages are damaged (%v); restore it from a backup", ErrFormat, r)
		}
	}()
	return fn()
}

// catchFaults makes errors of faults alone: a panic in a transaction belongs to
// its caller.
func catchFaults(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // of a fault, see debug.SetPanicOnFault
			err = fmt.Errorf("reading store: a page of the file is damaged or cannot be read; check the disk, and restore the store from a backup")
		default:
			panic(r)
		}
	}()
	return fn()
}
