package ha

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
)

// TestTwoClients: two clients make, rename and destroy the same keys at once,
// synchronize meanwhile, and one member goes away and comes back. What was
// reported made is everywhere in the end, what was reported destroyed nowhere,
// and all members hold the same.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 3)
	groups := []*Group{g, c.open(c.config(client.RoleCryptoOfficer))}
	must(t, groups[1].ReadyAll(t.Context()))
	var mu sync.Mutex
	made, gone := map[ID]bool{}, map[ID]bool{}
	pick := func(r *rand.Rand) (ID, bool) {
		mu.Lock()
		defer mu.Unlock()
		for id := range made {
			if !gone[id] && r.IntN(2) == 0 {
				return id, true
			}
		}
		return ID{}, false
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var all sync.WaitGroup
	for i := range 6 {
		g, r := groups[i%2], rand.New(rand.NewPCG(uint64(i), 7))
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				id, there := pick(r)
				switch kind := r.IntN(5); {
				case kind < 2 || !there:
					pair, err := g.GenerateEC(within, elliptic.P256(), nil, client.NewTemplate(client.TextAttr(client.AttrLabel, fmt.Sprint(i, n))))
					if err == nil {
						mu.Lock()
						made[pair.Private], made[pair.Public] = true, true
						mu.Unlock()
					}
				case kind == 2:
					_ = g.SetAttributes(within, id, client.NewTemplate(client.TextAttr(client.AttrLabel, fmt.Sprint("renamed ", i, n))))
				case kind == 3:
					err := g.Destroy(within, id)
					if pending := new(PendingError); err == nil || errors.As(err, &pending) {
						mu.Lock()
						gone[id] = true
						mu.Unlock()
					} else if !isAbsent(client.CodeOf(err)) {
						mu.Lock()
						delete(made, id) // one or the other
						mu.Unlock()
					}
				case n%7 == 0:
					_, _ = g.Synchronize(within, nil)
				}
				cancel()
			}
		})
	}
	rest(ctx, 500*time.Millisecond)
	must(t, c.hsms[1].kill())
	rest(ctx, 700*time.Millisecond)
	must(t, c.hsms[1].start())
	all.Wait()
	for _, g := range groups {
		must(t, g.ReadyAll(t.Context()))
	}
	eventually(t, "all are alike", func() bool { return len(c.sums()) == 1 })
	t.Logf("%d made, %d destroyed", len(made), len(gone))
	for i := range c.hsms {
		d := c.direct(i)
		list, err := d.Find(t.Context(), nil)
		must(t, err)
		there := map[ID]bool{}
		for _, f := range list {
			there[f.ID] = true
		}
		for id := range made {
			if there[id] == gone[id] {
				t.Errorf("%s: object %v is there: %v; destroyed: %v", c.hsms[i].name, id, there[id], gone[id])
			}
		}
	}
}

// TestChangeMeetsAnother: a change meets one that somebody made past the group:
// it is told, and all members hold the same soon.
func TestChangeMeetsAnother(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	var log lines
	config := c.config(client.RoleCryptoOfficer)
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	config.Probe = time.Minute // nothing is compared by itself
	g := c.create(config)
	key := newEC(t, g, "k")
	past := c.direct(1)
	label := func(text string) client.Template {
		return client.NewTemplate(client.TextAttr(client.AttrLabel, text))
	}
	must(t, past.SetAttributes(t.Context(), key.ID(), label("one")))
	must(t, past.SetAttributes(t.Context(), key.ID(), label("two")))
	must(t, g.SetAttributes(t.Context(), key.ID(), label("three")))
	if text := log.String(); !strings.Contains(text, "changed an object apart") || !strings.Contains(text, "three") || !strings.Contains(text, "two") {
		t.Errorf("the log does not tell of it: %s", text)
	}
	_, err := g.Synchronize(t.Context(), nil)
	must(t, err)
	c.wantEqual()
}

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
