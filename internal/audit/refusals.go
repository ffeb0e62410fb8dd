package audit

import (
	"fmt"
	"sync"
	"time"
)

// RefusalsPerMinute is how many refusals of one kind of stranger are recorded
// in a minute. Nobody has to be known to be refused, the log is never cut, and
// who cannot record does nothing: who records all of them lets anybody who
// reaches a port stop it.
const RefusalsPerMinute = 60

// Refusals bound the records of refusals, and have them tell of what is not
// recorded. The zero value has seen none. Safe for concurrent use.
type Refusals struct {
	mu       sync.Mutex
	minute   time.Time // when the current one began; guarded by mu
	recorded int       // in it; guarded by mu
	passed   uint64    // not recorded and not told of yet; guarded by mu
}

// Admit reports whether a refusal is recorded, and what its record says of
// those that are not.
func (r *Refusals) Admit(now time.Time) (note string, recorded bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age := now.Sub(r.minute); age < 0 || age >= time.Minute {
		r.minute, r.recorded = now, 0
	}
	if r.recorded >= RefusalsPerMinute {
		r.passed++
		return "", false
	}
	r.recorded++
	if r.passed > 0 {
		note = fmt.Sprintf("; %d refusals before this one are not recorded", r.passed)
		r.passed = 0
	}
	if r.recorded == RefusalsPerMinute {
		note += "; more of this minute are counted and not recorded"
	}
	return note, true
}
