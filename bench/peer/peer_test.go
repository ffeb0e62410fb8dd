package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test program be the leash.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == LeashCommand {
		if err := Leash(os.Stdin, os.Args[2], os.Args[3:]...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func TestStopLeavesNoDescendant(t *testing.T) {
	t.Parallel()
	p, err := Start(t.Context(), "shell", nil, "sh", "-c", "sleep 600 & sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	waitGroupGone(t, p.PID)
}

func TestALostLeashLeavesNoDescendant(t *testing.T) {
	t.Parallel()
	p, err := Start(t.Context(), "shell", nil, "sh", "-c", "sleep 600 & sleep 600")
	if err != nil {
		t.Fatal(err)
	}
	p.hold.Close() // as the kernel does when the benchmark is killed
	<-p.exited
	waitGroupGone(t, p.PID)
}

func waitGroupGone(t *testing.T, group int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("process group %d still has members", group)
		}
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	addrs, err := FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), "shell", addrs, "sh", "-c", "echo no such directive >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "no such directive") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, without what the program said", err)
	}
	if _, err = Start(t.Context(), "nothing", addrs, filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestFreeAddrsDiffer(t *testing.T) {
	t.Parallel()
	addrs, err := FreeAddrs(8)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, addr := range addrs {
		host, _, err := net.SplitHostPort(addr)
		if err != nil || host != "127.0.0.1" || seen[addr] {
			t.Errorf("%q among %v: %v", addr, addrs, err)
		}
		seen[addr] = true
	}
}

func TestForbidServices(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy-rc.d")
	remove, err := forbidServices(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Fatalf("%v, %v: not a program", info, err)
	}
	again, err := forbidServices(path)
	if err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("somebody else's policy was removed: %v", err)
	}
	remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the policy stayed")
	}
}
