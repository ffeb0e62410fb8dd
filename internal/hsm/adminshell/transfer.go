package adminshell

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// fileStep is one act on the one file that the caller's command line names. The
// HSM begins with create or open; write, commit and abort follow the one, read
// and close the other. Each step is answered before the next, so that neither
// side holds more than a piece of the file.
type fileStep struct {
	Do   string `json:"do"`
	Path string `json:"path,omitempty"` // of create and open: as the caller wrote it
	Data []byte `json:"data,omitempty"` // of write
}

const (
	doCreate = "create"
	doWrite  = "write"
	doCommit = "commit"
	doAbort  = "abort"
	doOpen   = "open"
	doRead   = "read"
	doClose  = "close"
)

// fileAnswer is the caller's answer to a step.
type fileAnswer struct {
	Error string `json:"error,omitempty"` // why the step failed
	Data  []byte `json:"data,omitempty"`  // of read
	End   bool   `json:"end,omitempty"`   // of read: there is no more
}

const (
	// maxPiece bounds the data of one step in bytes; base64 makes four of three.
	maxPiece = 64 << 10
	// stepTime is how long one step may take: a disk may be slow, and a caller
	// that was stopped must not keep the HSM's transaction open for ever.
	stepTime = time.Minute
)

// step does one step. A terminal whose socket failed stays broken.
func (t *localTerminal) step(step fileStep) (fileAnswer, error) {
	if err := t.limit(stepTime); err != nil {
		return fileAnswer{}, err
	}
	if err := t.send(message{File: &step}); err != nil {
		return fileAnswer{}, fmt.Errorf("the caller went away: %w", err)
	}
	var a fileAnswer
	if err := t.read(&a); err != nil {
		return fileAnswer{}, fmt.Errorf("the caller went away: %w", err)
	}
	if err := t.limit(0); err != nil {
		return fileAnswer{}, err
	}
	if a.Error != "" {
		return fileAnswer{}, errors.New(a.Error)
	}
	if len(a.Data) > maxPiece || step.Do != doRead && (a.End || len(a.Data) > 0) || step.Do == doRead && !a.End && len(a.Data) == 0 {
		return fileAnswer{}, errors.New("the caller's answer is malformed")
	}
	return a, nil
}

// Create implements Streams.
func (t *localTerminal) Create(path string) (Output, error) {
	if _, err := t.step(fileStep{Do: doCreate, Path: path}); err != nil {
		return nil, err
	}
	return &sentFile{t: t}, nil
}

// Open implements Streams.
func (t *localTerminal) Open(path string) (io.ReadCloser, error) {
	if _, err := t.step(fileStep{Do: doOpen, Path: path}); err != nil {
		return nil, err
	}
	return &receivedFile{t: t}, nil
}

// sentFile is a file that the caller makes. What it writes is gathered into
// pieces. After an error it stays broken.
type sentFile struct {
	t     *localTerminal
	piece []byte
	err   error
}

func (f *sentFile) Write(p []byte) (int, error) {
	for written := 0; written < len(p); {
		if f.err != nil {
			return written, f.err
		}
		n := min(len(p)-written, maxPiece-len(f.piece))
		f.piece = append(f.piece, p[written:written+n]...)
		written += n
		if len(f.piece) == maxPiece {
			f.flush()
		}
	}
	return len(p), f.err
}

func (f *sentFile) flush() {
	if f.err == nil && len(f.piece) > 0 {
		_, f.err = f.t.step(fileStep{Do: doWrite, Data: f.piece})
		f.piece = f.piece[:0]
	}
}

func (f *sentFile) Commit() error {
	f.flush()
	if f.err != nil {
		f.Abort()
		return f.err
	}
	_, err := f.t.step(fileStep{Do: doCommit})
	return err
}

func (f *sentFile) Abort() {
	// Where the socket is broken, the caller notices by itself.
	_, _ = f.t.step(fileStep{Do: doAbort})
}

// receivedFile is a file that the caller reads.
type receivedFile struct {
	t     *localTerminal
	piece []byte
	err   error // io.EOF after the last piece
}

func (f *receivedFile) Read(p []byte) (int, error) {
	for len(f.piece) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		a, err := f.t.step(fileStep{Do: doRead})
		if f.piece = a.Data; err != nil {
			f.err = err
		} else if a.End {
			f.err = io.EOF
		}
	}
	n := copy(p, f.piece)
	f.piece = f.piece[n:]
	return n, nil
}

func (f *receivedFile) Close() error {
	if f.err != nil && !errors.Is(f.err, io.EOF) {
		return nil // it was told
	}
	_, err := f.t.step(fileStep{Do: doClose})
	return err
}
