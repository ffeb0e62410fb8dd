package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func typed(keys string, terminal bool) (*console, *bytes.Buffer) {
	var shown bytes.Buffer
	return &console{in: bufio.NewReader(strings.NewReader(keys)), terminal: terminal, out: io.Discard, err: &shown}, &shown
}

func TestTypedSecret(t *testing.T) {
	t.Parallel()
	const (
		del, ctrlU, ctrlC, ctrlD = "\x7f", "\x15", "\x03", "\x04"
		rub                      = "\b \b"
	)
	for _, test := range []struct {
		name, keys, want, shown string
		err                     error
	}{
		{"plain", "abc\r", "abc", "***", nil},
		{"line feed", "abc\nmore", "abc", "***", nil},
		{"a star for each letter, not for each byte", "aé€\r", "aé€", "***", nil},
		{"delete", "abx" + del + "c\r", "abc", "***" + rub + "*", nil},
		{"delete takes a whole letter", "a€" + del + "\r", "a", "**" + rub, nil},
		{"delete at the beginning", del + "a\r", "a", "*", nil},
		{"backspace", "ab\b\r", "a", "**" + rub, nil},
		{"Ctrl-U", "xyz" + ctrlU + "a\r", "a", "***" + rub + rub + rub + "*", nil},
		{"other control keys", "a\x01\tb\r", "ab", "**", nil},
		{"Ctrl-D within is no letter", "a" + ctrlD + "b\r", "ab", "**", nil},
		{"spaces stay", " a \r", " a ", "***", nil},
		{"Ctrl-C", "ab" + ctrlC + "c\r", "", "**", errInterrupted},
		{"Ctrl-D", ctrlD, "", "", errNoAnswer},
		{"the end", "ab", "", "**", errNoAnswer},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, shown := typed(test.keys, true)
			got, err := c.typedSecret()
			if string(got) != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, test.want, test.err)
			}
			if shown.String() != test.shown {
				t.Errorf("shown %q, want %q", shown, test.shown)
			}
		})
	}
}

func TestTypedSecretIsBounded(t *testing.T) {
	t.Parallel()
	c, _ := typed(strings.Repeat("a", maxSecret+1)+"\r", true)
	if got, err := c.typedSecret(); err == nil {
		t.Errorf("a password of %d bytes was taken", len(got))
	}
}

func TestLinesEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		terminal bool
		want     []string
	}{
		{"pipe", "a\nb\n", false, []string{"a", "b"}},
		{"pipe, other system", "a\r\nb\r\n", false, []string{"a", "b"}},
		{"pipe, last line open", "a\nb", false, []string{"a", "b"}},
		{"pipe, a carriage return within", "a\rb\n", false, []string{"a\rb"}},
		{"terminal, typed ahead in raw mode", "a\rb\n", true, []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, _ := typed(test.in, test.terminal)
			for _, want := range test.want {
				if got, err := c.line(); string(got) != want || err != nil {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
			}
			if got, err := c.line(); !errors.Is(err, errNoAnswer) {
				t.Errorf("after the end: %q, %v", got, err)
			}
		})
	}
}
