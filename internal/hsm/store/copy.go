package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// WriteTo writes a copy of the store's file as it is at one moment, while it is
// in use: a store of its own, which the same root key opens. Until it returns,
// what is overwritten meanwhile keeps its space in the file; Erase waits for
// it.
func (s *Store) WriteTo(w io.Writer) (int64, error) {
	var n int64
	kept := &keepingWriter{w: w}
	err := s.View(func(tx *Tx) (err error) {
		n, err = tx.btx.WriteTo(kept)
		return err
	})
	if kept.err != nil { // bbolt passes on its text alone
		err = kept.err
	}
	if err != nil {
		return n, fmt.Errorf("copying store: %w", err)
	}
	return n, nil
}

// keepingWriter keeps its error.
type keepingWriter struct {
	w   io.Writer
	err error
}

func (k *keepingWriter) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	k.err = err
	return n, err
}

// Scratch returns an empty file on the store's file system that nobody else can
// open and that is gone when it is closed, for what is being put together.
func (s *Store) Scratch() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, "."+filepath.Base(FileName)+"-scratch-*")
	if err != nil {
		return nil, fmt.Errorf("making a scratch file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errorsOf(fmt.Errorf("making a scratch file: %w", err), f.Close())
	}
	return f, nil
}
