package store

import (
	"fmt"
	"runtime/debug"
)

// bbolt maps the file into memory and trusts its pages, which is why checkPages
// looks at them first. What goes wrong all the same, because the disk cannot
// read a page or the file is changed or cut while it is in use, makes bbolt panic
// or fault; it is an error here as far as it can be caught.

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
