// Package xmltext writes text into XML 1.0, so that a parser gives back the
// same text. A character that a document cannot hold becomes U+FFFD.
package xmltext

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// A carriage return is written as a reference because a parser makes a line
// feed of a bare one (XML 1.0 section 2.11), and so, within an attribute, is
// every white space that it would make a space of (section 3.3.3).
var (
	inText = map[rune]string{'&': "&amp;", '<': "&lt;", '>': "&gt;", '\r': "&#xD;"}
	inAttr = map[rune]string{
		'&': "&amp;", '<': "&lt;", '>': "&gt;", '"': "&quot;",
		'\r': "&#xD;", '\n': "&#xA;", '\t': "&#x9;",
	}
)

// Text writes the text of an element.
func Text(b *bytes.Buffer, s string) { escape(b, s, inText) }

// Attr writes the value of an attribute in double quotes, without them.
func Attr(b *bytes.Buffer, s string) { escape(b, s, inAttr) }

// CDATA writes a CDATA section; an end of one within the text is divided
// between two.
func CDATA(b *bytes.Buffer, s string) {
	b.WriteString("<![CDATA[")
	escape(b, strings.ReplaceAll(s, "]]>", "]]]]><![CDATA[>"), nil)
	b.WriteString("]]>")
}

func escape(b *bytes.Buffer, s string, escapes map[rune]string) {
	for _, r := range s {
		switch e, special := escapes[r]; {
		case special:
			b.WriteString(e)
		case Holds(r):
			b.WriteRune(r)
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
}

// Holds reports the characters that a document may hold (XML 1.0 section 2.2).
func Holds(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' ||
		r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}
