package adminshell

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/users"
)

// TestBackupAndRestore takes a partition away and brings it back, over the
// socket and in this process.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, *Appliance) func(line string, answers ...string) (int, string){
		"socket": func(t *testing.T, a *Appliance) func(string, ...string) (int, string) {
			path := serveLocalHere(t, a)
			return func(line string, answers ...string) (int, string) {
				term := &script{answers: answers}
				got, err := dial(t, path, term).Run(Request{Words: strings.Fields(line)})
				must(t, err)
				return got, term.out.String()
			}
		},
		"process": func(t *testing.T, a *Appliance) func(string, ...string) (int, string) {
			return func(line string, answers ...string) (int, string) {
				term := &script{answers: answers}
				s := New(a, operator, WithFiles(term))
				defer s.Close()
				return s.Run(t.Context(), Request{Words: strings.Fields(line)}), term.out.String()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAppliance(t)
			run := open(t, a)
			ok := func(line string, answers ...string) string {
				t.Helper()
				result, out := run(line, answers...)
				if result != 0 {
					t.Fatalf("%s: %d\n%s", line, result, out)
				}
				return out
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "hsm.backup")
			ok("partition create -p p1", soPassword)
			ok("role init -p p1 -role co", soPassword, coPassword, coPassword)
			ok("hsm domain export -file "+file+".domain", soPassword, "a passphrase of many words", "a passphrase of many words")
			ok("hsm backup -file "+file+" -partition p1", soPassword)
			for _, f := range []string{file, file + ".domain"} {
				if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 || info.Size() == 0 {
					t.Errorf("%s: %v, %v", f, info, err)
				}
			}
			// What is there is not replaced, and what fails leaves nothing.
			before, err := os.ReadFile(file)
			must(t, err)
			for line, says := range map[string]string{
				"hsm backup -file " + file:                                 "the file is there already",
				"hsm backup -file " + filepath.Join(dir, "none", "x"):      "no such file or directory",
				"hsm backup -file " + filepath.Join(dir, "x") + " -p none": "none",
				"hsm restore -file " + filepath.Join(dir, "none"):          "no such file or directory",
				"hsm restore -file " + dir:                                 "it is no file",
				"hsm restore -file " + file:                                "p1", // is there already
			} {
				if result, out := run(line, soPassword); result == 0 || !strings.Contains(out, says) {
					t.Errorf("%s: %d, does not say %q:\n%s", line, result, says, out)
				}
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
				t.Error("the backup was changed")
			}
			entries, err := os.ReadDir(dir)
			must(t, err)
			if len(entries) != 2 {
				t.Errorf("left behind: %v", entries)
			}
			ok("partition delete -p p1 -f", soPassword)
			if out := ok("hsm restore -file "+file, soPassword); !strings.Contains(out, "Partitions:  p1\n") {
				t.Errorf("restore printed\n%s", out)
			}
			ok("partition showContents -p p1", coPassword)
			if _, out := run("hsm restore -file "+file+" -replace", "quit"); !strings.Contains(out, "are destroyed") {
				t.Errorf("restore -replace does not ask:\n%s", out)
			}
			ok("hsm restore -file "+file+" -replace", "proceed", soPassword)
			// A domain is imported into an HSM without partitions.
			ok("partition delete -p p1 -f", soPassword)
			ok("hsm domain import -file "+file+".domain", soPassword, "a passphrase of many words")
		})
	}
}

// TestNoFilesOverTheNetwork: a terminal that is no console's has none, whoever
// is at it.
func TestNoFilesOverTheNetwork(t *testing.T) {
	t.Parallel()
	s := newAdmin(t, newAppliance(t))
	file := filepath.Join(t.TempDir(), "x")
	for line, answers := range map[string][]string{
		"hsm backup -file " + file:        nil,
		"hsm restore -file " + file:       nil,
		"hsm domain export -file " + file: {"a passphrase of many words", "a passphrase of many words"},
		"hsm domain import -file " + file: {"a passphrase of many words"},
	} {
		s.fails("Command failed", line, answers, "this terminal has no files")
	}
	// To an account the command is not even known.
	as(t, s.shell.appliance, users.RoleAdmin).fails("Syntax error", "hsm backup -file "+file, nil, "is not a command")
	if _, err := os.Lstat(file); err == nil {
		t.Error("the file was made")
	}
}

// pair is both ends of a socket; the caller's end obeys steps on a file that
// the words name.
func pair(t *testing.T, words ...string) *localTerminal {
	t.Helper()
	server, caller := net.Pipe()
	t.Cleanup(func() { server.Close() })
	c := &Caller{caller, newLocalTerminal(caller), &script{}}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(Request{Words: words})
		caller.Close()
		ended <- err
	}()
	term := newLocalTerminal(server)
	var req Request
	must(t, term.read(&req))
	t.Cleanup(func() { server.Close(); <-ended })
	return term
}

func TestFilesOfEverySize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, maxPiece - 1, maxPiece, maxPiece + 1, 5*maxPiece + 17} {
		want := make([]byte, size)
		rand.Read(want)
		file := filepath.Join(t.TempDir(), "f")
		out, err := pair(t, "hsm", "backup", "-file", file).Create(file)
		must(t, err)
		_, err = io.Copy(out, onlyReader{bytes.NewReader(want)})
		must(t, err)
		if _, err := os.Lstat(file); err == nil {
			t.Errorf("%d bytes: the file is there before it is whole", size)
		}
		must(t, out.Commit())
		in, err := pair(t, "hsm", "restore", "-file", file).Open(file)
		must(t, err)
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		must(t, in.Close())
	}
}

type onlyReader struct{ io.Reader }

// TestCallerKeepsItsFiles: an HSM that was broken into reaches no other file,
// and not in the other direction.
func TestCallerKeepsItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine, other := filepath.Join(dir, "mine"), filepath.Join(dir, "other")
	must(t, os.WriteFile(other, []byte("secret"), 0o600))
	for _, test := range []struct {
		words string
		try   func(*localTerminal) error
	}{
		{"hsm backup -file " + mine, func(t *localTerminal) error { _, err := t.Create(other + "2"); return err }},
		{"hsm backup -file " + other, func(t *localTerminal) error { _, err := t.Open(other); return err }},
		{"hsm restore -file " + mine, func(t *localTerminal) error { _, err := t.Create(mine); return err }},
		{"hsm restore -file " + mine, func(t *localTerminal) error { _, err := t.Open(other); return err }},
		{"client list", func(t *localTerminal) error { _, err := t.Open(other); return err }},
		{"client list", func(t *localTerminal) error { _, err := t.Open(""); return err }},
		{"nonsense -file " + other, func(t *localTerminal) error { _, err := t.Open(other); return err }},
		{"hsm backup -file " + mine, func(t *localTerminal) error {
			if _, err := t.Create(mine); err != nil {
				return errors.New(err.Error() + " (the first time)")
			}
			_, err := t.Create(mine)
			return err
		}},
	} {
		if err := test.try(pair(t, strings.Fields(test.words)...)); err == nil || err.Error() != errNotNamed.Error() {
			t.Errorf("%s: %v", test.words, err)
		}
	}
	for _, step := range []fileStep{{Do: doWrite}, {Do: doCommit}, {Do: doRead}, {Do: doClose}, {Do: "remove", Path: mine}, {}} {
		if _, err := pair(t, "hsm", "backup", "-file", mine).step(step); err == nil {
			t.Errorf("%+v before a file was made is obeyed", step)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestAbortedFiles: whoever goes away in the middle leaves no file.
func TestAbortedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	piece := make([]byte, 3*maxPiece)
	none := func(what string) {
		t.Helper()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: left behind: %v, %v", what, entries, err)
		}
	}

	out, err := pair(t, "hsm", "backup", "-file", file).Create(file)
	must(t, err)
	_, err = out.Write(piece)
	must(t, err)
	out.Abort()
	none("abort")
	if err := out.Commit(); err == nil {
		t.Error("a file that was aborted is committed")
	}

	// Somebody else was faster.
	out, err = pair(t, "hsm", "backup", "-file", file).Create(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("theirs"), 0o600))
	if err := out.Commit(); err == nil || err.Error() != errFileExists.Error() {
		t.Errorf("a file that came between is replaced: %v", err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "theirs" {
		t.Errorf("it is %q, %v", raw, err)
	}
	must(t, os.Remove(file))
	none("somebody else")

	// The HSM dies.
	server, caller := net.Pipe()
	c := &Caller{caller, newLocalTerminal(caller), &script{}}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(Request{Words: []string{"hsm", "backup", "-file", file}})
		ended <- err
	}()
	term := newLocalTerminal(server)
	var req Request
	must(t, term.read(&req))
	out, err = term.Create(file)
	must(t, err)
	_, err = out.Write(piece)
	must(t, err)
	server.Close()
	if err := <-ended; err == nil {
		t.Error("the caller does not notice that the HSM died")
	}
	none("the HSM dies")

	// The caller dies: the HSM's writer and reader stay broken.
	server, caller = net.Pipe()
	defer server.Close()
	go func() {
		t := newLocalTerminal(caller)
		var m message
		_ = t.read(&m)
		_ = t.enc.Encode(fileAnswer{})
		_ = t.read(&m)
		caller.Close()
	}()
	out, err = newLocalTerminal(server).Create(file)
	must(t, err)
	for range 3 {
		if n, err := out.Write(piece); err == nil || n == len(piece) {
			t.Errorf("writing to a caller that died: %d, %v", n, err)
		}
	}
	if err := out.Commit(); err == nil {
		t.Error("a file of a caller that died is committed")
	}
}

// TestStalledCaller: a caller that was stopped does not keep the HSM waiting.
func TestStalledCaller(t *testing.T) {
	t.Parallel()
	server, caller := net.Pipe()
	defer server.Close()
	defer caller.Close()
	go func() {
		t := newLocalTerminal(caller)
		var m message
		_ = t.read(&m)
		_ = t.enc.Encode(fileAnswer{})
		_ = t.read(&m) // and no answer
	}()
	term := newLocalTerminal(server)
	limit := term.limit
	term.limit = func(d time.Duration) error { return limit(d / 1000) }
	out, err := term.Create("f")
	must(t, err)
	if _, err := out.Write(make([]byte, maxPiece)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to a caller that was stopped: %v", err)
	}
}

// TestCallersMalformedAnswers: a step's answer is checked, too.
func TestCallersMalformedAnswers(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]fileAnswer{
		"nothing and no end": {}, "too much": {Data: make([]byte, maxPiece+1)}, "an error": {Error: "no"},
	} {
		server, caller := net.Pipe()
		go func() {
			t := newLocalTerminal(caller)
			var m message
			for _, a := range []fileAnswer{{}, bad, {}} {
				if t.read(&m) != nil {
					return
				}
				_ = t.enc.Encode(a)
			}
		}()
		in, err := newLocalTerminal(server).Open("f")
		must(t, err)
		if _, err := io.ReadAll(in); err == nil {
			t.Errorf("%s is taken", name)
		}
		if _, err := in.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the reader goes on", name)
		}
		server.Close()
		caller.Close()
	}
}

// FuzzSteps: whatever the HSM asks for, the caller touches the one file alone
// that its command line names, and leaves no other behind.
func FuzzSteps(f *testing.F) {
	f.Add(true, []byte(`{"do":"create","path":"f"}`), []byte(`{"do":"write","data":"AAAA"}`), []byte(`{"do":"commit"}`))
	f.Add(false, []byte(`{"do":"open","path":"g"}`), []byte(`{"do":"read"}`), []byte(`{"do":"close"}`))
	f.Add(true, []byte(`{"do":"create","path":"../f"}`), []byte(`{"do":"open","path":"g"}`), []byte(`{"do":"abort"}`))
	f.Fuzz(func(t *testing.T, out bool, a, b, c []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		words := []string{"hsm", "backup", "-file", name}
		if !out {
			name = filepath.Join(dir, "g")
			words = []string{"hsm", "restore", "-file", name}
		}
		must(t, os.WriteFile(filepath.Join(dir, "g"), []byte("content"), 0o600))
		file := newCallersFile(words)
		for _, line := range [][]byte{a, b, c} {
			var step fileStep
			if decode(line, &step) != nil {
				continue
			}
			if step.Path == "f" || step.Path == "g" {
				step.Path = filepath.Join(dir, step.Path)
			}
			answer := file.do(step)
			if len(answer.Data) > 0 && (out || string(answer.Data) != "content") {
				t.Errorf("%s is answered %q", line, answer.Data)
			}
		}
		file.end()
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			if e.Name() != "g" && (!out || e.Name() != "f") {
				t.Errorf("%s is there", e.Name())
			}
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(raw) != "content" {
			t.Errorf("the file that was read is %q, %v", raw, err)
		}
	})
}
