package audit

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// crashEnv makes the test binary a child that appends to the log in the
// directory named by it, until it is killed.
const crashEnv = "AUDIT_TEST_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		fmt.Fprintln(os.Stderr, appendUntilKilled(dir, dir+archiveSuffix))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// archiveSuffix makes the archive's name from the log's.
const archiveSuffix = "-archive"

// appendUntilKilled prints the name of each event that was acknowledged, from
// several goroutines, durable ones and others, while segments are begun and
// moved away.
func appendUntilKilled(dir, archive string) error {
	l, err := Open(dir, Options{
		Origin: testOrigin, Logger: slog.New(slog.DiscardHandler),
		SyncInterval: time.Millisecond, CheckpointInterval: 5 * time.Millisecond, // more of each for the kill to hit
		signInterval: time.Nanosecond, segmentBytes: 5000,
	})
	if err != nil {
		return err
	}
	failed := make(chan error)
	var out sync.Mutex
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d-%d", os.Getpid(), g, i)
				ev := Event{Kind: Change, Action: "key.generate", Client: name, Outcome: OK}
				var err error
				switch i % 4 {
				case 0:
					err = l.Append(ev)
				case 1:
					var noted Receipt
					ev.Kind = Use
					if noted, err = l.Note(ev); err == nil {
						err = noted.Written()
					}
				default:
					err = l.AppendDurable(context.Background(), ev)
				}
				if err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(name)
				out.Unlock()
			}
		}()
	}
	go func() {
		for {
			if _, err := l.Archive(context.Background(), archive); err != nil {
				failed <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return <-failed
}

// A kill -9 at any moment takes nothing that was acknowledged, and the next
// Open finds nothing that it would have to call a loss.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "audit")
	archive := dir + archiveSuffix
	acknowledged := map[string]bool{}
	rng := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	const rounds = 12
	for round := range rounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), crashEnv+"="+dir)
		var stderr strings.Builder
		child.Stderr = &stderr
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		// Let it do some work, which differs each time, and then kill it at a
		// moment that it does not choose.
		work := 1 + rng.IntN(400)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == work {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		child.Wait() // reports the kill
		if stderr.Len() > 0 {
			t.Fatalf("round %d: the child failed: %s", round, &stderr)
		}

		key, err := ReadVerifierKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		// As it is, before anything mends it: alone, and with the archive.
		rest := verifyAll(t, dir, key)
		if err := os.MkdirAll(archive, 0o700); err != nil { // the kill may have come before
			t.Fatal(err)
		}
		both := verifyAll(t, dir, key, archive)
		if !rest.OK() || !both.OK() || rest.Archived+rest.Records != both.Records || both.Archived != 0 {
			t.Fatalf("round %d, as it was left: %+v; with the archive: %+v", round, rest, both)
		}
	}
	l := openTest(t, dir, testOptions())
	key := l.VerifierKey()
	if _, err := l.Archive(t.Context(), archive); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if r := verifyAll(t, archive, key); !r.OK() || r.Segments < rounds {
		t.Fatalf("the archive: %+v", r)
	}
	if r := verifyAll(t, dir, key, archive); !r.OK() || r.Recoveries != rounds || r.Signed != r.Records {
		t.Fatalf("%+v", r)
	}
	found := map[string]int{}
	recovered := 0
	seen := int64(0)
	for _, dir := range []string{archive, dir} {
		for _, e := range readAll(t, dir, seen) {
			seen = e.Seq + 1
			found[e.Client]++
			if e.Action == actionRecovered {
				recovered++
				checkBound(t, e)
			}
		}
	}
	for name := range acknowledged {
		if found[name] != 1 {
			t.Errorf("acknowledged event %s is there %d times", name, found[name])
		}
	}
	if len(acknowledged) < rounds || recovered != rounds {
		t.Errorf("%d events acknowledged, %d recoveries in %d rounds", len(acknowledged), recovered, rounds)
	}
}

// checkBound sees that a recovery speaks of the records that are there.
func checkBound(t *testing.T, e Event) {
	t.Helper()
	_, rest, found := strings.Cut(e.Detail, "unclean stop; ")
	number, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.ParseInt(number, 10, 64); !found || err != nil || n != e.Seq {
		t.Errorf("record %d says %q", e.Seq, e.Detail)
	}
}
