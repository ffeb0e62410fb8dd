package mech

import (
	"bytes"
	"crypto/aes"
	"testing"
)

// plainUnpad is RFC 5652, section 6.3, as one reads it.
func plainUnpad(padded []byte) (int, bool) {
	count := int(padded[len(padded)-1])
	if count < 1 || count > aes.BlockSize {
		return 0, false
	}
	for _, b := range padded[len(padded)-count:] {
		if int(b) != count {
			return 0, false
		}
	}
	return len(padded) - count, true
}

func checkUnpad(t *testing.T, padded []byte) {
	t.Helper()
	wantSize, want := plainUnpad(padded)
	if size, ok := unpad(padded); ok != want || ok && size != wantSize {
		t.Fatalf("unpad of %x: %d, %v, want %d, %v", padded, size, ok, wantSize, want)
	}
}

// Every last byte, with every number of bytes before it that are like it.
func TestUnpad(t *testing.T) {
	t.Parallel()
	for last := range 256 {
		for alike := 1; alike <= 2*aes.BlockSize; alike++ {
			padded := bytes.Repeat([]byte{byte(last) ^ 0x55}, 2*aes.BlockSize)
			for i := range alike {
				padded[len(padded)-1-i] = byte(last)
			}
			checkUnpad(t, padded)
		}
	}
	for size := range 40 {
		message := bytes.Repeat([]byte{7}, size)
		padded := pad(message)
		if got, ok := unpad(padded); !ok || got != size || len(padded)%aes.BlockSize != 0 || len(padded) <= size || len(padded) > size+aes.BlockSize {
			t.Errorf("%d bytes are padded to %x, and back to %d, %v", size, padded, got, ok)
		}
	}
}

func FuzzUnpad(f *testing.F) {
	f.Add(pad(nil))
	f.Add(pad([]byte("seventeen bytes..")))
	f.Add(bytes.Repeat([]byte{16}, 16))
	f.Fuzz(func(t *testing.T, padded []byte) {
		if len(padded) == 0 || len(padded)%aes.BlockSize != 0 {
			return
		}
		checkUnpad(t, padded)
		if size, ok := unpad(padded); ok && !bytes.Equal(pad(padded[:size]), padded) {
			t.Errorf("%x is unpadded to %d bytes, which are padded to something else", padded, size)
		}
	})
}
