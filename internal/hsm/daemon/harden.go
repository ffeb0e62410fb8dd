package daemon

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// harden keeps key material out of core dumps and out of the reach of other
// processes of the same user: neither can attach a debugger or read
// /proc/PID/mem. Root still can.
func harden(log *slog.Logger) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		log.Warn("this process can be dumped", "err", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		log.Warn("core dumps are not off", "err", err)
	}
}
