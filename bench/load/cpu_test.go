package load

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	line := []byte("41 (a) b (c)) S 7 41 41 0 -1 4194560 90 0 0 0 12 30 5 6 20 0 1 0 100 1 1")
	got, err := parseStat(line)
	if err != nil {
		t.Fatal(err)
	}
	want := process{pid: 41, parent: 7, cpu: 420 * time.Millisecond}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(process{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"", "41 no parentheses", "41 (a) S 7", "x (a) S 7 41 41 0 -1 4194560 90 0 0 0 12 30"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestReadCPUSeesThisProcess(t *testing.T) {
	t.Parallel()
	before, err := readCPU(map[string]int{"me": os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 100*time.Millisecond; {
	}
	after, err := readCPU(map[string]int{"me": os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	took, others := after.since(before)
	if took["me"] == 0 || took[selfName] == 0 {
		t.Errorf("100 ms of work show as %v", took)
	}
	if others < 0 || others > 1 {
		t.Errorf("others had %v of the cores", others)
	}
}

func TestOthersAreWhatIsLeft(t *testing.T) {
	t.Parallel()
	earlier := reading{processes: map[string]time.Duration{"a": 1, "b": 2}, busy: 10, idle: 10}
	later := reading{processes: map[string]time.Duration{"a": 31, "b": 22}, busy: 70, idle: 50}
	took, others := later.since(earlier)
	if diff := cmp.Diff(map[string]time.Duration{"a": 30, "b": 20}, took); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if others != 0.1 { // 10 of 100
		t.Errorf("others had %v of the cores, want 0.1", others)
	}
}

func TestParseMachine(t *testing.T) {
	t.Parallel()
	busy, idle, err := parseMachine([]byte("cpu  1 2 3 40 5 6 7 8 1 1\ncpu0 9 9 9 9\n"))
	if err != nil || busy != 270*time.Millisecond || idle != 450*time.Millisecond {
		t.Errorf("busy %v, idle %v, %v", busy, idle, err)
	}
	if _, _, err := parseMachine([]byte("cpu0 1 2 3 4 5 6 7 8 9\n")); err == nil {
		t.Error("one core's line was accepted for all")
	}
}
