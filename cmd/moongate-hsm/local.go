package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/daemon"
	"moongate/internal/hsm/settings"
)

// executor runs command lines in the running HSM, or in its files.
type executor struct {
	run   func(adminshell.Request) (int, error)
	close func() error
}

func newExecutor(dir string, term *console) (*executor, error) {
	caller, err := adminshell.DialLocal(daemon.In(dir).Socket(), term)
	if err == nil {
		return &executor{caller.Run, caller.Close}, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("this HSM belongs to another user; run as that user or as root: %w", err)
	}
	s, err := settings.LoadOrDefault(filepath.Join(dir, settings.FileName))
	if err != nil {
		return nil, err
	}
	a, err := daemon.Open(daemon.Options{
		Dir: dir, Version: version, Listen: "(not running)", Logger: slog.New(slog.DiscardHandler), Passphrase: passphrase(s, term),
	})
	if errors.Is(err, daemon.ErrFIPSModule) {
		inFIPSMode() // nothing was read from standard input yet
	}
	if err != nil {
		return nil, err
	}
	sh := adminshell.New(&a.Appliance, adminshell.LocalAdministrator(), adminshell.WithFiles(term))
	return &executor{
		func(r adminshell.Request) (int, error) { return sh.Run(context.Background(), r), nil },
		func() error { sh.Close(); return a.Close() },
	}, nil
}

func command(dir string, words []string) int {
	term := newConsole()
	ex, err := newExecutor(dir, term)
	if err != nil {
		return fail(err)
	}
	code, err := runLine(ex, words)
	if err := errors.Join(err, ex.close()); err != nil {
		return fail(err)
	}
	return code
}

// shell runs command lines from standard input; a login lasts until the end.
// It stops at the first command that fails, and exits with its result.
func shell(dir string) int {
	term := newConsole()
	ex, err := newExecutor(dir, term)
	if err != nil {
		return fail(err)
	}
	defer ex.close()
	for {
		line, err := term.readLine("moonsh:> ")
		if errors.Is(err, io.EOF) {
			return 0
		} else if err != nil {
			return fail(err)
		}
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "exit" || line == "quit" {
			return 0
		}
		words, err := adminshell.Words(line)
		code := 1
		if err != nil {
			fail(err)
		} else if code, err = runLine(ex, words); err != nil {
			return fail(err)
		}
		if code != 0 && !term.interactive {
			return code
		}
	}
}

// runLine reads the files that the line names and runs it. The exit code is 1
// for every failure: a process has only 8 bits for 65535. The error says that
// the HSM could not be talked to.
func runLine(ex *executor, words []string) (int, error) {
	req := adminshell.Request{Words: words, Files: map[string][]byte{}}
	for option, path := range adminshell.FileOptions(words) {
		content, err := os.ReadFile(path)
		if err != nil {
			return fail(fmt.Errorf("-%s: %w", option, err)), nil
		}
		if len(content) > maxFile {
			return fail(fmt.Errorf("-%s: %s has %d bytes, at most %d", option, path, len(content), maxFile)), nil
		}
		req.Files[option] = content
	}
	result, err := ex.run(req)
	if err != nil || result != 0 {
		return 1, err
	}
	return 0, nil
}

// maxFile bounds a file that an option names: a certificate.
const maxFile = 64 << 10
