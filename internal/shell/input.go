package shell

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// maxAhead bounds what is typed ahead of a running command, in bytes. When it
// is full, nothing is read, and Ctrl-C is not seen either.
const maxAhead = 64 << 10

const interrupt = 0x03 // Ctrl-C

// input reads a terminal all the time, so that Ctrl-C is seen while a command
// runs and nobody asks for a line.
type input struct {
	ready chan struct{} // holds one when buf or err changed
	room  chan struct{} // holds one when buf was taken from

	mu     sync.Mutex
	buf    []byte             // typed, not yet taken; guarded by mu
	err    error              // of the reader, after buf; guarded by mu
	cancel context.CancelFunc // of the command that runs and asks nothing; guarded by mu
}

func newInput() *input {
	return &input{ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// pump reads r until it fails or done is closed. Its caller waits for it.
func (in *input) pump(r io.Reader, done <-chan struct{}) {
	chunk := make([]byte, 1024)
	for {
		n, err := r.Read(chunk)
		for rest := in.put(chunk[:n]); len(rest) > 0; rest = in.put(rest) {
			select {
			case <-in.room:
			case <-done:
				return
			}
		}
		if err != nil {
			in.mu.Lock()
			in.err = err
			in.mu.Unlock()
			signal(in.ready)
			return
		}
	}
}

// put keeps what there is room for, and returns the rest.
func (in *input) put(typed []byte) []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := bytes.LastIndexByte(typed, interrupt); i >= 0 && in.cancel != nil {
		in.cancel()
		in.buf, typed = nil, typed[i+1:] // what was typed ahead goes, too
	}
	n := min(len(typed), maxAhead-len(in.buf))
	in.buf = append(in.buf, typed[:n]...)
	signal(in.ready)
	return typed[n:]
}

// take returns the next byte, if one is there. The error is the reader's, after
// everything that it read.
func (in *input) take() (byte, bool, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.buf) == 0 {
		return 0, false, in.err
	}
	b := in.buf[0]
	in.buf = in.buf[1:]
	signal(in.room)
	return b, true, nil
}

// onInterrupt makes Ctrl-C call cancel from now on; nil makes it a key again.
func (in *input) onInterrupt(cancel context.CancelFunc) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cancel = cancel
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
