package daemon

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLogRing(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := NewLogRing(&out)
	fmt.Fprint(r, "a")
	fmt.Fprint(r, "b\nc\x1b[2J\n")
	if diff := cmp.Diff([]string{"ab", "c?[2J"}, r.Newest(10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i := range 2 * ringLines {
		fmt.Fprintf(r, "line %d\n", i)
	}
	if diff := cmp.Diff([]string{"line 1998", "line 1999"}, r.Newest(2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(r.Newest(1 << 20)); n != ringLines {
		t.Errorf("%d lines are kept, want %d", n, ringLines)
	}
	fmt.Fprintln(r, strings.Repeat("x", 3*maxRingLine))
	if last := r.Newest(1)[0]; len(last) != maxRingLine+len(lineWasLong) {
		t.Errorf("a long line is kept with %d bytes", len(last))
	}
	if !strings.Contains(out.String(), "c\x1b[2J\n") || !strings.Contains(out.String(), "line 1999\n") {
		t.Error("what was written was not passed on as it was")
	}
}
