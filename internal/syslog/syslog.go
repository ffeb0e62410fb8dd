// Package syslog sends messages to a collector: RFC 5424 over TLS (RFC 5425,
// with the TLS versions of RFC 9662), over TCP (RFC 6587, octet counting) or by
// UDP (RFC 5426).
//
//	sender, err := syslog.New(syslog.Options{Address: "collector.example:6514", CAFile: "ca.pem", ...})
//	...
//	err = sender.Send(ctx, syslog.Message{Severity: syslog.Notice, Mark: 17, ...})
//	err = sender.Flush()
//
// The protocol has no acknowledgement. What was written to a connection that
// dies may or may not have arrived, so the caller numbers its messages (Mark)
// and, after an error, sends again all behind [Sender.Settled]: collectors get
// every message at least once, and some twice. By UDP it is once at most: nobody
// tells what got lost, but when the collector's machine says that nobody listens.
package syslog

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Severities, RFC 5424, section 6.2.1.
const (
	Alert    = 1
	Critical = 2
	Error    = 3
	Warning  = 4
	Notice   = 5
	Info     = 6
)

// FacilityAudit is "log audit", RFC 5424, section 6.2.1.
const FacilityAudit = 13

// A Message is one event. What a field may not hold by RFC 5424 is replaced
// by "?", and what is too long is cut.
type Message struct {
	Mark     int64 // the caller's number: of each message higher than of the one before
	Severity int
	Time     time.Time // sent in UTC with microseconds; zero for none
	ID       string    // MSGID: the kind of event; up to 32 printable ASCII characters
	Data     []Element
	Text     string // UTF-8 without control characters; up to 16 KiB
}

// An Element is structured data, RFC 5424, section 6.3.
type Element struct {
	ID     string // name@enterprise number; up to 32 characters
	Params []Param
}

// A Param is a name, up to 32 characters, and a value, up to 1 KiB of UTF-8.
type Param struct{ Name, Value string }

// Limits of a message's parts, in bytes. A message is at most MaxMessage.
const (
	maxName  = 32
	maxHost  = 255
	maxApp   = 48
	maxProc  = 128
	maxValue = 1 << 10
	maxText  = 16 << 10
	maxParam = 64 // in a message; what is beyond is left out

	MaxMessage = 192 << 10
)

// An identity is what all messages of a sender begin with.
type identity struct {
	facility        int
	host, app, proc string
}

// appendMessage appends a message as RFC 5424, section 6 has it.
func appendMessage(b []byte, from identity, m *Message) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(from.facility*8+min(max(m.Severity, 0), 7)), 10)
	b = append(b, ">1 "...)
	if m.Time.IsZero() || m.Time.UTC().Year() > 9999 || m.Time.UTC().Year() < 0 {
		b = append(b, '-')
	} else {
		b = m.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	}
	b = appendName(append(b, ' '), from.host, maxHost, "")
	b = appendName(append(b, ' '), from.app, maxApp, "")
	b = appendName(append(b, ' '), from.proc, maxProc, "")
	b = appendName(append(b, ' '), m.ID, maxName, "")
	b = append(b, ' ')
	if len(m.Data) == 0 {
		b = append(b, '-')
	}
	params := 0
	for _, e := range m.Data {
		b = append(b, '[')
		b = appendName(b, e.ID, maxName, `="]`)
		for _, p := range e.Params {
			if params++; params > maxParam {
				break
			}
			b = appendName(append(b, ' '), p.Name, maxName, `="]`)
			b = append(b, `="`...)
			b = appendValue(b, p.Value)
			b = append(b, '"')
		}
		b = append(b, ']')
	}
	if m.Text != "" {
		b = append(b, ' ')
		b = appendText(b, m.Text)
	}
	return b
}

// appendName appends printable ASCII without white space and without the
// characters in not; "-" where there is nothing.
func appendName(b []byte, s string, limit int, not string) []byte {
	if s == "" {
		return append(b, '-')
	}
	for i := range min(len(s), limit) {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte(not, c) >= 0 {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// appendValue escapes as RFC 5424, section 6.3.3 has it.
func appendValue(b []byte, s string) []byte {
	for _, r := range cut(s, maxValue) {
		switch {
		case r == '"' || r == '\\' || r == ']':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '?')
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// appendText appends the text, with the byte order mark that says UTF-8
// (RFC 5424, section 6.4) if it is more than ASCII.
func appendText(b []byte, s string) []byte {
	s = cut(s, maxText)
	if strings.IndexFunc(s, func(r rune) bool { return r > '~' }) >= 0 {
		b = append(b, "\uFEFF"...)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			r = '?'
		}
		b = utf8.AppendRune(b, r)
	}
	return b
}

// cut bounds s, between characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// appendFrame appends a message with its size before it: RFC 5425, section 4.3.
func appendFrame(b []byte, message []byte) []byte {
	b = strconv.AppendInt(b, int64(len(message)), 10)
	b = append(b, ' ')
	return append(b, message...)
}
