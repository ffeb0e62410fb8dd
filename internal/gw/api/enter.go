package api

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// enter lets a caller in by whichever credential the request has: for keygen a
// user and password, else a key, else HTTP Basic.
func (h *Handler) enter(ctx context.Context, req *request) (mgmt.Caller, *answer) {
	wait, free := h.doors.knock(req.from)
	if !free {
		a := failure(mgmt.CodeForbidden, "Too many failed logins from this address, try again in %d seconds", wait).as(http.StatusTooManyRequests)
		a.retry = wait
		return mgmt.Caller{}, a
	}
	caller, err := h.authenticate(ctx, req)
	if err == nil {
		return caller, nil
	}
	a := failed(err)
	if a.code == mgmt.CodeForbidden {
		h.doors.failed(req.from)
	}
	return mgmt.Caller{}, a
}

func (h *Handler) authenticate(ctx context.Context, req *request) (mgmt.Caller, error) {
	key := req.header.Get("X-PAN-KEY")
	if key == "" {
		key = req.get("key")
	}
	user, password, named := req.user, req.password, req.basic
	if req.get("type") == "keygen" {
		key = ""
		if _, given := req.params["user"]; given {
			user, password, named = req.get("user"), req.get("password"), true
		}
	}
	switch {
	case key != "":
		return h.m.KeyAuth(ctx, req.from, key)
	case named && user != "" && password != "":
		return h.m.PasswordLogin(ctx, mgmt.API, req.from, user, []byte(password))
	}
	return mgmt.Caller{}, &mgmt.Error{Code: mgmt.CodeForbidden, Lines: []string{"Invalid Credential"}}
}

func (h *Handler) keygen(ctx context.Context, c mgmt.Caller, _ *request) *answer {
	key, err := h.m.KeyGen(ctx, c)
	if err != nil {
		return failed(err)
	}
	return success(codeNone, ops.E("result", ops.T("key", key)))
}

// doors bound how often strangers may try, by source address: each failure costs
// an entry of a log. Passwords are bounded by their guard besides, by account and
// by the memory that looking at them takes.
type doors struct {
	now func() time.Time

	mu      sync.Mutex
	sources *lru.Cache[netip.Addr, *bucket]
}

// bucket holds the failures of one source that are not forgiven yet.
type bucket struct {
	failures float64
	at       time.Time
}

const (
	maxFailures = 20              // of one source at once
	forgiven    = 3 * time.Second // one failure is forgotten after it
	maxSources  = 4096
)

func newDoors(now func() time.Time) *doors {
	sources, err := lru.New[netip.Addr, *bucket](maxSources)
	if err != nil {
		panic("api: " + err.Error()) // the size is positive
	}
	return &doors{now: now, sources: sources}
}

// source is what one stranger can choose freely within: of IPv6, a /64.
func source(from netip.Addr) netip.Addr {
	if from.Is6() && !from.Is4In6() {
		if p, err := from.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return from
}

// knock reports whether a source may try, and if not, after how many seconds.
func (d *doors) knock(from netip.Addr) (wait int, free bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, known := d.sources.Get(source(from))
	if !known {
		return 0, true
	}
	b.forgive(d.now())
	if b.failures < maxFailures {
		return 0, true
	}
	return int(forgiven / time.Second), false
}

func (d *doors) failed(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, known := d.sources.Get(source(from))
	if !known {
		b = &bucket{at: d.now()}
		d.sources.Add(source(from), b)
	}
	b.forgive(d.now())
	b.failures++
}

func (b *bucket) forgive(now time.Time) {
	b.failures = max(0, b.failures-now.Sub(b.at).Seconds()/forgiven.Seconds())
	b.at = now
}
