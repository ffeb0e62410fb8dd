package adminshell

import (
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printable is a terminal that shows letters and moves nothing: what clients,
// files and other people named cannot steer the terminal of who lists it. What
// is not printable is written as \uXXXX, which JSON reads back; a byte that is
// no UTF-8 as \ufffd.
type printable struct{ Terminal }

func (p printable) Write(text []byte) (int, error) {
	if _, err := p.Terminal.Write(escape(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

func (p printable) Ask(prompt string, secret bool) (string, error) {
	return p.Terminal.Ask(string(escape([]byte(prompt))), secret)
}

// escape returns text itself where there is nothing to escape.
func escape(text []byte) []byte {
	plain := true
	for i := 0; i < len(text) && plain; {
		r, size := utf8.DecodeRune(text[i:])
		plain = shown(r, size)
		i += size
	}
	if plain {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if shown(r, size) {
			out = append(out, text[:size]...)
		} else if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
			out = appendEscape(appendEscape(out, high), low)
		} else {
			out = appendEscape(out, r)
		}
		text = text[size:]
	}
	return out
}

func shown(r rune, size int) bool {
	return r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1)
}

const hexDigits = "0123456789abcdef"

func appendEscape(out []byte, r rune) []byte {
	return append(out, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// oneLine is text in one column of one line of a listing.
func oneLine(text string) string {
	return strings.NewReplacer("\n", `\u000a`, "\t", `\u0009`).Replace(text)
}
