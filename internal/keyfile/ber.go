package keyfile

import (
	"errors"
)

// maxDepth bounds nesting; a PKCS #12 file has a dozen levels.
const maxDepth = 32

var errBER = errors.New("it is damaged: not ASN.1")

// toDER writes one BER value again with definite lengths and its OCTET STRINGs
// in one piece, as NSS and others do not write PKCS #12 (X.690, section 8).
// Values that are DER stay as they are, byte for byte. What follows the value
// is an error.
func toDER(ber []byte) ([]byte, error) {
	der, rest, err := definite(ber, 0)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, errors.New("it is damaged: bytes after its end")
	}
	return der, nil
}

// definite converts the first value of b and returns what follows it.
func definite(b []byte, depth int) (der, rest []byte, err error) {
	if depth > maxDepth {
		return nil, nil, errors.New("it is nested too deeply")
	}
	if len(b) < 2 || b[0]&0x1f == 0x1f { // no tag here is above 30
		return nil, nil, errBER
	}
	tag, constructed := b[0], b[0]&0x20 != 0
	length, header, ok := berLength(b[1:])
	if !ok {
		return nil, nil, errBER
	}
	body, indefinite := b[1+header:], length < 0
	if !indefinite {
		if length > len(body) {
			return nil, nil, errBER
		}
		body, rest = body[:length], body[length:]
	}
	if !constructed {
		if indefinite {
			return nil, nil, errBER
		}
		return value(tag, body), rest, nil
	}
	var content []byte
	for {
		if indefinite && len(body) >= 2 && body[0] == 0 && body[1] == 0 {
			rest = body[2:]
			break
		}
		if len(body) == 0 {
			if indefinite {
				return nil, nil, errBER
			}
			break
		}
		var child []byte
		if child, body, err = definite(body, depth+1); err != nil {
			return nil, nil, err
		}
		if tag == 0x24 { // an OCTET STRING in pieces
			if child[0] != 0x04 {
				return nil, nil, errBER
			}
			_, header, _ := berLength(child[1:])
			child = child[1+header:]
		}
		content = append(content, child...)
	}
	if tag == 0x24 {
		tag = 0x04
	}
	return value(tag, content), rest, nil
}

// berLength reads a length: octets, -1 for an indefinite one; and how many
// bytes say it.
func berLength(b []byte) (length, header int, ok bool) {
	switch {
	case len(b) == 0:
		return 0, 0, false
	case b[0] < 0x80:
		return int(b[0]), 1, true
	case b[0] == 0x80:
		return -1, 1, true
	}
	n := int(b[0] & 0x7f)
	if n > 4 || len(b) < 1+n {
		return 0, 0, false
	}
	for _, c := range b[1 : 1+n] {
		length = length<<8 | int(c)
	}
	return length, 1 + n, length <= MaxSize
}

// value writes a value with the shortest length.
func value(tag byte, content []byte) []byte {
	n := len(content)
	out := make([]byte, 0, n+6)
	switch {
	case n < 0x80:
		out = append(out, tag, byte(n))
	case n < 1<<8:
		out = append(out, tag, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, tag, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, tag, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	return append(out, content...)
}
