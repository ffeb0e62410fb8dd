package certstore

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"moongate/internal/gw/config"
)

// Threshold is how near a certificate's end is: the fewest of these days that
// it is within.
type Threshold int

const (
	Expired     Threshold = 0
	WithinDay   Threshold = 1
	WithinWeek  Threshold = 7
	WithinMonth Threshold = 30
	NotSoon     Threshold = 1 << 30
)

// Expiry is when a certificate stops to be of use.
type Expiry struct {
	Name string
	// Subject is whose end it is: the certificate's own, or that of an issuer
	// in its chain which ends sooner.
	Subject  string
	NotAfter time.Time
	// Days are the whole days that are left; negative when they are over.
	Days      int
	Threshold Threshold
	InUse     bool // something refers to it
}

const day = 24 * time.Hour

// expiry finds what of a certificate ends first. A self-signed root behind it
// is not counted: it is not sent, and clients have their own.
func expiry(f found, now time.Time) Expiry {
	first := f.chain[0]
	for _, c := range f.chain[1:] {
		if !IsRoot(c) && c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	e := Expiry{Name: f.name, Subject: nameNote(first.RawSubject), NotAfter: first.NotAfter, Threshold: NotSoon}
	left := first.NotAfter.Sub(now)
	e.Days = int(left / day)
	if left < 0 {
		e.Threshold = Expired
		if left%day != 0 {
			e.Days-- // the day that has begun
		}
		return e
	}
	for _, t := range []Threshold{WithinMonth, WithinWeek, WithinDay} {
		if left <= time.Duration(t)*day {
			e.Threshold = t
		}
	}
	return e
}

// Expiries returns when the certificates of a tree end, the soonest first;
// without those that are revoked.
func Expiries(root *config.Node, now time.Time) ([]Expiry, error) {
	list, err := all(root)
	if err != nil {
		return nil, err
	}
	var out []Expiry
	for _, f := range list {
		if len(f.chain) == 0 || f.revoked {
			continue
		}
		e := expiry(f, now)
		e.InUse = len(config.References(root, ListPath, f.name)) > 0
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b Expiry) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Reminder tells each threshold that a certificate comes within once. It is
// safe for concurrent use; the zero value has told nothing.
type Reminder struct {
	mu   sync.Mutex
	told map[string]told // by name; guarded by mu
}

type told struct {
	notAfter  time.Time
	threshold Threshold
}

// Due returns what of a list has come within a nearer threshold than was told
// of, and forgets certificates that are gone or were renewed.
func (r *Reminder) Due(list []Expiry) []Expiry {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due []Expiry
	next := make(map[string]told, len(list))
	for _, e := range list {
		before, known := r.told[e.Name]
		if !known || !before.notAfter.Equal(e.NotAfter) {
			before = told{e.NotAfter, NotSoon}
		}
		if e.Threshold < before.threshold {
			due = append(due, e)
			before.threshold = e.Threshold
		}
		next[e.Name] = before
	}
	r.told = next
	return due
}
