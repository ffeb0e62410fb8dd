package revision

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
	"testing"
	"time"

	"moongate/internal/gw/config"
)

// childDir makes this test's program edit and commit in the directory that it
// names, until it is killed.
const childDir = "REVISION_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		editForEver(dir)
	}
	if args := os.Getenv(failArgs); args != "" {
		if err := changeOnFailingDisk(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// editForEver names the gateway by rising numbers, commits after each third,
// and prints what has been acknowledged.
func editForEver(dir string) {
	s, err := Open(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("opening:", err)
		os.Exit(1)
	}
	ctx := context.Background()
	root, _ := s.Candidate()
	n := numberOf(root)
	for {
		n++
		e, err := config.SetEdit(hostnamePath, "h"+strconv.Itoa(n))
		if err == nil {
			_, err = s.Edit(ctx, 0, e)
		}
		if err != nil {
			fmt.Println("editing:", err)
			os.Exit(1)
		}
		fmt.Println("edit", n)
		if n%3 != 0 {
			continue
		}
		root, _ := s.Candidate()
		if _, err := s.Commit(ctx, Meta{Admin: "child", At: time.Now()}, root, time.Time{}); err != nil {
			fmt.Println("committing:", err)
			os.Exit(1)
		}
		fmt.Println("commit", n)
	}
}

// numberOf is the number that editForEver gave a configuration's gateway.
func numberOf(root *config.Node) int {
	found, err := config.Select(root, hostnamePath)
	if err != nil || len(found) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(found[0].Text, "h"))
	return n
}

// TestKill9: whenever the process is killed, the running configuration is whole
// and not older than the last commit that was acknowledged, and the candidate
// not older than the last edit.
func TestKill9(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "config")
	edited, committed := 0, 0
	for range 40 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for after := rand.IntN(12); lines.Scan(); after-- {
			word, number, _ := strings.Cut(lines.Text(), " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				t.Fatal(lines.Text())
			}
			if word == "edit" {
				edited = n
			} else {
				committed = n
			}
			if after == 0 {
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // it was killed
		s := open(t, options(dir))
		root, _ := s.Candidate()
		if n := numberOf(root); n < edited {
			t.Fatalf("edit %d was acknowledged, the candidate has %d", edited, n)
		}
		running, v := s.Running()
		if n := numberOf(running); n < committed || n%3 != 0 && n != 0 {
			t.Fatalf("commit %d was acknowledged, version %d runs with %d", committed, v.Number, n)
		}
		for _, v := range s.Versions() {
			if _, err := s.Version(v.Number); err != nil {
				t.Fatal(err)
			}
		}
	}
	if edited < 40 || committed == 0 {
		t.Errorf("only %d edits and %d of commits were made", edited, committed)
	}
}
