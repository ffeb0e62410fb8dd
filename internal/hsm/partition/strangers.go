package partition

import (
	"sync"
	"time"

	"moongate/internal/audit"
)

// outsiders bound the records of refusals of registered clients before a
// login, each client's by itself: a certificate alone must not fill the audit
// log, as those must not who are not registered at all.
type outsiders struct {
	mu      sync.Mutex
	clients map[string]*audit.Refusals // by name; guarded by mu
}

// admit is [audit.Refusals.Admit] for one client.
func (o *outsiders) admit(client string, now time.Time) (string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.clients[client]
	if r == nil {
		// Names of clients that are gone are forgotten some time.
		if o.clients == nil || len(o.clients) >= 2*MaxClients {
			o.clients = map[string]*audit.Refusals{}
		}
		r = &audit.Refusals{}
		o.clients[client] = r
	}
	return r.Admit(now)
}
