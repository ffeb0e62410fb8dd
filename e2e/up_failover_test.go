package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/world"
)

var (
	upProcess = regexp.MustCompile(`(?m)^HSM .*process (\d+),`)
	upFigures = regexp.MustCompile(`http://(\S+)/metrics`)
	upProxy   = regexp.MustCompile(`--proxy http://(\S+) .*https://localhost:(\d+)/`)
	upInbound = regexp.MustCompile(`https://localhost:(\d+)/`)
)

// TestUpFailover kills and stops either HSM of `moongate up -hsms 2` under a load
// of handshakes, inbound and forward, each of which needs a signature: none
// fails.
func TestUpFailover(t *testing.T) {
	t.Parallel()
	program, err := world.Program(t.Context(), "moongate")
	must(t, err)
	u := startUp(t, program, filepath.Join(world.T(t).Dir(), "data"), "-hsms", "2")
	defer u.stop()
	said := strings.Join(u.said, "\n")
	figures, proxy := upFigures.FindStringSubmatch(said), upProxy.FindStringSubmatch(u.curls[0])
	inbound, hsms := upInbound.FindStringSubmatch(u.curls[1]), upProcess.FindAllStringSubmatch(said, -1)
	if figures == nil || proxy == nil || inbound == nil || len(hsms) != 2 {
		t.Fatalf("`moongate up -hsms 2` printed\n%s", said)
	}
	membersLive(t, figures[1], 2)

	load := newHandshakes(t)
	defer load.end()
	for range 2 {
		load.work("inbound", func(int) error {
			conn, err := net.DialTimeout("tcp", "127.0.0.1:"+inbound[1], 20*time.Second)
			if err != nil {
				return err
			}
			return shakeHands(conn, "localhost")
		})
	}
	for i := range 2 {
		s := &setting{t: t, gateway: &world.Gateway{Proxy: proxy[1]}}
		load.work("forward", func(n int) error {
			conn, err := s.connect("127.0.0.1:" + proxy[2])
			if err != nil {
				return err
			}
			// A name that nobody asked for before: its leaf has to be signed.
			return shakeHands(conn, fmt.Sprintf("host-%d-%d.test", i, n))
		})
	}
	for _, line := range u.curls {
		load.work("curl", func(int) error {
			out, err := try(t.Context(), "sh", "-c", line+" -sS --fail")
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
	load.more(50)
	for i, match := range hsms {
		var pid int
		_, err := fmt.Sscan(match[1], &pid)
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		membersLive(t, figures[1], 1)
		load.more(50)
		must(t, syscall.Kill(pid, syscall.SIGCONT))
		membersLive(t, figures[1], 2)
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		load.more(50)
		membersLive(t, figures[1], 2) // its supervisor starts it anew
		t.Logf("HSM %d was stopped and killed: %d handshakes by now", i+1, load.done.Load())
	}
	load.end()
	t.Logf("%d handshakes, %d failed, the longest took %v", load.done.Load(), load.failed.Load(), time.Duration(load.longest.Load()).Round(time.Millisecond))
}

// shakeHands makes a full handshake and says good-bye. Who is there is not
// looked at: that is curl's part.
func shakeHands(conn net.Conn, name string) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	return tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
}
