package main

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/e2e/world"
)

// run measures everything and writes the report to out; what it is at goes to
// progress.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.within, fmt.Errorf("not done within %v (-within)", o.within))
	defer cancel()
	r := report{measure: o.measure, keys: o.keys}
	for i, n := range o.sizes {
		fmt.Fprintf(progress, "a group of %d HSMs\n", n)
		s, err := measureSize(ctx, o, n, i == 0, &r, progress)
		if err != nil {
			return fmt.Errorf("a group of %d HSMs: %w", n, errors.Join(err, context.Cause(ctx)))
		}
		r.Sizes = append(r.Sizes, s)
	}
	if o.json {
		return r.writeJSON(out)
	}
	return r.writeTable(out)
}

// size is what a group of so many members takes.
type size struct {
	Members int `json:"members"`
	// Create is cmu ha create as a whole, of empty partitions; Make a P-256 key
	// pair on all members; Sign a signature, one at a time. Equal is a
	// synchronization that finds nothing to do. All in milliseconds, of Make,
	// Sign and Equal the medians.
	Create, Make, Sign, Equal float64
	// Return is from the start of a member's process, which missed keys, until
	// it is live: it holds all of them.
	Return float64
}

func measureSize(ctx context.Context, o options, members int, compare bool, r *report, progress io.Writer) (s size, err error) {
	dir, err := os.MkdirTemp("", "bench-ha-")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	group, err := world.StartMembers(ctx, dir, nil, make([]*world.Host, members)...)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, group.Close()) }()
	began := time.Now()
	if err := group.Create(ctx); err != nil {
		return s, err
	}
	s = size{Members: members, Create: milliseconds(time.Since(began))}
	config, err := group.Config(client.RoleCryptoOfficer, nil)
	if err != nil {
		return s, err
	}
	g, err := ha.Open(config)
	if err != nil {
		return s, err
	}
	defer g.Close()
	if err := g.ReadyAll(ctx); err != nil {
		return s, err
	}
	if err := s.use(ctx, g); err != nil {
		return s, err
	}
	if compare {
		fmt.Fprintln(progress, "the same beside one HSM")
		if err := r.compare(ctx, o, g, filepath.Join(dir, "client"), config.Members[0]); err != nil {
			return s, err
		}
	}
	return s, s.back(ctx, o, g, group.HSMs[members-1])
}

// use measures what an application does.
func (s *size) use(ctx context.Context, g *ha.Group) error {
	var key client.Key
	var err error
	if s.Make, err = median(20, func() error {
		pair, err := g.GenerateEC(ctx, elliptic.P256(), client.Template{}, client.Template{})
		if err != nil {
			return err
		}
		key, err = g.Key(ctx, pair.Private)
		return err
	}); err != nil {
		return err
	}
	if s.Sign, err = median(500, func() error { return signOnce(ctx, key) }); err != nil {
		return err
	}
	s.Equal, err = median(10, func() error {
		_, err := g.Synchronize(ctx, nil)
		return err
	})
	return err
}

// back measures how long a member that missed keys takes to be live again.
func (s *size) back(ctx context.Context, o options, g *ha.Group, last *world.HSM) error {
	last.Kill9()
	label := client.NewTemplate(client.TextAttr(client.AttrLabel, "missed"))
	for range o.keys {
		if _, err := g.GenerateAES(ctx, 32, label); err != nil {
			return fmt.Errorf("making a key without a member: %w", err)
		}
	}
	began := time.Now()
	if err := last.Restart(ctx); err != nil {
		return err
	}
	if err := g.ReadyAll(ctx); err != nil {
		return err
	}
	s.Return = milliseconds(time.Since(began))
	return nil
}
