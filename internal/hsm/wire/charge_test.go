package wire

import (
	"testing"

	"moongate/internal/hsm/object"
)

// TestCharge: a signature and a Ping are small, and whatever a request asks
// for, its answer is no more than it is charged.
func TestCharge(t *testing.T) {
	t.Parallel()
	for op, size := range map[Op]int{OpPing: RequestHeaderSize, OpSign: 200, OpVerify: 1000, OpDecrypt: 600, OpDigest: 30, OpDestroy: 50} {
		if c := Charge(op, size); c > SmallCharge {
			t.Errorf("%v of %d bytes is charged %d", op, size, c)
		}
	}
	for _, op := range Ops() {
		if c := Charge(op, MaxFrame); c < MaxFrame || c > MaxCharge {
			t.Errorf("the longest %v is charged %d", op, c)
		}
	}
	// As many results as a package of a size can have, with details.
	for _, n := range []int{1, 10, object.MaxClone} {
		results := CloneInAnswer{make([]object.CloneResult, n)}
		for i := range results.Results {
			results.Results[i].Detail = string(make([]byte, MaxCloneDetail))
		}
		const tombstone = 16 + 1 + 8
		size := RequestHeaderSize + 8 + n*tombstone
		if answer := len(results.Append(nil)) + AnswerHeaderSize; size+answer > Charge(OpCloneIn, size) {
			t.Errorf("a package of %d objects is charged %d, its answer has %d", n, Charge(OpCloneIn, size), answer)
		}
	}
}
