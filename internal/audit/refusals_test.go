package audit

import (
	"testing"
	"time"
)

// TestRefusalsDoNotFillTheLog: sixty a minute are recorded, and how many were
// not; a clock that is put back begins a minute, and nothing else.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	var r Refusals
	now := time.Now()
	recorded := 0
	for range 1000 {
		if _, ok := r.Admit(now); ok {
			recorded++
		}
	}
	note, ok := r.Admit(now.Add(time.Minute))
	if recorded != RefusalsPerMinute || !ok || note != "; 940 refusals before this one are not recorded" {
		t.Errorf("%d were recorded, then %v: %q", recorded, ok, note)
	}
	if note, ok := r.Admit(now.Add(-time.Hour)); !ok || note != "" {
		t.Errorf("an hour earlier: %v, %q", ok, note)
	}
}
