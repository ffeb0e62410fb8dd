package mech

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

func mustHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustBlock(t *testing.T, key []byte) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// The vectors are RFC 5649, section 6.
func TestKWPVectors(t *testing.T) {
	t.Parallel()
	block := mustBlock(t, mustHex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	for _, test := range []struct{ name, plain, wrapped string }{
		{"20 bytes", "c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"7 bytes", "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			plain, wrapped := mustHex(t, test.plain), mustHex(t, test.wrapped)
			if got := kwpWrap(block, plain); !bytes.Equal(got, wrapped) {
				t.Errorf("wrap: %x, want %x", got, wrapped)
			}
			if got, ok := kwpUnwrap(block, wrapped); !ok || !bytes.Equal(got, plain) {
				t.Errorf("unwrap: %x, %v, want %x", got, ok, plain)
			}
		})
	}
}

func TestKWPEveryLength(t *testing.T) {
	t.Parallel()
	block := mustBlock(t, make([]byte, 32))
	for size := 1; size <= 80; size++ {
		plain := bytes.Repeat([]byte{0xa5}, size)
		wrapped := kwpWrap(block, plain)
		if got, ok := kwpUnwrap(block, wrapped); !ok || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes come back as %x, %v", size, got, ok)
		}
		for i := range wrapped {
			wrapped[i] ^= 1
			if _, ok := kwpUnwrap(block, wrapped); ok {
				t.Fatalf("%d bytes with byte %d changed are accepted", size, i)
			}
			wrapped[i] ^= 1
		}
		for _, cut := range []int{1, 7, 8, 16} {
			if _, ok := kwpUnwrap(block, wrapped[:max(0, len(wrapped)-cut)]); ok {
				t.Fatalf("%d bytes less %d are accepted", size, cut)
			}
		}
	}
}

// Every way in which RFC 5649, section 3, lets a check fail is refused, and
// nothing else, as a plain reading of it says.
func TestKWPCheck(t *testing.T) {
	t.Parallel()
	plainly := func(out []byte, n int) bool {
		length := uint64(binary.BigEndian.Uint32(out[4:]))
		if binary.BigEndian.Uint32(out) != kwpIV || length <= uint64(8*(n-1)) || length > uint64(8*n) {
			return false
		}
		for _, b := range out[8+length:] {
			if b != 0 {
				return false
			}
		}
		return true
	}
	for n := 1; n <= 3; n++ {
		lengths := []uint32{0x80000000, 0xffffffff, 0xfffffff8, uint32(8*n) | 1<<31}
		for l := range uint32(8*n + 20) {
			lengths = append(lengths, l)
		}
		for _, iv := range []uint32{kwpIV, kwpIV ^ 1, kwpIV ^ 1<<31, 0} {
			for _, length := range lengths {
				for nonzero := -1; nonzero < 8*n; nonzero++ {
					out := make([]byte, 8+8*n)
					binary.BigEndian.PutUint32(out, iv)
					binary.BigEndian.PutUint32(out[4:], length)
					if nonzero >= 0 {
						out[8+nonzero] = 0x80
					}
					if _, got := kwpCheck(out, n); got != plainly(out, n) {
						t.Fatalf("check of %x: %v, want %v", out, got, !got)
					}
				}
			}
		}
	}
}

func FuzzKWPUnwrap(f *testing.F) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kwpWrap(block, []byte("a key")))
	f.Add(kwpWrap(block, make([]byte, 32)))
	f.Fuzz(func(t *testing.T, wrapped []byte) {
		plain, ok := kwpUnwrap(block, wrapped)
		if ok && !bytes.Equal(kwpWrap(block, plain), wrapped) {
			t.Errorf("%x unwraps to %x, which wraps to something else", wrapped, plain)
		}
	})
}
