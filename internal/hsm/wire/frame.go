package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"moongate/internal/hsm/object"
)

// Lengths of the headers, without the length field in front of them.
const (
	lengthSize        = 4
	RequestHeaderSize = 8 + 2 + 4 + 16
	AnswerHeaderSize  = 8 + 4
)

// Request is a request's header.
type Request struct {
	ID        uint64 // the client's choice; unique among its requests in flight
	Op        Op
	Deadline  uint32 // milliseconds that the client will still wait, 0 for no end
	Operation object.OperationID
}

// Answer is an answer's header.
type Answer struct {
	ID   uint64 // the request's
	Code object.Code
}

// BeginRequest appends a frame's start to b. The caller appends the body and
// then calls End with the length that b had before.
func BeginRequest(b []byte, r Request) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, r.ID)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Op))
	b = binary.BigEndian.AppendUint32(b, r.Deadline)
	return append(b, r.Operation[:]...)
}

// BeginAnswer is BeginRequest for answers.
func BeginAnswer(b []byte, a Answer) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, a.ID)
	return binary.BigEndian.AppendUint32(b, uint32(a.Code))
}

// End writes the length of the frame that began at start. It reports whether
// the frame is within MaxFrame; one that is not must be cut off the buffer.
func End(b []byte, start int) bool {
	size := len(b) - start - lengthSize
	if size > MaxFrame {
		return false
	}
	binary.BigEndian.PutUint32(b[start:], uint32(size))
	return true
}

// AppendRefusal appends a whole frame that answers a request with an error.
// The detail is cut to MaxDetail bytes of valid UTF-8.
func AppendRefusal(b []byte, id uint64, code object.Code, detail string) []byte {
	start := len(b)
	b = BeginAnswer(b, Answer{ID: id, Code: code})
	b = append(b, cut(detail, MaxDetail)...)
	End(b, start)
	return b
}

// cut returns the longest prefix of s that is valid UTF-8 and at most limit
// bytes long.
func cut(s string, limit int) string {
	for i, r := range s {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return s[:i]
			}
		}
		if i+size > limit {
			return s[:i]
		}
	}
	return s
}

// DecodeRefusal reads the body of an answer whose code is not OK.
func DecodeRefusal(code object.Code, body []byte) (*object.Error, error) {
	if len(body) > MaxDetail {
		return nil, fmt.Errorf("detail has %d bytes, at most %d", len(body), MaxDetail)
	}
	if !utf8.Valid(body) {
		return nil, errors.New("detail is not UTF-8")
	}
	return &object.Error{Code: code, Detail: string(body)}, nil
}

// ParseRequest splits a frame, without its length field, into header and body.
func ParseRequest(frame []byte) (Request, []byte, error) {
	if len(frame) < RequestHeaderSize {
		return Request{}, nil, fmt.Errorf("request has %d bytes, at least %d", len(frame), RequestHeaderSize)
	}
	r := Request{
		ID:       binary.BigEndian.Uint64(frame),
		Op:       Op(binary.BigEndian.Uint16(frame[8:])),
		Deadline: binary.BigEndian.Uint32(frame[10:]),
	}
	copy(r.Operation[:], frame[14:])
	return r, frame[RequestHeaderSize:], nil
}

// ParseAnswer is ParseRequest for answers.
func ParseAnswer(frame []byte) (Answer, []byte, error) {
	if len(frame) < AnswerHeaderSize {
		return Answer{}, nil, fmt.Errorf("answer has %d bytes, at least %d", len(frame), AnswerHeaderSize)
	}
	a := Answer{ID: binary.BigEndian.Uint64(frame), Code: object.Code(binary.BigEndian.Uint32(frame[8:]))}
	return a, frame[AnswerHeaderSize:], nil
}

// Reader reads frames from a stream. It belongs to one goroutine. Bytes are
// cleared from its buffer as they are taken, so that it keeps no password.
type Reader struct {
	src   io.Reader
	buf   []byte
	r, w  int  // buf[r:w] is read and not taken
	begun bool // a frame's length is taken, not all of its rest
	full  bool // the last read had no more room
	limit uint32
	admit func(head []byte, size int) error
	err   error // a broken stream stays broken
}

const (
	// A buffer begins small, for thousands of connections are idle, and grows
	// for one that is busy to what a TLS record holds: no read brings more.
	firstBuffer = 2 << 10
	readBuffer  = 16 << 10
	// chunk is how much of a long frame is allocated ahead of its arrival.
	chunk = 64 << 10
)

// NewReader returns a Reader that refuses frames longer than limit.
func NewReader(src io.Reader, limit uint32) *Reader {
	return &Reader{src: src, buf: make([]byte, firstBuffer), limit: limit}
}

// SetLimit changes the length that frames may have.
func (d *Reader) SetLimit(limit uint32) { d.limit = limit }

// SetAdmit has f called for each frame that has begun, before memory is taken
// for it, with its length and its first bytes: a request's header, or all of a
// frame that is shorter. An error of f breaks the stream.
func (d *Reader) SetAdmit(f func(head []byte, size int) error) { d.admit = f }

// Idle reports whether nothing of the next frame has been read yet.
func (d *Reader) Idle() bool { return d.r == d.w && !d.begun }

// Next returns the next frame without its length field, in memory of its own.
// At the stream's end between frames the error is io.EOF, and
// io.ErrUnexpectedEOF within one.
func (d *Reader) Next() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	frame, err := d.next()
	d.err = err
	return frame, err
}

func (d *Reader) next() ([]byte, error) {
	if err := d.fill(lengthSize); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(d.buf[d.r:])
	if size > d.limit {
		return nil, fmt.Errorf("frame of %d bytes, at most %d", size, d.limit)
	}
	if d.admit != nil {
		head := min(int(size), RequestHeaderSize)
		if err := d.fill(lengthSize + head); err != nil {
			return nil, err
		}
		if err := d.admit(d.buf[d.r+lengthSize:][:head], int(size)); err != nil {
			return nil, err
		}
	}
	d.r += lengthSize
	d.begun = true
	frame := make([]byte, 0, min(size, chunk))
	for rest := int(size); rest > 0; {
		if d.r == d.w {
			if err := d.fill(1); err != nil {
				return nil, endInside(err)
			}
		}
		n := min(rest, d.w-d.r)
		frame = append(slices.Grow(frame, min(rest, chunk)), d.buf[d.r:d.r+n]...)
		clear(d.buf[d.r : d.r+n])
		d.r += n
		rest -= n
	}
	d.begun = false
	return frame, nil
}

// fill reads until n bytes are in the buffer; n is at most firstBuffer.
func (d *Reader) fill(n int) error {
	if d.w-d.r >= n {
		return nil
	}
	if d.full && d.r == d.w && len(d.buf) < readBuffer {
		d.buf = make([]byte, 2*len(d.buf)) // nothing is left in the old one
	}
	if len(d.buf)-d.r < n || d.r == d.w {
		d.w = copy(d.buf, d.buf[d.r:d.w])
		d.r = 0
	}
	for d.w-d.r < n {
		got, err := d.src.Read(d.buf[d.w:])
		d.w += got
		d.full = d.w == len(d.buf)
		if err != nil && d.w-d.r < n {
			if d.w > d.r {
				return endInside(err)
			}
			return err
		}
	}
	return nil
}

func endInside(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
