package mgmt

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// password is that of every account; its hash is made once, for that takes
// time.
const password = "a password of theirs"

var hashed = sync.OnceValues(func() (string, error) { return admin.Hash([]byte(password)) })

// people are the accounts of a world, by name.
var people = map[string]admin.Role{
	"root": admin.Superuser, "second": admin.Superuser, "device": admin.DeviceAdmin, "other": admin.DeviceAdmin, "reader": admin.SuperReader,
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

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// world is a gateway's management of real parts on disk, without listeners and
// HSM.
type world struct {
	*Manager
	t     *testing.T
	dir   string
	clock *clock
	parts Parts
	close func()
}

// newWorld makes one with all people, and starts it.
func newWorld(t *testing.T, followers ...Follower) *world {
	t.Helper()
	b := config.NewBuilder()
	hash, err := hashed()
	must(t, err)
	for name, role := range people {
		account := userPath(name)
		b.Set(account+"/phash", hash)
		value := "yes"
		b.Set(account+"/permissions/role-based/"+string(role), value)
	}
	text, err := b.Bytes()
	must(t, err)
	w := &world{t: t, dir: t.TempDir(), clock: &clock{}}
	must(t, writeFile(filepath.Join(w.dir, "config.xml"), text))
	w.open(followers...)
	t.Cleanup(func() { w.close() })
	return w
}

// open opens the parts on disk: again after close, or after a crash.
func (w *world) open(followers ...Follower) {
	w.t.Helper()
	in := func(name string) string { return filepath.Join(w.dir, name) }
	logger := slog.New(slog.DiscardHandler)
	v, err := vault.Open(in("vault"), vault.Options{Now: w.clock.now})
	must(w.t, err)
	revisions, err := revision.Open(revision.Options{Dir: in("revisions"), Import: in("config.xml"), Logger: logger, Now: w.clock.now})
	must(w.t, err)
	guard, err := admin.Open(admin.Options{Dir: in("guard"), Now: w.clock.now})
	must(w.t, err)
	logs, err := logstore.Open(logstore.Options{Dir: in("log"), Logger: logger})
	must(w.t, err)
	table, err := jobs.Open(jobs.Options{Path: in("jobs.json"), Logger: logger, Now: w.clock.now})
	must(w.t, err)
	link, err := hsmlink.New(hsmlink.Options{Dir: filepath.Join(w.dir, "hsm"), Device: v.Device(), Logger: logger, Now: w.clock.now})
	must(w.t, err)
	p, err := plane.New(plane.Options{Sink: logs, Logger: logger, OpenHSM: link.Open})
	must(w.t, err)
	w.parts = Parts{
		Revisions: revisions, Vault: v, Guard: guard, Jobs: table, Logs: logs, Plane: p, HSM: p.HSM(), Link: link, Keys: certstore.NewKeys(p.HSM(), v),
		Followers: followers, Logger: logger, Now: w.clock.now, Device: Device{Version: "1.2.3", Serial: "0070", Started: w.clock.now()},
	}
	w.Manager, err = New(w.parts)
	must(w.t, err)
	must(w.t, w.Start(w.t.Context()))
	w.close = sync.OnceFunc(func() {
		for _, c := range []func() error{table.Close, p.Close, link.Close, logs.Close, v.Close} {
			if err := c(); err != nil {
				w.t.Error(err)
			}
		}
	})
}

// revisionMeta is of a commit that no Manager made.
var revisionMeta = revision.Meta{Admin: "test"}

// restart closes the parts and opens them again.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
}

// as is the caller of that name, who came in over the CLI.
func as(name string) Caller {
	return Caller{Identity: admin.Identity{Name: name, Role: people[name]}, From: netip.MustParseAddr("192.0.2.7"), Via: CLI}
}

// set makes the edit that sets a path below the device.
func set(t *testing.T, path string, values ...string) config.Edit {
	t.Helper()
	e, err := config.SetEdit(path, values...)
	must(t, err)
	return e
}

const hostnamePath = config.DevicePath + "/deviceconfig/system/hostname"

func (w *world) setHostname(c Caller, name string) error {
	w.t.Helper()
	return w.Change(w.t.Context(), c, set(w.t, hostnamePath, name))
}

// hostname is the one of a configuration.
func (w *world) hostname(which Which) string {
	w.t.Helper()
	found, err := w.Get(w.t.Context(), as("root"), which, hostnamePath)
	must(w.t, err)
	if len(found) == 0 {
		return ""
	}
	return found[0].Text
}

// commit commits and waits for the job.
func (w *world) commit(c Caller, req CommitRequest) jobs.Job {
	w.t.Helper()
	id, err := w.Commit(w.t.Context(), c, req)
	must(w.t, err)
	return w.wait(id)
}

func (w *world) wait(id int) jobs.Job {
	w.t.Helper()
	job, err := w.WaitJob(w.t.Context(), as("root"), id, nil)
	must(w.t, err)
	return job
}

// logged waits until the log has an entry that match recognises, and returns it.
func (w *world) logged(log logstore.Log, match func(*logstore.Entry) bool) *logstore.Entry {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for {
		entries, err := w.parts.Logs.Query(ctx, logstore.Query{Log: log, Limit: 500})
		if err != nil {
			w.t.Fatalf("nothing of the kind was logged: %v", err)
		}
		for i := range entries {
			if match(&entries[i]) {
				return &entries[i]
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// says matches an entry by words in its fields.
func says(words ...string) func(*logstore.Entry) bool {
	return func(e *logstore.Entry) bool {
		var all strings.Builder
		for _, f := range e.Fields {
			all.WriteString(f.Value + "\n")
		}
		for _, word := range words {
			if !strings.Contains(all.String(), word) {
				return false
			}
		}
		return true
	}
}

func wantCode(t *testing.T, what string, err error, code Code) {
	t.Helper()
	if CodeOf(err) != code {
		t.Errorf("%s: %v, code %d; want code %d", what, err, CodeOf(err), code)
	}
}
