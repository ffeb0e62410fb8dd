// Package harden keeps a process's memory to itself.
package harden

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// Memory keeps keys, session secrets and plaintext out of core dumps and out of
// the reach of other processes of the same user, which can neither attach a
// debugger nor read /proc/PID/mem (prctl(2), PR_SET_DUMPABLE). Root still can.
func Memory(log *slog.Logger) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("this process can be dumped", "err", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("core dumps are not off", "err", err)
	}
}
