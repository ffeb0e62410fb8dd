package client

// ecdsaASN1 turns r || s into an ECDSA-Sig-Value (RFC 3279, section 2.2.3).
func ecdsaASN1(signature []byte) []byte {
	r := derInteger(signature[:len(signature)/2])
	s := derInteger(signature[len(signature)/2:])
	size := derIntegerSize(r) + derIntegerSize(s)
	out := make([]byte, 0, size+3)
	out = append(out, 0x30)
	if size >= 0x80 { // P-521
		out = append(out, 0x81)
	}
	out = append(out, byte(size))
	return appendDERInteger(appendDERInteger(out, r), s)
}

// derInteger strips leading zeros, but for the last.
func derInteger(v []byte) []byte {
	for len(v) > 1 && v[0] == 0 {
		v = v[1:]
	}
	return v
}

func derIntegerSize(v []byte) int {
	if v[0]&0x80 != 0 {
		return 3 + len(v)
	}
	return 2 + len(v)
}

func appendDERInteger(out, v []byte) []byte {
	out = append(out, 0x02, byte(derIntegerSize(v)-2))
	if v[0]&0x80 != 0 {
		out = append(out, 0)
	}
	return append(out, v...)
}
