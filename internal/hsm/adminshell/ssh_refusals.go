package adminshell

import (
	"fmt"
	"sync"
	"time"
)

// refusalsPerMinute is how many refused logins are recorded in a minute, as
// hsm/partition does with strangers on the client port and for the same reason.
const refusalsPerMinute = 60

// refusals counts refused logins.
type refusals struct {
	mu       sync.Mutex
	minute   time.Time // when the current one began; guarded by mu
	recorded int       // in it; guarded by mu
	passed   uint64    // not recorded and not told of yet; guarded by mu
}

// admit reports whether a refusal is recorded, and what its record says of
// those that are not.
func (r *refusals) admit(now time.Time) (note string, recorded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.minute); age < 0 || age >= time.Minute {
		r.minute, r.recorded = now, 0
	}
	if r.recorded >= refusalsPerMinute {
		r.passed++
		return "", false
	}
	r.recorded++
	if r.passed > 0 {
		note = fmt.Sprintf("; %d refusals before this one are not recorded", r.passed)
		r.passed = 0
	}
	if r.recorded == refusalsPerMinute {
		note += "; more of this minute are counted and not recorded"
	}
	return note, true
}
