package partition

import (
	"testing"
	"time"

	"moongate/internal/audit"
)

// TestOutsiders: each client has a minute of its own, and what is not recorded
// is told of later.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	var o outsiders
	now := time.Now()
	recorded := 0
	for range 10 * audit.RefusalsPerMinute {
		if _, yes := o.admit("c1", now); yes {
			recorded++
		}
	}
	if recorded != audit.RefusalsPerMinute {
		t.Errorf("%d refusals of one client are recorded in a minute, want %d", recorded, audit.RefusalsPerMinute)
	}
	if _, yes := o.admit("c2", now); !yes {
		t.Error("one client's refusals keep another's from being recorded")
	}
	note, yes := o.admit("c1", now.Add(time.Minute))
	if want := "; 540 refusals before this one are not recorded"; !yes || note != want {
		t.Errorf("the next minute's first: %q, %v; want %q", note, yes, want)
	}
	for i := range 3 * MaxClients {
		o.admit(time.Duration(i).String(), now)
	}
	if n := len(o.clients); n > 2*MaxClients {
		t.Errorf("%d names are kept", n)
	}
}
