package logstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func numbers(list []Entry) []int64 {
	var out []int64
	for _, e := range list {
		out = append(out, e.Seq)
	}
	return out
}

// TestPages: limit, skip, order and numbers.
func TestPages(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	for i := range 30 {
		s.System(Event{Time: time.Now().Add(time.Duration(i) * time.Second), EventID: fmt.Sprint("e", i%2), Severity: Severity(i%5 + 1)})
	}
	until(t, s, Query{Log: System}, 30)
	for _, c := range []struct {
		q    Query
		want []int64
	}{
		{Query{Limit: 3}, []int64{30, 29, 28}},
		{Query{Limit: 3, Skip: 2}, []int64{28, 27, 26}},
		{Query{Limit: 2, Oldest: true}, []int64{1, 2}},
		{Query{Limit: 2, Skip: 27, Oldest: true}, []int64{28, 29}},
		{Query{Skip: 30}, nil},
		{Query{After: 28, Oldest: true}, []int64{29, 30}},
		{Query{After: 30}, nil},
		{Query{Limit: 2, Filter: "eventid eq e0"}, []int64{29, 27}},
		{Query{Limit: 2, Skip: 1, Filter: "eventid eq E0 and severity geq high"}, []int64{25, 19}},
		{Query{Limit: 2, Filter: "receive_time in last-hour"}, []int64{30, 29}},
		{Query{Limit: 2, Filter: "receive_time in last-hour", Oldest: true}, []int64{1, 2}},
	} {
		c.q.Log = System
		if diff := cmp.Diff(c.want, numbers(query(t, s, c.q))); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.q, diff)
		}
	}
	if got := query(t, s, Query{Log: System}); len(got) != DefaultLimit {
		t.Errorf("%d entries without a limit, want %d", len(got), DefaultLimit)
	}
	for want, q := range map[string]Query{
		"limit 5001: expected 1 to 5000": {Log: System, Limit: MaxLimit + 1},
		"limit -1":                       {Log: System, Limit: -1},
		"skip -1":                        {Log: System, Skip: -1},
		`log "threat": expected traffic`: {Log: "threat"},
		"no field":                       {Log: System, Filter: "rule eq x"},
	} {
		if _, err := s.Query(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want an error with %q", q, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(ctx, Query{Log: System}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

// TestFollow: every entry once, in order, those before and those to come.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	for range 5 {
		s.System(Event{EventID: "before"})
	}
	until(t, s, Query{Log: System}, 5)
	reader := OpenReader(s.traffic.dir)
	defer reader.Close()
	enough := errors.New("enough")
	for _, c := range []struct {
		q    Query
		from int64
	}{
		{Query{Limit: 2}, 4}, {Query{Limit: 2, Oldest: true}, 1}, {Query{After: 3}, 4},
	} {
		c.q.Log = System
		next, written := c.from, false
		err := reader.Follow(t.Context(), c.q, func(e Entry) error {
			if e.Seq != next {
				t.Errorf("%+v: number %d, want %d", c.q, e.Seq, next)
			}
			if next++; !written {
				written = true
				go func() {
					for range 3 {
						s.System(Event{EventID: "after"})
						time.Sleep(time.Millisecond)
					}
				}()
			}
			if e.Seq >= 8 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatalf("%+v: %v", c.q, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := reader.Follow(ctx, Query{Log: Config}, func(Entry) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("following until the context ends: %v", err)
	}
}
