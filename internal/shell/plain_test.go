package shell

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestPiped(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100)
	for _, test := range []struct {
		name, input string
		status      int
		out         string
		ran         []string
	}{
		{"nothing", "", 0, "", nil},
		{"lines", "print 1\n\n  \r\nprint 2\r\nprint 3", 0, "1\n2\n3\n", []string{"print 1", "print 2", "print 3"}},
		{"a failure in the middle", "fail\nprint 2\n", 0, "2\n", []string{"fail", "print 2"}},
		{"a failure at the end", "print 1\nfail\n", 1, "1\n", []string{"print 1", "fail"}},
		{"the end", "fail\nexit\nprint 1\n", 1, "", []string{"fail", "exit"}},
		{"answers", "ask\nyes\nsecret\nsword\n", 0, "First line.\nThe ask? > \nit is yes\nFirst line.\nThe secret? > \nit is sword\n", []string{"ask", "secret"}},
		{"an empty answer", "ask\n\n", 0, "First line.\nThe ask? > \nit is \n", []string{"ask"}},
		{"no answer", "ask\n", 1, "First line.\nThe ask? > \nno answer: the input ended where an answer was expected\n", []string{"ask"}},
		{"a long line", "print " + long + "\nprint 1\n", 0, "Error: the line was not run: it has more than 40 bytes\n1\n", []string{"print 1"}},
		{"a long line at the end", "print 1\n" + long, 1, "1\nError: the line was not run: it has more than 40 bytes\n", []string{"print 1"}},
		{"a very long line", strings.Repeat("x", 100_000) + "\nprint 1\n", 0, "Error: the line was not run: it has more than 40 bytes\n1\n", []string{"print 1"}},
		{"the longest line", strings.Repeat("x", 40) + "\r\n" + strings.Repeat("x", 41) + "\n", 1, "Error: the line was not run: it has more than 40 bytes\n", []string{strings.Repeat("x", 40)}},
		{"a long answer", "ask\n" + long + "\n", 1, "First line.\nThe ask? > \nno answer: reading the answer: the line was not run: it has more than 40 bytes\n", []string{"ask"}},
		{"an escape sequence", "print \x1b[2J\n", 1, "Error: the line was not run: it holds what is not printable\n", nil},
		{"no UTF-8", "print \xff\n", 1, "Error: the line was not run: it is no UTF-8\n", nil},
		{"output", "steer\n", 0, `\u001b[2Jgone\u000d\u202e\u009b1m\ufffd` + "\t.€\\ufffd\\ufffd\n\\ufffd", []string{"steer"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			in := &talk{}
			status, err := Piped(t.Context(), iotest.OneByteReader(strings.NewReader(test.input)), &out, in, Options{MaxLine: 40})
			must(t, err)
			if status != test.status || out.String() != test.out || !slices.Equal(in.ran(), test.ran) {
				t.Errorf("status %d, ran %q, printed\n%s\nwant status %d, %q,\n%s", status, in.ran(), &out, test.status, test.ran, test.out)
			}
		})
	}
}

func TestPipedEnds(t *testing.T) {
	t.Parallel()
	if status, err := Piped(t.Context(), strings.NewReader("broken\nprint 1\n"), io.Discard, &talk{}, Options{}); status != 3 || err == nil {
		t.Errorf("a session that cannot go on: %d, %v", status, err)
	}
	if _, err := Piped(t.Context(), iotest.ErrReader(errors.New("lost")), io.Discard, &talk{}, Options{}); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("a lost stream: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := &talk{}
	if _, err := Piped(ctx, strings.NewReader("print 1\n"), io.Discard, in, Options{}); !errors.Is(err, context.Canceled) || len(in.ran()) > 0 {
		t.Errorf("a context that is done: %v", err)
	}
}

func TestOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line, input string
		status      int
		out         string
	}{
		{"print 1", "print 2\n", 0, "1\n"},
		{"fail", "", 1, ""},
		{"exit", "", 0, ""},
		{"secret", "sword\n", 0, "First line.\nThe secret? > \nit is sword\n"},
		{"secret", "", 1, "First line.\nThe secret? > \nno answer: the input ended where an answer was expected\n"},
		{"print 1\nprint 2", "", 1, "Error: the line was not run: it holds what is not printable\n"},
		{strings.Repeat("x", 5000), "", 1, "Error: the line was not run: it has more than 4096 bytes\n"},
	} {
		var out bytes.Buffer
		status, err := Once(t.Context(), test.line, strings.NewReader(test.input), &out, &talk{}, Options{})
		if status != test.status || out.String() != test.out || err != nil {
			t.Errorf("%.20q: %d, %v\n%s", test.line, status, err, &out)
		}
	}
	if status, err := Once(t.Context(), "broken", strings.NewReader(""), io.Discard, &talk{}, Options{}); status != 3 || err == nil {
		t.Errorf("broken: %d, %v", status, err)
	}
}
