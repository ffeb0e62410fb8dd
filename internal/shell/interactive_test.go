package shell

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestEditing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, types, want string }{
		{"letters", "abc", "abc_"},
		{"left and insert", "abc\x1b[D\x1b[DX", "aX_bc"},
		{"control keys", "abc\x02\x02X\x06Y\x01Z\x05!", "ZaXbYc!_"},
		{"home and end", "bc\x1b[Ha\x1b[Fd\x1b[1~>\x1b[4~<", ">abcd<_"},
		{"backspace", "abc\x7f\x08d", "ad_"},
		{"backspace at the start", "a\x01\x7f\x7f", "_a"},
		{"delete", "abc\x01\x1b[3~\x04", "_c"},
		{"kill left", "abc def\x1b[D\x1b[D\x15", "_ef"},
		{"kill right", "abc def\x02\x02\x0b", "abc d_"},
		{"kill word", "abc def  \x17", "abc _"},
		{"kill word, Alt", "abc def\x1b\x7f", "abc _"},
		{"words left and right", "ab cd ef\x1bb\x1b[1;5D\x1b[1;3DX\x1bfY", "XabY_ cd ef"},
		{"UTF-8", "für Zoë", "für Zoë_"},
		{"wide letters", "日本\x1b[D", "日_本"},
		{"a combining mark", "e\u0301x", "e\u0301x_"},
		{"unknown sequences", "a\x1b[99;99;99X\x1b[200~b\x1bOQ\x1bzc\x1b[24~d", "abcd_"},
		{"a sequence that goes on", "a\x1b[" + strings.Repeat("9;", 500) + "~b", "ab_"},
		{"no UTF-8", "a\xff\xc3b\xe2\x82c", "abc_"},
		{"controls", "a\x00\x1f\x1db", "ab_"},
		{"not printable", "a\u202e\u0085\u200bb", "ab_"},
		{"clear the screen", "ab\x02\x0c", "a_b"},
		{"abandoned search", "ab\x12x\x07", "_"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := served(t, 80, Options{}, func(p *person, _ *talk) {
				p.types(test.types)
				p.sees("[lab] sh:>" + test.want)
			})
			must(t, err)
		})
	}
}

func TestLongLinesAreBrokenIntoRows(t *testing.T) {
	t.Parallel()
	_, err := served(t, 20, Options{}, func(p *person, _ *talk) {
		p.types("0123456789")
		p.sees("[lab] sh:>0123456789", "_")
		p.types("abc\x01")
		p.sees("[lab] sh:>_0123456789", "abc")
		p.types("\x7f\x1b[3~\x1b[3~")
		p.sees("[lab] sh:>_23456789ab", "c")
		p.types("\x05日本日本日本日本日")
		p.sees("[lab] sh:>23456789ab", "c日本日本日本日本日_")
		p.types("本\x1b[D")
		p.sees("[lab] sh:>23456789ab", "c日本日本日本日本日", "_本")
		p.mu.Lock()
		p.columns, p.screen.columns = 60, 60
		p.mu.Unlock()
		p.resize <- struct{}{}
		synctest.Wait()
		p.sees("[lab] sh:>23456789abc日本日本日本日本日_本")
		p.types("\r")
		p.sees("[lab] sh:>23456789abc日本日本日本日本日本", "[lab] sh:>_")
	})
	must(t, err)
}

func TestLinesAreBounded(t *testing.T) {
	t.Parallel()
	_, err := served(t, 80, Options{MaxLine: 5}, func(p *person, in *talk) {
		p.types("abcdéf" + strings.Repeat("x", 10_000) + "\r")
		if got := in.ran(); !slices.Equal(got, []string{"abcdf"}) {
			t.Errorf("ran %q", got)
		}
	})
	must(t, err)
}

func TestHistory(t *testing.T) {
	t.Parallel()
	opts := Options{History: 3, Remember: func(line string) bool { return !strings.Contains(line, "password") }}
	_, err := served(t, 80, opts, func(p *person, in *talk) {
		p.types("one\rtwo\r  \rtwo\rlogin password x\rsecret\rhidden\rthree\r")
		p.types("new\x1b[A")
		p.sees("[lab] sh:>three_")
		p.types("\x10")
		p.sees("[lab] sh:>secret_")
		p.types("\x10\x10\x10")
		p.sees("[lab] sh:>two_")
		p.types("\x0e\x1bOB")
		p.sees("[lab] sh:>three_")
		p.types("\x0e\x0e")
		p.sees("[lab] sh:>new_")
		// An answer is no line of the history, and cannot be got from it.
		p.types("\x15ask\r\x1b[A\x12\x09answer\r")
		p.sees("The ask? > answer", "it is answer", "[lab] sh:>_")
		p.types("\x1b[A\x1b[A\x1b[A\x1b[A")
		p.sees("[lab] sh:>secret_")
		p.types("\x15\x12t")
		p.sees("(search) 't': three_")
		p.types("h")
		p.sees("(search) 'th': three_")
		p.types("\x7f\x12\x12\x12")
		p.sees("(search) 't': secret_")
		p.types("\x01X")
		p.sees("[lab] sh:>X_secret")
		p.types("\x15\x12k")
		p.sees("(search) 'k': ask_") // with what was there kept
		p.types("\r")
		if got := in.ran(); got[len(got)-1] != "ask" {
			t.Errorf("ran %q", got)
		}
	})
	must(t, err)
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	_, err := served(t, 80, Options{}, func(p *person, in *talk) {
		p.types("secret\r")
		p.sees("First line.", "The secret? > _")
		p.types("swordfishx?\x09\x7f\x7f")
		p.sees("The secret? > _")
		p.mu.Lock()
		if strings.Contains(p.raw.String(), "sword") {
			t.Error("it was echoed")
		}
		p.mu.Unlock()
		p.types("\x1b[A\r")
		p.sees("The secret? > ********", "it is swordfish", "[lab] sh:>_")
		p.types("\x1b[A")
		p.sees("[lab] sh:>secret_")
	})
	must(t, err)
}

func TestInterrupts(t *testing.T) {
	t.Parallel()
	status, err := served(t, 80, Options{}, func(p *person, in *talk) {
		p.types("abandoned\x02\x03")
		p.sees("[lab] sh:>abandoned^C", "[lab] sh:>_")
		p.types("wait\r")
		p.sees("_")
		p.types("typed ahead\r")
		p.types("more\r\x03")
		p.sees("stopped", "[lab] sh:>_")
		p.types("secret\rsword\x03")
		p.sees("The secret? > ^C", "no answer: interrupted; nothing more was done", "[lab] sh:>_")
		p.types("ask\r\x04")
		p.sees("The ask? > ", "no answer: the input ended where an answer was expected", "[lab] sh:>_")
		p.types("\x1b[1\x03x")
		p.sees("[lab] sh:>x_")
		p.types("\x15fail\r")
		if got, want := in.ran(), []string{"wait", "secret", "ask", "fail"}; !slices.Equal(got, want) {
			t.Errorf("ran %q, want %q", got, want)
		}
		p.types("\x04")
	})
	if status != 1 || err != nil {
		t.Errorf("ended with %d, %v", status, err)
	}
}

func TestTypedAheadIsRun(t *testing.T) {
	t.Parallel()
	_, err := served(t, 80, Options{}, func(p *person, in *talk) {
		p.types("ask\rthe answer\rprint 1\r\nprint 2\nprint 3\r\r\n")
		p.sees("it is the answer", "[lab] sh:>print 1", "1", "[lab] sh:>print 2", "2", "[lab] sh:>print 3", "3", "[lab] sh:>", "[lab] sh:>_")
		// More than is read ahead waits for its turn.
		p.types(strings.Repeat("print 4\r", 2*maxAhead/8))
		if got := len(in.ran()); got != 4+2*maxAhead/8 {
			t.Errorf("ran %d lines", got)
		}
	})
	must(t, err)
}

// TestKey: a pager's question takes one key, and leaves nothing behind it.
func TestKey(t *testing.T) {
	t.Parallel()
	_, err := served(t, 80, Options{}, func(p *person, _ *talk) {
		p.types("more\r ")
		p.sees("[lab] sh:>more", "' ' of 24 rows, <nil>", "[lab] sh:>_")
		p.types("more\r\x1b[A\r")
		p.sees("'\\r' of 24 rows, <nil>", "[lab] sh:>_")
		p.types("more\r\x03")
		p.sees(`'\x00' of 24 rows, interrupted; nothing more was done`, "[lab] sh:>_")
	})
	must(t, err)
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	_, err := served(t, 40, Options{}, func(p *person, _ *talk) {
		p.types("h\t")
		p.sees("[lab] sh:>hsm _")
		p.types("\x15C\t")
		p.sees("[lab] sh:>cl_")
		p.types("\t")
		p.sees("[lab] sh:>cl_")
		p.types("\t")
		p.sees("[lab] sh:>cl", "client  clear", "[lab] sh:>cl_")
		p.types("i\tl\t")
		p.sees("[lab] sh:>client list_") // no space: it may be a name that begins so
		p.types("\t\t")
		p.sees("list    <NAME>", "[lab] sh:>client list_")
		p.types("\x15only \t\t")
		p.sees("<NAME>", "[lab] sh:>only _")
		p.types("\x15label t\t")
		p.sees("[lab] sh:>label t_") // a word in quotation marks does not begin with t
		p.types("\x7f\t")
		p.sees(`[lab] sh:>label "two words" _`)
		p.types("\x15nothing x\t\t")
		p.sees("[lab] sh:>nothing x_")
		p.types("\x15h x\x02\x02\t")
		p.sees("[lab] sh:>hsm _x")
	})
	must(t, err)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	_, err := served(t, 60, Options{}, func(p *person, in *talk) {
		p.types("?")
		p.sees("[lab] sh:>", "  client  about clients", "  clear", `  hsm     the \u001b[1mHSM`, "[lab] sh:>_")
		p.types("cli?")
		p.sees("[lab] sh:>cli", "  client  about clients", "[lab] sh:>cli_")
		p.types("ent ?")
		p.sees("  list    every client", "  show    one", "  <NAME>  a name", "[lab] sh:>client _")
		p.types(`"?a" ?`)
		p.sees(`[lab] sh:>client "?a" _`)
		p.types("\x15nothing x?")
		p.sees("  (nothing that is known here)", "[lab] sh:>nothing x_")
		if len(in.ran()) > 0 {
			t.Error("something was run")
		}
	})
	must(t, err)
}

// TestOutputSteersNothing: whoever named a thing cannot move the cursor of who
// lists it.
func TestOutputSteersNothing(t *testing.T) {
	t.Parallel()
	_, err := served(t, 80, Options{}, func(p *person, _ *talk) {
		p.types("steer\r") // which ends in the middle of a line
		p.mu.Lock()
		defer p.mu.Unlock()
		want := `\u001b[2Jgone\u000d\u202e\u009b1m\ufffd` + "\t.€\\ufffd\\ufffd\r\n\\ufffd\r\n[lab]"
		if out := p.raw.String(); !strings.Contains(out, want) {
			t.Errorf("printed %q, want %q", out, want)
		}
	})
	must(t, err)
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		types  string
		status int
		err    string
	}{
		{"fail\rexit\r", 1, ""},
		{"\x04", 0, ""},
		{"fail\r", 1, ""}, // the stream ends
		{"broken\r", 3, "broken"},
	} {
		status, err := served(t, 80, Options{}, func(p *person, _ *talk) { p.types(test.types) })
		if status != test.status || (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
			t.Errorf("%q ended with %d, %v", test.types, status, err)
		}
	}
}

// TestContextEnds: a session at its prompt, in a question or in a command ends
// with its context.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	for _, types := range []string{"", "abc", "ask\r", "wait\r"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			p := newPerson(t, 80)
			ended := make(chan error)
			go func() {
				_, err := Interactive(ctx, p, &talk{}, Options{})
				ended <- err
			}()
			p.types(types)
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("after %q: %v", types, err)
			}
		})
	}
}

func TestInteractiveOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPerson(t, 80)
		ended := make(chan int)
		go func() {
			status, err := InteractiveOnce(t.Context(), p, &talk{}, "secret", Options{})
			if err != nil {
				t.Error(err)
			}
			ended <- status
		}()
		p.types("sword\r")
		if status := <-ended; status != 0 {
			t.Errorf("status %d", status)
		}
		p.sees("The secret? > ********", "it is sword", "_")
		go InteractiveOnce(t.Context(), p, &talk{}, "exit", Options{})
		synctest.Wait()
	})
}

// FuzzInteractive types anything: the terminal is steered by known sequences
// alone, and shows the line that is there.
func FuzzInteractive(f *testing.F) {
	f.Add([]byte("abc\x1b[D\x1b[3~\x7f\x15client ?\t\t\r\x12cli\r"), uint8(20))
	f.Add([]byte("\x1b\x1b[\x1b[1;5D\x1bO\x1bOA\xff\xe2\x82日本日本e\u0301\x01\x0b"), uint8(9))
	f.Add([]byte("\u0301\u0301x\x1b[D\x1b[D\u0301\r\u0301"), uint8(8))
	f.Add([]byte("secret\rx\x1b[A\x12\x0c\r\"a ?\x17\x17"), uint8(200))
	f.Fuzz(func(t *testing.T, typed []byte, columns uint8) {
		if len(typed) > 4096 || strings.Contains(string(typed), "w") {
			return // `wait` would wait for a Ctrl-C
		}
		p := newPerson(t, int(columns))
		p.screen.columns = max(int(columns), minColumns)
		p.screen.wraps = true
		if columns == 0 {
			p.screen.columns = defaultColumns
		}
		go func() {
			p.w.Write(typed)
			p.w.Close()
		}()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := Interactive(ctx, p, &talk{}, Options{MaxLine: 64}); err != nil && !errors.Is(err, io.ErrClosedPipe) && err.Error() != "broken" {
			t.Fatal(err)
		}
		if p.screen.bad != "" {
			t.Errorf("the terminal got %q", p.screen.bad)
		}
	})
}

// FuzzDecoder: a known key after anything is seen at once or two bytes later.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x1b[1;"))
	f.Add([]byte("\xf0\x9f"))
	f.Add([]byte("\x1bO"))
	f.Fuzz(func(t *testing.T, typed []byte) {
		var d decoder
		for _, b := range typed {
			d.feed(b)
			if len(d.buf) > maxSequence {
				t.Fatalf("%d bytes are kept", len(d.buf))
			}
		}
		d.feed('~')
		if k := d.feed(interrupt); k != keyInterrupt {
			t.Errorf("Ctrl-C after %q is %d", typed, k)
		}
	})
}
