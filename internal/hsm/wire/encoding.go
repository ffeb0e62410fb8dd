package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"
	"unicode/utf8"

	"moongate/internal/hsm/object"
)

// The parts that messages are made of, each with one layout: integers
// big-endian; text as its length (uint16) and UTF-8; bytes as their length
// (uint32) and themselves; an object's id as its 16 bytes; a boolean as one
// byte 0 or 1.

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func appendBytes(b, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendMechanism(b []byte, m object.Mechanism) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(m.Type))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Hash))
	b = binary.BigEndian.AppendUint32(b, m.SaltLength)
	b = binary.BigEndian.AppendUint32(b, m.SessionKeyLen)
	b = appendBytes(b, m.AAD)
	b = appendBytes(b, m.IV)
	b = appendBytes(b, m.Salt)
	b = appendBytes(b, m.Info)
	return appendBytes(b, m.Peer)
}

func appendTypes(b []byte, types []object.AttributeType) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(types)))
	for _, t := range types {
		b = binary.BigEndian.AppendUint32(b, uint32(t))
	}
	return b
}

var errShort = errors.New("message ends early")

// decoder takes parts off the front of a body. Its first error stays, and
// parts taken after it are zero; end returns it.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err, d.b = err, nil
	}
}

// take returns the next n bytes, nil when there are fewer.
func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) bool() bool {
	v := d.uint8()
	if v > 1 {
		d.fail(fmt.Errorf("boolean is %d, expected 0 or 1", v))
	}
	return v == 1
}

func (d *decoder) id() object.ID {
	var id object.ID
	copy(id[:], d.take(len(id)))
	return id
}

// appendTime appends a time as milliseconds since 1970, 0 for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli()))
}

// endOfTime is the year 10000.
const endOfTime = 253402300800000

func (d *decoder) time() time.Time {
	ms := d.uint64()
	switch {
	case ms == 0:
		return time.Time{}
	case ms >= endOfTime:
		d.fail(fmt.Errorf("time is %d ms, expected less than %d", ms, endOfTime))
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}

func (d *decoder) text(what string, limit int) string {
	n := int(d.uint16())
	if n > limit {
		d.fail(fmt.Errorf("%s has %d bytes, at most %d", what, n, limit))
		return ""
	}
	v := d.take(n)
	if !utf8.Valid(v) {
		d.fail(fmt.Errorf("%s is not UTF-8", what))
		return ""
	}
	return string(v)
}

// bytes returns nil for an empty value, so that each value has one form in
// memory too.
func (d *decoder) bytes(what string, limit int) []byte {
	n := d.uint32()
	if uint64(n) > uint64(limit) {
		d.fail(fmt.Errorf("%s has %d bytes, at most %d", what, n, limit))
		return nil
	}
	if n == 0 {
		return nil
	}
	return d.take(int(n))
}

// count returns an iterator over the places of a list whose length comes next
// (uint16). It ends with the decoder's first error.
func (d *decoder) count(what string, limit int) iter.Seq[int] {
	n := int(d.uint16())
	if n > limit {
		d.fail(fmt.Errorf("%d %s, at most %d", n, what, limit))
	}
	return func(yield func(int) bool) {
		for i := 0; i < n && d.err == nil; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

func (d *decoder) mechanism() object.Mechanism {
	return object.Mechanism{
		Type:          object.MechanismType(d.uint32()),
		Hash:          object.Hash(d.uint32()),
		SaltLength:    d.uint32(),
		SessionKeyLen: d.uint32(),
		AAD:           d.bytes("additional data", MaxAAD),
		IV:            d.bytes("initialisation vector", MaxIV),
		Salt:          d.bytes("salt", MaxSalt),
		Info:          d.bytes("info", MaxSalt),
		Peer:          d.bytes("peer's public key", MaxPeer),
	}
}

// types reads a list of attribute types, which has one order: ascending.
func (d *decoder) types() []object.AttributeType {
	n := int(d.uint16())
	if n > object.MaxAttributes {
		d.fail(fmt.Errorf("%d attribute types, at most %d", n, object.MaxAttributes))
		return nil
	}
	if n == 0 || len(d.b) < 4*n {
		if n > 0 {
			d.fail(errShort)
		}
		return nil
	}
	types := make([]object.AttributeType, n)
	for i := range types {
		types[i] = object.AttributeType(d.uint32())
		if i > 0 && types[i] <= types[i-1] {
			d.fail(fmt.Errorf("attribute type %v is out of order or doubled", types[i]))
			return nil
		}
	}
	return types
}

func (d *decoder) template() object.Template {
	if d.err != nil {
		return nil
	}
	t, rest, err := object.DecodeTemplate(d.b)
	if err != nil {
		d.fail(err)
		return nil
	}
	d.b = rest
	return t
}

// end refuses trailing bytes and returns the first error. An *object.Error in
// it says that the message was well formed but asks for what no HSM takes.
func (d *decoder) end(what string) error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes after its end", len(d.b))
	}
	if d.err != nil {
		return fmt.Errorf("decoding %s: %w", what, d.err)
	}
	return nil
}
