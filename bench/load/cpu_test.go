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
	if took := since(before, after); took["me"] == 0 || took[selfName] == 0 {
		t.Errorf("100 ms of work show as %v", took)
	}
}
