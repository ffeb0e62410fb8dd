package keyfile

import "hash"

// What PKCS #12 derives a key for (RFC 7292, appendix B.3).
const (
	forKey    = 1
	forVector = 2
	forMAC    = 3
)

// derivePKCS12 is RFC 7292, appendix B.2; the names are its own. The bits of a
// block are the hash's.
func derivePKCS12(newHash func() hash.Hash, passphrase, salt []byte, rounds int, id byte, size int) []byte {
	h := newHash()
	v := h.BlockSize()
	d := make([]byte, v)
	for i := range d {
		d[i] = id
	}
	in := append(filled(salt, v), filled(passphrase, v)...)
	var out []byte
	for len(out) < size {
		h.Reset()
		h.Write(d)
		h.Write(in)
		a := h.Sum(nil)
		for range rounds - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		out = append(out, a...)
		b := filled(a, v)[:v]
		for block := in; len(block) > 0; block = block[v:] {
			carry := 1 // I_j = (I_j + B + 1) mod 2^v
			for i := v - 1; i >= 0; i-- {
				carry += int(block[i]) + int(b[i])
				block[i] = byte(carry)
				carry >>= 8
			}
		}
	}
	return out[:size]
}

// filled repeats a string to a whole number of blocks; the empty one stays so.
func filled(s []byte, block int) []byte {
	if len(s) == 0 {
		return nil
	}
	out := make([]byte, (len(s)+block-1)/block*block)
	for i := range out {
		out[i] = s[i%len(s)]
	}
	return out
}
