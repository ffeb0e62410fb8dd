// Package ownsocket is a unix socket for a program's own user and root alone:
// what is done on the machine itself, without an account.
//
// Two locks hold it: the socket's mode, 0600, and the kernel's word on who is
// on the other side (SO_PEERCRED, unix(7)). A third is its directory, which
// should be the program's own, mode 0700.
package ownsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// MaxPath is how long a socket's path may be, in bytes (unix(7)).
const MaxPath = 107

// Listen opens the socket. One that a stopped program left is replaced. What
// the socket is for goes into the errors.
func Listen(path, purpose string) (*net.UnixListener, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("the %s socket's path %s has %d bytes, at most %d; choose a data directory with a shorter path", purpose, path, len(path), MaxPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old %s socket: %w", purpose, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the %s socket: %w", purpose, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the %s socket to others: %w", purpose, err)
	}
	return l, nil
}

// Peer returns the user id on the other side. The error is the kernel's, or
// says that the user is neither root nor our own.
func Peer(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reading the caller's identity: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, fmt.Errorf("reading the caller's identity: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("reading the caller's identity: %w", credErr)
	}
	if uid := int(cred.Uid); !may(uid, os.Getuid()) {
		return uid, fmt.Errorf("uid %d is neither root nor the program's own user", uid)
	}
	return int(cred.Uid), nil
}

func may(uid, own int) bool { return uid == 0 || uid == own }

// Guard returns a listener that closes the connections of other users unheard.
func Guard(l *net.UnixListener) net.Listener { return guarded{l} }

type guarded struct{ *net.UnixListener }

func (g guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if _, err := Peer(conn); err == nil {
			return conn, nil
		}
		conn.Close()
	}
}
