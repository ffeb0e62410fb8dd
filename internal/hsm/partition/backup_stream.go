package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"moongate/internal/hsm/store"
)

// A backup's payload is a stream of chunks, each sealed by itself and bound to
// its number and to whether it is the last (STREAM, https://eprint.iacr.org/2015/189,
// as in age): one that is changed, moved, taken away, doubled or appended does
// not open, and memory is bounded by a chunk. A chunk is 64 KiB sealed, only the
// last one is shorter; it is empty only where the payload is.

const (
	chunkSize     = 64 << 10
	chunkOverhead = 28 // see store.Seal
)

// chunkContext binds a chunk: its number from 0 (uint64), and 1 for the last.
func chunkContext(n uint64, last bool) []byte {
	b := binary.BigEndian.AppendUint64([]byte("moongate hsm backup chunk: "), n)
	if last {
		return append(b, 1)
	}
	return append(b, 0)
}

// chunkWriter seals what is written to it. It stays broken after an error.
type chunkWriter struct {
	w    io.Writer
	key  *[32]byte
	next uint64
	buf  []byte // less than a chunk, or one that may be the last
	err  error
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 && c.err == nil {
		if len(c.buf) == chunkSize {
			c.flush(false)
			continue
		}
		n := min(len(p), chunkSize-len(c.buf))
		c.buf = append(c.buf, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, c.err
}

// Close writes the last chunk; it does not close the writer below.
func (c *chunkWriter) Close() error {
	if c.err != nil {
		return c.err
	}
	c.flush(true)
	if c.err != nil {
		return c.err
	}
	c.err = errors.New("the backup is complete")
	return nil
}

func (c *chunkWriter) flush(last bool) {
	_, c.err = c.w.Write(store.Seal(c.key, chunkContext(c.next, last), c.buf))
	clear(c.buf)
	c.buf = c.buf[:0]
	c.next++
}

// chunkReader opens what a chunkWriter sealed. It returns io.EOF only after
// the last chunk and the end of the file behind it, and stays broken after any
// other error.
type chunkReader struct {
	r    io.Reader
	key  *[32]byte
	next uint64
	left []byte // of the chunk that was opened last
	done bool   // it was the last chunk
	err  error
	raw  []byte // a sealed chunk
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.left) == 0 && c.err == nil {
		c.fill()
	}
	if len(c.left) == 0 {
		return 0, c.err
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// fill opens the next chunk.
func (c *chunkReader) fill() {
	if c.done {
		c.err = io.EOF
		return
	}
	if c.raw == nil {
		c.raw = make([]byte, chunkSize+chunkOverhead)
	}
	n, err := io.ReadFull(c.r, c.raw)
	switch {
	case err == io.EOF:
		c.err = refuseBackup("it is cut off after chunk %d: the end is missing", c.next)
		return
	case err != nil && err != io.ErrUnexpectedEOF:
		c.err = fmt.Errorf("reading the backup: %w", err)
		return
	}
	plaintext, ok := []byte(nil), false
	if err == nil { // a whole chunk
		plaintext, ok = store.Unseal(c.key, chunkContext(c.next, false), c.raw)
	}
	if !ok {
		plaintext, ok = store.Unseal(c.key, chunkContext(c.next, true), c.raw[:n])
		c.done = ok
	}
	if !ok {
		c.err = refuseBackup("chunk %d does not open: it was changed, cut off, or is out of its order", c.next)
		return
	}
	if c.done && c.more() {
		c.err = refuseBackup("something follows its end; it may be two files in one")
		return
	}
	if len(plaintext) == 0 && c.next > 0 {
		c.err = refuseBackup("its last chunk is empty")
		return
	}
	c.left = plaintext
	c.next++
}

// more reports whether anything follows.
func (c *chunkReader) more() bool {
	var b [1]byte
	n, err := io.ReadFull(c.r, b[:])
	return n > 0 || err != io.EOF
}
