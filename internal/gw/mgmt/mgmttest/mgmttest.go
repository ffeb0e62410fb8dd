// Package mgmttest makes a gateway's management of real parts in a temporary
// directory, without listeners and HSM, for the tests of the interfaces that
// stand before it.
package mgmttest

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// Password is that of every account of a World.
const Password = "a password of theirs"

// hashed is its hash, made once: that takes time.
var hashed = sync.OnceValues(func() (string, error) { return admin.Hash([]byte(Password)) })

// People are the accounts of a World, by name.
var People = map[string]admin.Role{
	"admin": admin.Superuser, "second": admin.Superuser, "device": admin.DeviceAdmin, "reader": admin.SuperReader,
}

// World is a gateway's management.
type World struct {
	*mgmt.Manager
	Logs  *logstore.Store
	Plane *plane.Plane
	clock *clock
}

// clock is a time that a test moves.
type clock struct {
	mu     sync.Mutex
	offset time.Duration // guarded by mu
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Advance moves the world's time.
func (w *World) Advance(d time.Duration) {
	w.clock.mu.Lock()
	defer w.clock.mu.Unlock()
	w.clock.offset += d
}

// Now is the world's time.
func (w *World) Now() time.Time { return w.clock.now() }

// New makes a World with all People, and starts it. values are paths and values
// of its running configuration, in turn.
func New(t testing.TB, values ...string) *World {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	hash, err := hashed()
	must(err)
	b := config.NewBuilder()
	for name, role := range People {
		account := "/config/mgt-config/users/" + config.EntryStep(name)
		b.Set(account+"/phash", hash)
		b.Set(account+"/permissions/role-based/"+string(role), "yes")
	}
	for i := 0; i+1 < len(values); i += 2 {
		b.Set(values[i], values[i+1])
	}
	text, err := b.Bytes()
	must(err)
	dir, clock, logger := t.TempDir(), &clock{}, slog.New(slog.DiscardHandler)
	in := func(name string) string { return filepath.Join(dir, name) }
	must(os.WriteFile(in("config.xml"), text, 0o600))

	v, err := vault.Open(in("vault"), vault.Options{Now: clock.now})
	must(err)
	revisions, err := revision.Open(revision.Options{Dir: in("revisions"), Import: in("config.xml"), Logger: logger, Now: clock.now})
	must(err)
	guard, err := admin.Open(admin.Options{Dir: in("guard"), Now: clock.now})
	must(err)
	logs, err := logstore.Open(logstore.Options{Dir: in("log"), Logger: logger})
	must(err)
	table, err := jobs.Open(jobs.Options{Path: in("jobs.json"), Logger: logger, Now: clock.now})
	must(err)
	link, err := hsmlink.New(hsmlink.Options{Dir: filepath.Join(dir, "hsm"), Device: v.Device(), Logger: logger, Now: clock.now})
	must(err)
	p, err := plane.New(plane.Options{Sink: logs, Logger: logger, OpenHSM: link.Open})
	must(err)
	m, err := mgmt.New(mgmt.Parts{
		Revisions: revisions, Vault: v, Guard: guard, Jobs: table, Logs: logs, Plane: p,
		HSM: p.HSM(), Link: link, Keys: certstore.NewKeys(p.HSM(), v), Logger: logger, Now: clock.now,
		Device: mgmt.Device{Version: "1.2.3", Serial: "007000000001", Started: clock.now()},
	})
	must(err)
	must(m.Start(t.Context()))
	t.Cleanup(func() {
		for _, end := range []func() error{table.Close, p.Close, link.Close, logs.Close, v.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
	})
	return &World{Manager: m, Logs: logs, Plane: p, clock: clock}
}
