package mech

import (
	"bytes"
	"testing"
)

// RFC 3394 begins at two semiblocks. One of 8 bytes, in which the check value
// is right, is refused all the same.
func TestKWLengths(t *testing.T) {
	t.Parallel()
	block := mustBlock(t, make([]byte, 32))
	one := kwWrap(block, make([]byte, 8))
	if _, ok := kwUnwrap(block, one); ok {
		t.Error("one semiblock is accepted")
	}
	for size := 16; size <= 80; size += 8 {
		plain := bytes.Repeat([]byte{0xa5}, size)
		wrapped := kwWrap(block, plain)
		if got, ok := kwUnwrap(block, wrapped); !ok || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes come back as %x, %v", size, got, ok)
		}
		for i := range wrapped {
			wrapped[i] ^= 1
			if _, ok := kwUnwrap(block, wrapped); ok {
				t.Fatalf("%d bytes with byte %d changed are accepted", size, i)
			}
			wrapped[i] ^= 1
		}
		for _, cut := range []int{1, 7, 8, 16} {
			if _, ok := kwUnwrap(block, wrapped[:len(wrapped)-cut]); ok {
				t.Fatalf("%d bytes less %d are accepted", size, cut)
			}
		}
	}
	if _, ok := kwUnwrap(block, kwpWrap(block, make([]byte, 32))); ok {
		t.Error("what KWP wrapped is unwrapped by KW")
	}
	if _, ok := kwpUnwrap(block, kwWrap(block, make([]byte, 32))); ok {
		t.Error("what KW wrapped is unwrapped by KWP")
	}
	if _, ok := kwUnwrap(block, make([]byte, MaxWrapped+16)); ok {
		t.Error("more than MaxWrapped is accepted")
	}
}
