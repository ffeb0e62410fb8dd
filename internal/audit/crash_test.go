package audit

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
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
		fmt.Fprintln(os.Stderr, appendUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendUntilKilled prints the name of each event that was acknowledged, from
// several goroutines, durable ones and others.
func appendUntilKilled(dir string) error {
	l, err := Open(dir, Options{
		Origin: testOrigin, Logger: slog.New(slog.DiscardHandler),
		SyncInterval: time.Millisecond, CheckpointInterval: 5 * time.Millisecond, // more of each for the kill to hit
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
				if i%3 == 0 {
					err = l.Append(ev)
				} else {
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
	return <-failed
}

// A kill -9 at any moment takes nothing that was acknowledged, and the next
// Open finds nothing that it would have to call a loss.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
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

		key, err := os.ReadFile(dir + "/" + publicName)
		if err != nil {
			t.Fatal(err)
		}
		// As it is, before anything mends it.
		if r := verify(t, dir, strings.TrimSpace(string(key))); !r.OK() {
			t.Fatalf("round %d, as it was left: %+v", round, r)
		}
	}
	l := openTest(t, dir, testOptions())
	key := l.VerifierKey()
	closeLog(t, l)
	if r := verify(t, dir, key); !r.OK() || r.Recoveries != rounds || r.Signed != r.Records {
		t.Fatalf("%+v", r)
	}
	found := map[string]int{}
	recovered := 0
	for e, err := range Records(dir, 0) {
		if err != nil {
			t.Fatal(err)
		}
		found[e.Client]++
		if e.Action == actionRecovered {
			recovered++
			checkBound(t, e)
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
