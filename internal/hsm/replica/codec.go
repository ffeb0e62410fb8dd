package replica

import (
	"encoding/binary"
	"strings"
)

// reader reads from the front of b; bad is set where that ends early or what is
// there is out of bounds, and what is read then is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || len(r.b) < n {
		r.bad = true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) number(size int) uint64 {
	var n uint64
	for _, c := range r.take(size) {
		n = n<<8 | uint64(c)
	}
	return n
}

// into fills a field of fixed size.
func (r *reader) into(field []byte) { copy(field, r.take(len(field))) }

// sized reads what has its length in front, in size bytes.
func (r *reader) sized(size, limit int) []byte {
	n := r.number(size)
	if n > uint64(limit) {
		r.bad = true
		return nil
	}
	return r.take(int(n))
}

// serial reads a partition's serial number: printable ASCII, not empty.
func (r *reader) serial() string {
	text := string(r.sized(1, maxSerial))
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
		r.bad = true
	}
	return text
}

// magic reads what every message of a kind begins with.
func (r *reader) magic(want string) {
	if string(r.take(len(want))) != want {
		r.bad = true
	}
}

func appendSerial(b []byte, serial string) []byte {
	return append(append(b, byte(len(serial))), serial...)
}

func appendSized32(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
}
