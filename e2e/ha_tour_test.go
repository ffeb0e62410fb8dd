package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"moongate/e2e/world"
)

// TestHATour runs docs/ha-administration.md, with OpenSSH, as it is written: two
// HSMs, from nothing to a group of which one member dies and comes back.
func TestHATour(t *testing.T) {
	t.Parallel()
	script, printed := tour(t, filepath.Join("..", "docs", "ha-administration.md"))
	var programs string
	for _, name := range []string{"moongate-hsm", "cmu"} {
		path, err := world.Program(t.Context(), name)
		must(t, err)
		programs = filepath.Dir(path)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = world.T(t).Dir()
	cmd.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "ADMIN=admin-password", "SO=so-password", "CO=co-password")
	// The ports are held until all are chosen, so that no two are the same.
	var held []net.Listener
	for _, name := range []string{"A", "A_SSH", "B", "B_SSH"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		held = append(held, l)
		cmd.Env = append(cmd.Env, name+"="+l.Addr().String())
	}
	for _, l := range held {
		must(t, l.Close())
	}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		var logs []byte
		for _, name := range []string{"hsm-a.log", "hsm-b.log"} {
			text, _ := os.ReadFile(filepath.Join(cmd.Dir, name))
			logs = append(logs, text...)
		}
		t.Fatalf("%v\n%s\n%s\n%s", err, out.String(), problems.String(), logs)
	}
	compareTour(t, out.String(), strings.ReplaceAll(printed, "\n\n", "\n"))
}
