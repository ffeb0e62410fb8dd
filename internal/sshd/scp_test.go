package sshd

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const testLimit = 100

func TestSCP(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", testLimit)
	for _, test := range []struct {
		name, command, input, output string
		status                       int
		files                        map[string]string // besides server.pem
	}{
		// In.
		{"one", "scp -t .", "C0644 5 a.pem\nhello\x00", "\x00\x00\x00", 0, map[string]string{"a.pem": "hello"}},
		{"two, with times", "scp -p -d -t .", "T1 0 2 0\nC0600 1 a\nA\x00T1 0 2 0\nC0600 0 b\n\x00", "\x00\x00\x00\x00\x00\x00\x00", 0, map[string]string{"a": "A", "b": ""}},
		{"under another name", "scp -v -t ./b.pem", "C0644 1 a.pem\nA\x00", "\x00\x00\x00", 0, map[string]string{"b.pem": "A"}},
		{"a quoted path", "scp -t 'b c'", "C0644 1 a\nA\x00", "\x00\x00\x00", 0, map[string]string{"b c": "A"}},
		{"flags together", "scp -pdvt -- -b", "C0644 1 a\nA\x00", "\x00\x00\x00", 0, map[string]string{"-b": "A"}},
		{"an address of IPv6", "scp -t /", "C0644 1 fe80::1.pem\nA\x00", "\x00\x00\x00", 0, map[string]string{"fe80::1.pem": "A"}},
		{"nothing", "scp -t .", "", "\x00", 0, nil},
		{"the longest", "scp -t .", "C0644 100 a\n" + long + "\x00", "\x00\x00\x00", 0, map[string]string{"a": long}},
		{"too long", "scp -t .", "C0644 101 a\nC0644 1 b\nB\x00", "\x00\x01scp: a has 101 bytes, at most 100 are taken\n\x00\x00", 1, map[string]string{"b": "B"}},
		{"denied", "scp -t .", "C0644 1 server.pem\n", "\x00\x01scp: Permission denied\n", 1, nil},
		{"a bad one, then a good one", "scp -t .", "C0644 3 a\nbad\x00C0644 1 b\nB\x00", "\x00\x00\x01scp: a is no certificate\n\x00\x00", 1, map[string]string{"b": "B"}},
		{"cut short", "scp -t .", "C0644 5 a\nhel", "\x00\x00", 1, nil},
		{"without its end", "scp -t .", "C0644 5 a\nhello", "\x00\x00", 1, nil},
		{"that the peer could not read", "scp -t .", "C0644 5 a\nhello\x01scp: read error\n", "\x00\x00", 1, nil},
		{"a peer's warning", "scp -t .", "\x01scp: x: No such file\nC0644 1 a\nA\x00", "\x00\x00\x00", 1, map[string]string{"a": "A"}},
		{"a directory", "scp -t .", "D0755 0 d\n", "\x00\x01scp: there are no directories here\n", 1, nil},
		{"a directory's end", "scp -t .", "E\n", "\x00\x01scp: there are no directories here\n", 1, nil},
		{"a path", "scp -t .", "C0644 1 ../a\nA\x00", "\x00\x01scp: protocol error: \"../a\" is no name of a file\n", 1, nil},
		{"a hidden name", "scp -t .", "C0644 1 .a\n", "\x00\x01scp: file does not exist: \".a\" is no name of a file here\n", 1, nil},
		{"a steering name", "scp -t .", "C0644 1 a\x1b[2J\n", "\x00\x01scp: file does not exist: \"a\\x1b[2J\" is no name of a file here\n", 1, nil},
		{"a target elsewhere", "scp -t /etc/passwd", "C0644 1 a\n", "\x00\x01scp: file does not exist: \"/etc/passwd\" is no name of a file here\n", 1, nil},
		{"a bad mode", "scp -t .", "C0648 1 a\n", "\x00\x01scp: protocol error: expected C, a mode, a size and a name\n", 1, nil},
		{"a negative size", "scp -t .", "C0644 -1 a\n", "\x00\x01scp: protocol error: expected C, a mode, a size and a name\n", 1, nil},
		{"a size with a sign", "scp -t .", "C0644 +1 a\n", "\x00\x01scp: protocol error: expected C, a mode, a size and a name\n", 1, nil},
		{"a huge size", "scp -t .", "C0644 99999999999999999999 a\n", "\x00\x01scp: protocol error: expected C, a mode, a size and a name\n", 1, nil},
		{"no name", "scp -t .", "C0644 1 \n", "\x00\x01scp: protocol error: \"\" is no name of a file\n", 1, nil},
		{"bad times", "scp -t .", "T1 0 x 0\n", "\x00\x01scp: protocol error: expected four numbers after T\n", 1, nil},
		{"an unknown step", "scp -t .", "X\n", "\x00\x01scp: protocol error: unknown step\n", 1, nil},
		{"a long line", "scp -t .", "C0644 1 " + strings.Repeat("a", 2000) + "\n", "\x00\x01scp: protocol error: a line of more than 1024 bytes\n", 1, nil},
		// Out.
		{"fetch", "scp -f server.pem", "\x00\x00\x00", "C0400 16 server.pem\nthe certificate\n\x00", 0, nil},
		{"fetch with times", "scp -p -f ./server.pem", "\x00\x00\x00\x00", "T1000000000 0 1000000000 0\nC0400 16 server.pem\nthe certificate\n\x00", 0, nil},
		{"fetch what is not there", "scp -f x", "\x00", "\x01scp: file does not exist: there is no x\n", 1, nil},
		{"fetch elsewhere", "scp -f /etc/shadow", "\x00", "\x01scp: file does not exist: \"/etc/shadow\" is no name of a file here\n", 1, nil},
		{"fetch the directory", "scp -f .", "\x00", "\x01scp: file does not exist: \".\" is no name of a file here\n", 1, nil},
		{"a fetch that is broken off", "scp -f server.pem", "\x00\x02enough\n", "C0400 16 server.pem\n", 1, nil},
		{"a fetch without a beginning", "scp -f server.pem", "", "", 1, nil},
		{"a fetch of noise", "scp -f server.pem", "x", "\x01scp: protocol error: expected an answer, got byte 120\n", 1, nil},
		// Neither.
		{"directories", "scp -r -t .", "", "\x01scp: -r: there are no directories here\n", 1, nil},
		{"both", "scp -t -f x", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
		{"no direction", "scp x", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
		{"no path", "scp -t", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
		{"an unknown flag", "scp -S sh -t .", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
		{"a dash alone", "scp -t - x", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
		{"nothing at all", "scp", "", "\x01scp: " + errSCPUsage.Error() + "\n", 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			files, out := newMemory(), &bytes.Buffer{}
			status := serveSCP(t.Context(), test.command, iotest.OneByteReader(strings.NewReader(test.input)), out, files, testLimit)
			if status != test.status || out.String() != test.output {
				t.Errorf("status %d, answered %q; want %d, %q", status, out, test.status, test.output)
			}
			want := map[string]string{"server.pem": "the certificate\n"}
			for name, content := range test.files {
				want[name] = content
			}
			if diff := cmp.Diff(want, files.content); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSCPOverSSH: the exit status, and that scp's command is no command.
func TestSCPOverSSH(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Limits{}, nil)
	for command, want := range map[string]int{"scp -t .": 0, "scp -t /etc/x": 1} {
		s := w.session()
		s.Stdin = strings.NewReader("C0644 1 a\nA\x00")
		if status := exitStatus(s.Run(command)); status != want {
			t.Errorf("%s: status %d", command, status)
		}
	}
	if got := w.files.get("a"); got != "A" {
		t.Errorf("a holds %q", got)
	}
	none := newWorld(t, Limits{}, func(_ *Options, h *house) { h.files = nil })
	s := none.session()
	out, err := s.Output("scp -t .")
	if err != nil || !strings.HasPrefix(string(out), "scp -t . at") {
		t.Errorf("without files: %q, %v", out, err)
	}
	if err := none.session().RequestSubsystem("sftp"); err == nil {
		t.Error("without files there is sftp")
	}
}

func FuzzSCP(f *testing.F) {
	f.Add("scp -t .", []byte("T1 0 2 0\nC0644 5 a.pem\nhello\x00"))
	f.Add("scp -p -f server.pem", []byte("\x00\x00\x00\x00"))
	f.Add("scp -d -t -- 'x y'", []byte("C0600 0 b\n\x00\x01warning\nD0755 0 d\n"))
	f.Fuzz(func(t *testing.T, command string, input []byte) {
		files := newMemory()
		serveSCP(t.Context(), command, bytes.NewReader(input), &bytes.Buffer{}, files, testLimit)
		checkFiles(t, files)
	})
}

// checkFiles checks what no peer may bring about.
func checkFiles(t *testing.T, files *memory) {
	t.Helper()
	for name, content := range files.content {
		if n, err := fileName(name); err != nil || n != name || len(content) > testLimit {
			t.Errorf("there is a file %q of %d bytes", name, len(content))
		}
	}
	if files.content["server.pem"] != "the certificate\n" {
		t.Error("server.pem was changed")
	}
}
