package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"
)

// console asks a person, or reads a script's answers, one a line.
type console struct {
	in          *bufio.Reader
	interactive bool
}

func newConsole() *console {
	return &console{in: bufio.NewReader(os.Stdin), interactive: term.IsTerminal(int(os.Stdin.Fd()))}
}

// secret asks for what is not shown; twice, of a person, where it is new. The
// prompt goes to standard error.
func (c *console) secret(prompt string, twice bool) ([]byte, error) {
	fmt.Fprint(os.Stderr, prompt)
	if !c.interactive {
		line, err := c.in.ReadString('\n')
		fmt.Fprintln(os.Stderr)
		if errors.Is(err, io.EOF) && line == "" {
			return nil, errors.New("standard input ended where an answer was expected")
		} else if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return []byte(strings.TrimRight(line, "\r\n")), nil
	}
	first, err := unseen(int(os.Stdin.Fd()))
	if err != nil || !twice {
		return first, err
	}
	fmt.Fprint(os.Stderr, "Once more: ")
	second, err := unseen(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if string(first) != string(second) {
		clear(first)
		return nil, errors.New("the two differ; nothing was done")
	}
	return first, nil
}

// unseen reads a line of the terminal without echo, and turns echo on again
// also where a signal ends the program meanwhile.
func unseen(fd int) ([]byte, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-ended:
			_ = term.Restore(fd, before)
			fmt.Fprintln(os.Stderr, "\nmoongate: interrupted")
			os.Exit(1)
		case <-done:
		}
	}()
	defer close(done)
	defer signal.Stop(ended)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return line, err
}
