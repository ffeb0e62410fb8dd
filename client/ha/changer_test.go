package ha

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"moongate/client"
)

// changer makes, renames and destroys keys through the group while faults
// happen, and remembers what it was told.
type changer struct {
	a      *arena
	random *rand.Rand
	made   map[ID]string // by private key, with the label that it should have; "" where that is not known
	gone   map[ID]bool   // of which destruction was reported, or is pending
	last   []ID
}

func newChanger(a *arena, seed uint64) *changer {
	return &changer{a: a, random: rand.New(rand.NewPCG(seed, 1)), made: map[ID]string{}, gone: map[ID]bool{}}
}

func (c *changer) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		c.change(within, n)
		cancel()
		rest(ctx, 15*time.Millisecond)
	}
	// Leave as much as there was.
	for _, id := range c.last {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		c.destroy(within, id)
		cancel()
	}
}

func (c *changer) change(ctx context.Context, n int) {
	g := c.a.group
	switch kind := c.random.IntN(4); {
	case kind < 2 && len(c.last) < 6 || len(c.last) == 0:
		label := fmt.Sprintf("made %d", n)
		pair, err := g.GenerateEC(ctx, elliptic.P256(), nil, client.NewTemplate(client.TextAttr(client.AttrLabel, label)))
		if err == nil {
			c.made[pair.Private] = label
			c.made[pair.Public] = ""
			c.last = append(c.last, pair.Private, pair.Public)
		}
		c.precise("Generate", err)
	case kind == 2:
		id := c.last[c.random.IntN(len(c.last))]
		label := fmt.Sprintf("renamed %d", n)
		err := g.SetAttributes(ctx, id, client.NewTemplate(client.TextAttr(client.AttrLabel, label)))
		c.made[id] = label
		if err != nil {
			c.made[id] = "" // one or the other
		}
		c.precise("SetAttributes", err)
	default:
		i := c.random.IntN(len(c.last))
		id := c.last[i]
		c.last = slices.Delete(c.last, i, i+1)
		c.destroy(ctx, id)
	}
}

func (c *changer) destroy(ctx context.Context, id ID) {
	err := c.a.group.Destroy(ctx, id)
	var pending *PendingError
	delete(c.made, id)
	if err == nil || errors.As(err, &pending) {
		c.gone[id] = true
	}
	c.precise("Destroy", err)
}

// precise fails where an error does not say what became of the change.
func (c *changer) precise(call string, err error) {
	var unknown *client.OutcomeUnknownError
	var partial *PartialError
	var pending *PendingError
	var none *CallError
	var refusal *client.HSMError
	if err == nil || errors.As(err, &unknown) || errors.As(err, &partial) || errors.As(err, &pending) || errors.As(err, &none) || errors.As(err, &refusal) {
		return
	}
	c.a.out.wrong("%s: an error that does not say what became of it: %v", call, err)
}

// check compares what was told with what is there in the end.
func (c *changer) check(out *result) {
	ctx := c.a.t.Context()
	for i := range c.a.hsms {
		d := c.a.direct(i)
		found, err := d.Find(ctx, nil, client.AttrLabel)
		if err != nil {
			out.wrong("looking at %s: %v", c.a.hsms[i].name, err)
			continue
		}
		there := map[ID]string{}
		for _, f := range found {
			there[f.ID] = f.Attributes.Text(client.AttrLabel)
		}
		for id, label := range c.made {
			has, is := there[id]
			if !is {
				out.wrong("%s lacks %v, which was made", c.a.hsms[i].name, id)
			} else if label != "" && has != label {
				out.wrong("on %s %v is called %q, it should be %q", c.a.hsms[i].name, id, has, label)
			}
		}
		for id := range c.gone {
			if _, is := there[id]; is {
				out.wrong("%s has %v, which was destroyed", c.a.hsms[i].name, id)
			}
		}
		d.Close()
	}
}
