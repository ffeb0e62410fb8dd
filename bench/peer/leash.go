package peer

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// LeashCommand is the first argument of a program that is to run as a leash;
// the peer's program and arguments follow.
const LeashCommand = "leash"

// Leash runs a peer until in ends, which it does also when the benchmark is
// killed outright. (The kernel's death signal for children would not do: it is
// forgotten when a peer changes its account.) It then ends with its whole process
// group, of which Start made it the leader, and returns only when it could not
// begin.
func Leash(in io.Reader, program string, args ...string) error {
	peer := exec.Command(program, args...)
	peer.Stdout, peer.Stderr = os.Stdout, os.Stderr
	if err := peer.Start(); err != nil {
		return fmt.Errorf("starting a peer: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- peer.Wait() }()
	released := make(chan struct{})
	go func() {
		io.Copy(io.Discard, in) // nothing is ever written; the end is what counts
		close(released)
	}()
	select {
	case err := <-ended:
		fmt.Fprintln(os.Stderr, "ended by itself:", err)
	case <-released:
		if err := peer.Process.Signal(syscall.SIGTERM); err != nil {
			fmt.Fprintln(os.Stderr, "stopping:", err)
		}
		select {
		case <-ended:
		case <-time.After(stopWithin):
		}
	}
	return syscall.Kill(-syscall.Getpgrp(), syscall.SIGKILL)
}
