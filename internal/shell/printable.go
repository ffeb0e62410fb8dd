package shell

import (
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printable writes letters, and moves nothing: every control character but the
// newline, and whatever turns or hides text, is written as \uXXXX.
type printable struct {
	w       io.Writer
	newline string // what a newline is written as
	held    []byte // the beginning of a letter whose end is not written yet
	midLine bool   // the last thing written was no newline
}

func (p *printable) Write(text []byte) (int, error) {
	all := append(p.held, text...)
	whole := len(all)
	// A letter that the caller writes in two parts is held back, for at most
	// three bytes.
	for cut := 1; cut < utf8.UTFMax && cut <= len(all); cut++ {
		if tail := all[len(all)-cut:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= cut
			}
			break
		}
	}
	out := appendPrintable(nil, all[:whole], p.newline)
	p.held = append(p.held[:0:0], all[whole:]...)
	if err := p.write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

func (p *printable) write(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	p.midLine = out[len(out)-1] != '\n'
	_, err := p.w.Write(out)
	return err
}

// flush writes what was held back, as the fragment that it has turned out to be.
func (p *printable) flush() error {
	if len(p.held) == 0 {
		return nil
	}
	out := appendPrintable(nil, p.held, p.newline)
	p.held = nil
	return p.write(out)
}

// freshLine flushes, and ends a line that was begun.
func (p *printable) freshLine() error {
	err := p.flush()
	if err == nil && p.midLine {
		err = p.write([]byte(p.newline))
	}
	return err
}

func appendPrintable(out, text []byte, newline string) []byte {
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '\n':
			out = append(out, newline...)
		case r == '\t':
			out = append(out, '\t')
		case unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			out = append(out, text[:size]...)
		default:
			if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
				out = appendEscape(appendEscape(out, high), low)
			} else {
				out = appendEscape(out, r)
			}
		}
		text = text[size:]
	}
	return out
}

func appendEscape(out []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// clean is text for one line: a newline is escaped, too.
func clean(text string) string {
	return string(appendPrintable(nil, []byte(text), `\u000a`))
}

// width is how many columns a terminal gives a letter: none to a mark that
// stands on the one before, two to the wide letters of East Asia and to
// pictures (Unicode Standard Annex 11, by blocks).
func width(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f900 && r <= 0x1f9ff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

func widthOf(text string) int {
	n := 0
	for _, r := range text {
		n += width(r)
	}
	return n
}
