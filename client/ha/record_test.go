package ha

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// TestMembersComeAndGo: a third member is added and gets all keys, the first
// leaves, and the group keeps its ID and serial number; another client learns of
// both by itself, and one that knew nothing of it refuses the one that left.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	ctx := t.Context()
	two := c.config(client.RoleCryptoOfficer)
	two.Members = two.Members[:2]
	two.StateFile = filepath.Join(t.TempDir(), "state.json")
	g := c.create(two)
	key := newEC(t, g, "k")
	first := g.Record()

	all := c.config(client.RoleCryptoUser)
	other := c.open(all)
	eventually(t, "the third is none of the group's", func() bool { return other.stateOf("hsmc") == Removed })
	if err := g.Remove(ctx, "hsma"); err == nil || !strings.Contains(err.Error(), "dissolve") {
		t.Errorf("removing one of two: %v", err)
	}
	must(t, g.Add(ctx, c.member(2, client.RoleCryptoOfficer), nil))
	c.wantEqual()
	eventually(t, "the other client uses the third", func() bool { return other.stateOf("hsmc") == Live })
	if r := g.Record(); r.Epoch != 2 || len(r.Members) != 3 || r.ID != first.ID || r.Serial != first.Serial {
		t.Errorf("record: %+v", r)
	}
	if err := g.Add(ctx, c.member(2, client.RoleCryptoOfficer), nil); err == nil {
		t.Error("a member was added twice")
	}

	must(t, g.Remove(ctx, "hsma"))
	if r := g.Record(); r.Epoch != 3 || len(r.Members) != 2 || r.Serial != first.Serial || g.Status().Partition.Serial != first.Serial {
		t.Errorf("record: %+v", r)
	}
	must(t, sign(key))
	eventually(t, "the other client learns it", func() bool { return other.stateOf("hsma") == Removed })
	if record, err := c.direct(0).Group(ctx); err != nil || record.Epoch != 0 {
		t.Errorf("the record of the one that left: %+v, %v", record, err)
	}
	for i := range 3 {
		self, err := c.direct(i).Replica(ctx)
		must(t, err)
		if want := map[int]int{0: 0, 1: 1, 2: 1}[i]; len(self.Peers) != want {
			t.Errorf("%s lists %d peers, want %d", c.hsms[i].name, len(self.Peers), want)
		}
	}
	if err := g.Remove(ctx, "hsma"); err == nil || !strings.Contains(err.Error(), "names no member") {
		t.Errorf("removing it again: %v", err)
	}
	must(t, other.Close())

	// The state file remembers, where only the one that left can be asked.
	must(t, g.Close())
	must(t, c.hsms[1].kill())
	must(t, c.hsms[2].kill())
	late := c.open(two)
	eventually(t, "the one that left is not used", func() bool { return late.stateOf("hsma") == Removed })
}

// TestReplace: of a group of two one is dead and another takes its place; when
// the dead one is back it is none of the group's, and no peer.
func TestReplace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	ctx := t.Context()
	two := c.config(client.RoleCryptoOfficer)
	two.Members = two.Members[:2]
	g := c.create(two)
	key := newEC(t, g, "k")
	must(t, c.hsms[0].kill())
	eventually(t, "lost", func() bool { return g.stateOf("hsma") == Lost })
	if err := g.Add(ctx, c.member(2, client.RoleCryptoOfficer), nil); err == nil || !strings.Contains(err.Error(), "hsma") {
		t.Errorf("adding while one is away: %v", err)
	}
	if err := g.Replace(ctx, "nobody", c.member(2, client.RoleCryptoOfficer), nil); err == nil {
		t.Error("nobody was replaced")
	}
	must(t, g.Replace(ctx, "hsma", c.member(2, client.RoleCryptoOfficer), nil))
	if r := g.Record(); r.Epoch != 2 || memberNames(r) != "hsmb, hsmc" {
		t.Errorf("record: %+v", r)
	}
	for range 4 {
		must(t, sign(key))
	}
	must(t, c.hsms[0].start())
	late := c.open(c.config(client.RoleCryptoOfficer))
	eventually(t, "the old one is not used", func() bool { return late.stateOf("hsma") == Removed })
	if self, err := c.direct(1).Replica(ctx); err != nil || len(self.Peers) != 1 {
		t.Errorf("peers: %v, %v", self.Peers, err)
	}
	c.hsms = c.hsms[1:]
	c.proxies = c.proxies[1:]
	c.wantEqual()
}

// TestAwayWhileTheRecordChanged: a member that was away gets the new record and
// the peers that come with it.
func TestAwayWhileTheRecordChanged(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 4)
	must(t, c.hsms[1].kill())
	eventually(t, "lost", func() bool { return g.stateOf("hsmb") == Lost })
	if err := g.Dissolve(t.Context()); err == nil {
		t.Error("a group was dissolved behind a member's back")
	}
	must(t, g.Remove(t.Context(), "hsmd"))
	must(t, c.hsms[1].start())
	eventually(t, "the record is there", func() bool {
		record, err := c.direct(1).Group(t.Context())
		self, also := c.direct(1).Replica(t.Context())
		return err == nil && also == nil && record.Epoch == 2 && len(self.Peers) == 2
	})
	eventually(t, "live", func() bool { return g.stateOf("hsmb") == Live })
	c.hsms = c.hsms[:3]
	c.wantEqual()
}

// TestCreateAgain: a Create that is repeated joins the group; one that was cut
// short is completed.
func TestCreateAgain(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	record := g.Record()
	must(t, g.Close())
	again := c.create(c.config(client.RoleCryptoOfficer))
	if r := again.Record(); r.ID != record.ID || r.Epoch != 1 {
		t.Errorf("another record: %+v", r)
	}
	must(t, again.Close())
	must(t, c.direct(1).SetGroup(t.Context(), 1, object.Group{}))
	again = c.create(c.config(client.RoleCryptoOfficer))
	if r := again.Record(); r.ID != record.ID {
		t.Errorf("another record: %+v", r)
	}
	k, err := again.Key(t.Context(), key.ID())
	must(t, err)
	must(t, sign(k))
	must(t, again.Dissolve(t.Context()))
	for i := range c.hsms {
		if r, err := c.direct(i).Group(t.Context()); err != nil || r.Epoch != 0 {
			t.Errorf("%s has a record after all: %+v, %v", c.hsms[i].name, r, err)
		}
	}
}

// TestMadeAnew: who remembers a group that was dissolved and made anew under its
// label is told so, and uses the new one without the state file; a state file
// that is damaged keeps nobody from anything.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	config := c.config(client.RoleCryptoOfficer)
	config.StateFile = filepath.Join(t.TempDir(), "state.json")
	g := c.create(config)
	remembered, err := os.ReadFile(config.StateFile)
	must(t, err)
	must(t, g.Dissolve(t.Context()))
	must(t, g.Close())
	must(t, c.create(config).Close())
	must(t, os.WriteFile(config.StateFile, remembered, 0o600))
	g = c.open(config)
	if err := g.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "without "+config.StateFile) {
		t.Errorf("Ready: %v", err)
	}
	must(t, g.Close())
	must(t, os.WriteFile(config.StateFile, []byte("{}"), 0o600))
	g = c.open(config)
	must(t, g.Ready(t.Context()))
	if record, err := readState(config.StateFile, config.Label); err != nil || record.Epoch != 1 {
		t.Errorf("the state file was not mended: %+v, %v", record, err)
	}
}

// TestCreateRefuses says what is missing.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	lone := newCluster(t, 1) // of another domain, unknown to the others
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"as the Crypto User": {func(config *Config) { *config = c.config(client.RoleCryptoUser) }, "Crypto Officer"},
		"twice the same HSM": {func(config *Config) { config.Members[1] = config.Members[0]; config.Members[1].Name = "x" }, "same HSM"},
		"of another domain": {func(config *Config) {
			config.Members[1] = lone.member(0, client.RoleCryptoOfficer)
			config.Members[1].Name = "x"
		}, "hsm domain"},
		"one that is away":     {func(config *Config) { config.Members[1].Address = "127.0.0.1:1" }, "hsmb"},
		"one member":           {func(config *Config) { config.Members = config.Members[:1] }, "expected 2 to 16"},
		"a label that is long": {func(config *Config) { config.Label = strings.Repeat("x", 32) }, "1 to 31"},
		"two of one name":      {func(config *Config) { config.Members[1].Name = config.Members[0].Name }, "its own"},
		"too many retries":     {func(config *Config) { config.Retry = 501 }, "0 to 500"},
	} {
		config := c.config(client.RoleCryptoOfficer)
		test.change(&config)
		if g, err := Create(t.Context(), config, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", name, err, test.want)
			if g != nil {
				g.Close()
			}
		}
	}
	for i := range c.hsms {
		if r, err := c.direct(i).Group(t.Context()); err != nil || r.Epoch != 0 {
			t.Errorf("%s has a record after all: %+v, %v", c.hsms[i].name, r, err)
		}
	}
}

// TestSizes: groups of 2, 5 and 16: create, sign, change, synchronize.
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 5, object.MaxMembers} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, n)
			config := c.config(client.RoleCryptoOfficer)
			config.Hedge, config.Probe = time.Second, time.Second // many members, few CPUs
			began := time.Now()
			g := c.create(config)
			created := time.Since(began)
			key := newEC(t, g, "k")
			for range 2 * n {
				must(t, sign(key))
			}
			must(t, g.SetAttributes(t.Context(), key.ID(), label("new")))
			began = time.Now()
			report, err := g.Synchronize(t.Context(), nil)
			if err != nil || !report.Complete() || len(report.Members) != n {
				t.Errorf("Synchronize: %v, %v", report, err)
			}
			c.wantEqual()
			t.Logf("%d members: created in %v, compared in %v", n, created.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
			if n == object.MaxMembers {
				extra := newCluster(t, 1).member(0, client.RoleCryptoOfficer)
				extra.Name = "extra"
				if err := g.Add(t.Context(), extra, nil); err == nil || !strings.Contains(err.Error(), "the most there may be") {
					t.Errorf("a seventeenth member: %v", err)
				}
			}
		})
	}
}

// TestStateFile: what was remembered is read back; anything else is refused and
// says that it may be deleted.
func TestStateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.json")
	if record, err := readState(path, "two"); err != nil || record.Epoch != 0 {
		t.Errorf("no file: %+v, %v", record, err)
	}
	record := testRecord()
	must(t, writeState(path, record))
	got, err := readState(path, "two")
	if err != nil || got.Supersedes(record) || record.Supersedes(got) || got.ID != record.ID {
		t.Errorf("%+v, %v", got, err)
	}
	older := record
	older.Epoch--
	must(t, writeState(path, older))
	if got, err = readState(path, "two"); err != nil || got.Epoch != record.Epoch {
		t.Errorf("an older record took its place: %+v, %v", got, err)
	}
	if got, err = readState(path, "three"); err != nil || got.Epoch != 0 {
		t.Errorf("another group's: %+v, %v", got, err)
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	for name, damaged := range map[string][]byte{
		"cut": raw[:len(raw)/2], "more": append(slices.Clone(raw), 'x'), "empty": {},
		"a key more": bytes.Replace(raw, []byte(`"label"`), []byte(`"x": 1, "label"`), 1),
		"too long":   bytes.Repeat([]byte(" "), maxState+1),
	} {
		must(t, os.WriteFile(path, damaged, 0o600))
		if _, err := readState(path, "two"); err == nil || !strings.Contains(err.Error(), "may be deleted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func testRecord() object.Group {
	g := object.Group{ID: object.NewID(), Label: "two", Serial: "4711", Epoch: 7}
	for i := range 2 {
		g.Members = append(g.Members, object.Member{Serial: fmt.Sprint(i), HSM: object.HSMID{byte(i + 1)}, Name: fmt.Sprint("hsm", i), Address: "127.0.0.1:1792"})
	}
	return g
}

// FuzzStateFile: what is read is what would be written.
func FuzzStateFile(f *testing.F) {
	f.Add(encodeState(testRecord()))
	f.Add([]byte(`{"format": 1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if g, err := decodeState(raw); err == nil && !bytes.Equal(encodeState(g), raw) {
			t.Errorf("%q is written as %q", raw, encodeState(g))
		}
	})
}
