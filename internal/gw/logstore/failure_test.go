package logstore

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/flow"
)

// TestMain runs the child of TestKill.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGSTORE_TEST_DIR"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled says each change that is acknowledged.
func writeUntilKilled(dir string) {
	s, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Retention: Retention{Traffic: Keep{Size: 2 << 20}}})
	if err != nil {
		panic(err)
	}
	go func() {
		for n := 0; ; n++ {
			s.Write(record(fmt.Sprint(n)))
			if n%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for n := 1; ; n++ {
		if err := s.Config(Change{Command: fmt.Sprint(n)}); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

// TestKill kills a process that writes, again and again: each time the
// databases are whole, what was acknowledged is there, and the next goes on.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	var acknowledged int64
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "LOGSTORE_TEST_DIR="+dir)
		var out syncBuffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for limit := time.Now().Add(time.Minute); strings.Count(out.String(), "\n") < 5+round && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
		beside := OpenReader(dir)
		until(t, beside, Query{Log: Traffic}, 1)
		if err := beside.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(round*7) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // reports the kill
		lines := strings.Count(out.String(), "\n")
		if lines < 5 {
			t.Fatalf("round %d: the child wrote %q", round, out.String())
		}
		acknowledged += int64(lines)
		reader := OpenReader(dir)
		var changes int64
		for {
			list := query(t, reader, Query{Log: Config, Oldest: true, After: changes, Limit: MaxLimit})
			if len(list) == 0 {
				break
			}
			for _, e := range list {
				if changes++; e.Seq != changes {
					t.Fatalf("change %d has the number %d", changes, e.Seq)
				}
			}
		}
		// One of each child may be there without having been acknowledged.
		if changes < acknowledged || changes > acknowledged+int64(round)+1 {
			t.Errorf("round %d: %d changes, %d acknowledged", round, changes, acknowledged)
		}
		acknowledged = changes
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"traffic", "config", "system"} {
		d, err := openDatabase(family{dir: dir, name: name, log: Log(name)}, 1, false, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.sound(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.close()
	}
}

// corrupt overwrites a part of a file. Nobody in this process has the database
// open, or its locks would go.
func corrupt(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(with, at); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptAtOpen: whatever is in the place of a database, the store opens,
// tells of it, keeps it aside, and numbers go on.
func TestCorruptAtOpen(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, path string){
		"no database":    func(t *testing.T, path string) { corrupt(t, path, 0, []byte(strings.Repeat("x", 4096))) },
		"schema":         func(t *testing.T, path string) { corrupt(t, path, 100, []byte(strings.Repeat("\xff", 3000))) },
		"newer program":  func(t *testing.T, path string) { corrupt(t, path, 60, []byte{0, 0, 0, 9}) },
		"somebody's own": func(t *testing.T, path string) { corrupt(t, path, 68, []byte{1, 2, 3, 4}) },
		"pages": func(t *testing.T, path string) {
			for at := int64(4096); at < 20*4096; at += 4096 {
				corrupt(t, path, at, []byte(strings.Repeat("\xff", 2000)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t, Options{})
			dir := s.traffic.dir
			for range 300 {
				s.Write(record("before"))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "traffic-1.db")
			spoil(t, path)
			var told syncBuffer
			s = openStore(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&told, nil))})
			s.Write(record("after"))
			list := until(t, s, Query{Log: Traffic}, 1)
			if len(list) != 1 || list[0].Get("sessionid") != "after" || list[0].Seq <= 300 {
				t.Errorf("%d entries, the first %+v", len(list), list[0])
			}
			e := until(t, s, Query{Log: System, Filter: "eventid eq log-corrupt"}, 1)[0]
			if e.Get("severity") != "critical" || e.Get("object") != "traffic" || !strings.Contains(e.Get("opaque"), path) {
				t.Errorf("system log: %+v", e)
			}
			if !strings.Contains(told.String(), "put aside") || s.Lost() != 0 {
				t.Errorf("%d lost; the log was told %q", s.Lost(), told.String())
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("what was put aside: %v", err)
			}
			// The one after that sweeps it.
			s.Close()
			corrupt(t, filepath.Join(dir, "traffic-2.db"), 0, []byte("nothing"))
			s = openStore(t, Options{Dir: dir})
			s.Write(record("again"))
			until(t, s, Query{Log: Traffic}, 1)
			s.Close()
			files, _ := filepath.Glob(filepath.Join(dir, "traffic-*.db"))
			if len(files) != 2 || filepath.Base(files[0]) != "traffic-2.db" {
				t.Errorf("files %v", files)
			}
		})
	}
}

// TestCorruptLater: corruption that is met by a query, or by a write, while the
// gateway runs.
func TestCorruptLater(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	dir := s.traffic.dir
	for range 500 {
		s.Write(record("before"))
	}
	s.Close()
	// Leaves in the middle: both ends of the table are fine.
	for at := int64(100 * 4096); at < 130*4096; at += 4096 {
		corrupt(t, filepath.Join(dir, "traffic-1.db"), at, []byte(strings.Repeat("\xff", 4096)))
	}
	s = openStore(t, Options{Dir: dir})
	if s.traffic.d == nil || s.traffic.d.n != 1 {
		t.Fatal("the corruption was found at once: the test needs another place for it")
	}
	if _, err := s.Query(t.Context(), Query{Log: Traffic, Filter: "rule eq nobody"}); err == nil {
		t.Fatal("a query through corrupt pages succeeded")
	}
	until(t, s, Query{Log: System, Filter: "eventid eq log-corrupt"}, 1)
	s.Write(record("after"))
	if list := until(t, s, Query{Log: Traffic}, 1); len(list) != 1 || list[0].Seq != 501 {
		t.Errorf("%d entries, number %d, want 501", len(list), list[0].Seq)
	}
}

// TestDeleted: a database that somebody deletes under way is begun anew.
func TestDeleted(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	s.Write(record("before"))
	until(t, s, Query{Log: Traffic}, 1)
	if err := os.Remove(filepath.Join(s.traffic.dir, "traffic-1.db")); err != nil {
		t.Fatal(err)
	}
	s.Write(record("lost with it"))
	until(t, s, Query{Log: System, Filter: "eventid eq log-deleted"}, 1)
	s.Write(record("after"))
	if list := until(t, s, Query{Log: Traffic}, 1); list[0].Seq != 3 {
		t.Errorf("number %d, want 3", list[0].Seq)
	}
}

// TestDiskFull: with SQLite's own limit in the place of the disk's, entries are
// lost, counted, told of, refused where they are to be durable; and when there
// is room, all goes on.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	limit := func(w *writer, pages int) {
		if _, err := w.d.db.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Error(err)
		}
	}
	for _, w := range []*writer{s.traffic, s.config} {
		limit(w, 1) // the size that it has
	}
	for range 300 {
		s.Write(record("x"))
	}
	var err error
	for n := 0; n < 100 && err == nil; n++ {
		err = s.Config(Change{After: strings.Repeat("x", 1000)})
	}
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a change on a full disk: %v", err)
	}
	until(t, s, Query{Log: System, Filter: "eventid eq log-write-failed"}, 2)
	if s.traffic.lost.Load() == 0 || s.Status()[0].Failure == "" {
		t.Errorf("%+v", s.Status()[0])
	}
	for _, w := range []*writer{s.traffic, s.config} {
		limit(w, 1<<20)
	}
	if err := s.Config(Change{Command: "good"}); err != nil {
		t.Error(err)
	}
	s.Write(record("good"))
	until(t, s, Query{Log: Traffic, Filter: "sessionid eq good"}, 1)
	until(t, s, Query{Log: System, Filter: "eventid eq log-write-restored"}, 2)
	until(t, s, Query{Log: System, Filter: "eventid eq log-entries-lost and object eq traffic"}, 1)
	if st := s.Status()[0]; st.Failure != "" {
		t.Errorf("%+v", st)
	}
}

// TestNoDirectory: the store opens also where it can write nothing, and writes
// when it can.
func TestNoDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there")
	s := openStore(t, Options{Dir: dir})
	s.Write(record("lost"))
	if err := s.Config(Change{}); err == nil {
		t.Error("a change into nothing was taken")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); s.Config(Change{}) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no change is taken")
		}
	}
}

// TestRetention: by size and by age the oldest entries go, a step at a time,
// and the file stays within its bounds; other logs keep theirs.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Retention: Retention{Traffic: Keep{Size: minSize}}})
	s.System(Event{EventID: "kept"})
	if err := s.Config(Change{Command: "kept"}); err != nil {
		t.Fatal(err)
	}
	const flows = 1500
	for n := range flows {
		for len(s.traffic.queue) > 1000 {
			time.Sleep(time.Millisecond)
		}
		s.Write(record(fmt.Sprint(n)))
	}
	newest := until(t, s, Query{Log: Traffic, Filter: fmt.Sprint("seqno eq ", flows)}, 1)[0]
	if newest.Get("sessionid") != fmt.Sprint(flows-1) {
		t.Errorf("the newest is %s", newest.Get("sessionid"))
	}
	list := query(t, s, Query{Log: Traffic, Limit: MaxLimit})
	st := s.Status()[0]
	if len(list) < 50 || len(list) >= flows || st.Deleted == 0 || list[len(list)-1].Seq != flows-int64(len(list))+1 {
		t.Errorf("%d entries are left, %+v", len(list), st)
	}
	if info, err := os.Stat(st.File); err != nil || info.Size() > minSize+2*deleteStep*3000 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	s.SetRetention(Retention{Traffic: Keep{Age: time.Millisecond}})
	s.Write(record("one more"))
	for limit := time.Now().Add(time.Minute); len(query(t, s, Query{Log: Traffic})) > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("old entries stay")
		}
	}
	if len(query(t, s, Query{Log: System, Filter: "eventid eq kept"})) != 1 || len(query(t, s, Query{Log: Config})) != 1 {
		t.Error("another log lost its entry")
	}
}

// TestFileShrinks: with a smaller size the file gives its space back.
func TestFileShrinks(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	for n := range 1500 {
		s.Write(record(fmt.Sprint(n)))
	}
	until(t, s, Query{Log: Traffic, Filter: "seqno eq 1500"}, 1)
	before := s.Status()[0].Bytes
	s.SetRetention(Retention{Traffic: Keep{Size: minSize}})
	s.Write(record("one more"))
	for limit := time.Now().Add(time.Minute); s.Status()[0].Bytes > minSize+2*vacuumStep*pageSize; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%d bytes, before %d", s.Status()[0].Bytes, before)
		}
	}
}

// TestReserve: on a nearly full disk new entries replace the oldest ones.
func TestReserve(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Reserve: 1 << 62})
	for round := range 4 {
		for n := range 100 {
			s.Write(record(fmt.Sprint(round, "/", n)))
		}
		for limit := time.Now().Add(time.Minute); s.Status()[0].Written < uint64(100*(round+1)) && time.Now().Before(limit); {
			time.Sleep(time.Millisecond)
		}
	}
	for limit := time.Now().Add(time.Minute); s.Status()[0].Deleted < 200; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%+v", s.Status()[0])
		}
	}
}

// TestOlderDatabase: what an older program wrote gets the columns it lacks.
func TestOlderDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := family{dir: dir, name: "traffic", log: Traffic}
	d, err := openDatabase(f, 1, false, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"ALTER TABLE entry DROP COLUMN sni", "ALTER TABLE entry ADD COLUMN newer TEXT NOT NULL DEFAULT ''", "INSERT INTO entry (receive_time, tls) VALUES (1, 'yes')"} {
		if _, err := d.db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	d.close()
	s := openStore(t, Options{Dir: dir})
	s.Write(&flow.Record{ID: "new", SNI: "a.example"})
	list := until(t, s, Query{Log: Decryption}, 2)
	if list[0].Get("sni") != "a.example" || list[1].Get("sni") != "" {
		t.Errorf("%+v", list)
	}
}
