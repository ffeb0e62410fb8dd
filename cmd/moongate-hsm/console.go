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

// console is standard input and output: a person's terminal, or a script's
// pipes. It is an adminshell.Terminal.
type console struct {
	in          *bufio.Reader
	interactive bool
}

func newConsole() *console {
	return &console{in: bufio.NewReader(os.Stdin), interactive: term.IsTerminal(int(os.Stdin.Fd()))}
}

func (c *console) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// Ask prints the prompt on standard error, so that a script's standard output
// holds answers only.
func (c *console) Ask(prompt string, secret bool) (string, error) {
	fmt.Fprint(os.Stderr, prompt)
	if secret && c.interactive {
		return askUnseen(int(os.Stdin.Fd()))
	}
	line, err := c.line()
	if !c.interactive {
		fmt.Fprintln(os.Stderr)
	}
	if errors.Is(err, io.EOF) {
		return "", errors.New("standard input ended where an answer was expected")
	}
	return line, err
}

// askUnseen reads a line of the terminal without echo, and turns echo on again
// also where a signal ends the program meanwhile.
func askUnseen(fd int) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-ended:
			term.Restore(fd, before)
			os.Exit(fail(errors.New("interrupted")))
		case <-done:
		}
	}()
	defer close(done)
	defer signal.Stop(ended)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return string(line), err
}

func (c *console) askTwice(prompt string) (string, error) {
	first, err := c.Ask(prompt, true)
	if err != nil {
		return "", err
	}
	second, err := c.Ask("Please re-enter the password to confirm: ", true)
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ; nothing was changed")
	}
	return first, nil
}

func (c *console) readLine(prompt string) (string, error) {
	if c.interactive {
		fmt.Print(prompt)
	}
	return c.line()
}

func (c *console) line() (string, error) {
	line, err := c.in.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}
