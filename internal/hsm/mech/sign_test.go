package mech

import (
	"bytes"
	"testing"
)

// One number in 256 is a byte short in DER, and one in two a byte long.
func TestFixedSignaturePads(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ der, want string }{
		{"3006020101020102", "0000000000000001" + "0000000000000002"},
		{"300a02030100000203020000", "0000000000010000" + "0000000000020000"},
		{"3016020900ffffffffffffffff020900fffffffffffffffe", "ffffffffffffffff" + "fffffffffffffffe"},
	} {
		got, err := fixedSignature(mustHex(t, test.der), 8)
		if err != nil || !bytes.Equal(got, mustHex(t, test.want)) {
			t.Errorf("%s: %x, %v, want %s", test.der, got, err, test.want)
		}
	}
	for _, der := range []string{"", "3000", "3003020101", "300d020a010000000000000000000201"} {
		if got, err := fixedSignature(mustHex(t, der), 8); err == nil {
			t.Errorf("%s becomes %x", der, got)
		}
	}
}
