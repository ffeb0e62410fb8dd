package intercept

import (
	"errors"

	"golang.org/x/sys/unix"
)

// bytesMoved reads the kernel's counters (tcp_info, since Linux 4.1).
func bytesMoved(fd int) (received, acked uint64, known bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0, false
	}
	return info.Bytes_received, info.Bytes_acked, true
}

// readNow reads what has arrived on a non-blocking socket: nothing, where
// nothing has, and at the end, which the next read meets again.
func readNow(fd int, b []byte) (int, error) {
	n, err := unix.Read(fd, b)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	}
	return 0, err
}
