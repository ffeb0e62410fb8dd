package object

import (
	"encoding/binary"
	"errors"
)

// Append appends the template's one encoding to b: the number of attributes
// (uint16), then for each its type (uint32), its value's length (uint32) and
// its value, all big-endian.
func (t Template) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(t)))
	for _, a := range t {
		b = binary.BigEndian.AppendUint32(b, uint32(a.Type))
		b = binary.BigEndian.AppendUint32(b, uint32(len(a.Value)))
		b = append(b, a.Value...)
	}
	return b
}

var errTemplateShort = errors.New("template ends early")

// DecodeTemplate reads a template from the front of b and returns the rest.
// It refuses every encoding but the one that Append makes, and whatever Check
// refuses. The values alias b.
func DecodeTemplate(b []byte) (Template, []byte, error) {
	if len(b) < 2 {
		return nil, nil, errTemplateShort
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if n > MaxAttributes {
		return nil, nil, Errorf(ErrTemplateInconsist, "%d attributes, at most %d", n, MaxAttributes)
	}
	if n == 0 {
		return nil, b, nil
	}
	t := make(Template, n)
	for i := range t {
		if len(b) < 8 {
			return nil, nil, errTemplateShort
		}
		typ, size := AttributeType(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
		b = b[8:]
		if size > MaxAttributeValue {
			return nil, nil, Errorf(ErrAttributeValue, "%v has %d bytes, at most %d", typ, size, MaxAttributeValue)
		}
		if uint64(len(b)) < uint64(size) {
			return nil, nil, errTemplateShort
		}
		t[i] = Attribute{typ, b[:size:size]}
		b = b[size:]
	}
	if err := t.Check(); err != nil {
		return nil, nil, err
	}
	return t, b, nil
}
