package p11host

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/internal/p11/p11test"
)

// orphanEnv makes this test's program a supervisor that is killed.
const orphanEnv = "P11HOST_TEST_ORPHAN"

// orphan starts a Host and tells the helper's process id.
func orphan() int {
	h, err := Start(Config{
		Module: p11test.Module, Token: label, Program: os.Getenv(orphanEnv), Dir: os.Getenv("P11HOST_TEST_DIR"),
		PIN: func() ([]byte, error) { return []byte(p11test.PIN), nil },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for h.Status().State != Running {
		<-h.Changed()
	}
	fmt.Println(h.Status().PID)
	time.Sleep(patience)
	return 1
}

// TestKilledSupervisor: the helper ends with the process that started it, and
// the next one clears the socket's directory away.
func TestKilledSupervisor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), w.store.Env(), orphanEnv+"="+program, "P11HOST_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	for end := time.Now().Add(patience); syscall.Kill(pid, 0) == nil && !zombie(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the helper outlives its supervisor")
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Fatalf("the killed supervisor left %v, %v", entries, err)
	}
	w.start(t, func(c *Config) { c.Dir = dir })
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || !strings.Contains(entries[0].Name(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the directory holds %v, %v; expected the new one alone", entries, err)
	}
}

// zombie reports whether a process has ended and nobody took note of it: here
// the container's first process may not.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
