package ownsocket

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // what a stopped program left
		t.Fatal(err)
	}
	l, err := Listen(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	guard := Guard(l)
	defer guard.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket is %v, %v; expected a socket of mode 0600", info.Mode(), err)
	}
	go func() {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
		}
	}()
	conn, err := guard.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid, err := Peer(conn.(*net.UnixConn)); err != nil || uid != os.Getuid() {
		t.Errorf("the peer is %d, %v; expected %d", uid, err, os.Getuid())
	}

	long := filepath.Join(t.TempDir(), strings.Repeat("x", MaxPath))
	if _, err := Listen(long, "test"); err == nil || !strings.Contains(err.Error(), "the test socket's path "+long) {
		t.Errorf("a path that is too long: %v", err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "s"), "test"); err == nil || !strings.Contains(err.Error(), "opening the test socket") {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestOthers has another user knock: the mode is opened first, so that the
// second lock is what holds.
func TestOthers(t *testing.T) {
	t.Parallel()
	if !may(0, 5) || !may(5, 5) || may(6, 5) {
		t.Error("root and the own user may, and nobody else")
	}
	if os.Getuid() != 0 {
		t.Log("this is not root: nobody else can be run as here")
		return
	}
	dir, err := os.MkdirTemp("/tmp", "ownsocket") // others can reach it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := Listen(path, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("perl", "-MIO::Socket::UNIX", "-e", `IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$!"; sleep 1`, path)
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if uid, err := Peer(conn); err == nil || uid != 65534 {
		t.Errorf("uid 65534 got through as %d", uid)
	}
}
