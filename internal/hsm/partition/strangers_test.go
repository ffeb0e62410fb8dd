package partition

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// TestStrangersDoNotFillTheLog: each is refused, few are recorded, and the
// records tell of the others.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := len(w.records())
	knock := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := w.Attach(t.Context(), fmt.Sprintf("%064x", i), home); object.CodeOf(err) != object.ErrNotRegistered {
				t.Fatalf("a stranger got %v", err)
			}
		}
	}
	knock(10 * audit.RefusalsPerMinute)
	if got := len(w.records()) - before; got != audit.RefusalsPerMinute {
		t.Errorf("%d refusals in a minute left %d records, want %d", 10*audit.RefusalsPerMinute, got, audit.RefusalsPerMinute)
	}
	if last := w.lastRecord(); !strings.Contains(last.Detail, "more of this minute are counted and not recorded") {
		t.Errorf("the last record does not say that it is the last: %q", last.Detail)
	}
	w.clock.advance(time.Minute)
	knock(1)
	if last := w.lastRecord(); !strings.Contains(last.Detail, fmt.Sprintf("; %d refusals before this one are not recorded", 9*audit.RefusalsPerMinute)) {
		t.Errorf("nothing tells how many refusals are missing: %q", last.Detail)
	}
	w.session(object.RoleNone) // who is registered is not held up
}
