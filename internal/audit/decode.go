package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

var errMalformed = errors.New("malformed audit record")

// ParseRecord decodes a record's line, without its newline. It accepts exactly
// what [Event.AppendJSON] writes: any other spelling of the same contents,
// unknown members and trailing bytes are errors.
func ParseRecord(line []byte) (Event, error) {
	if len(line) >= maxLine {
		return Event{}, errMalformed
	}
	var e Event
	p := parser{rest: line}
	e.Seq = p.head()
	e.Time = p.time()
	e.Kind = Kind(p.required(`,"kind":"`))
	e.Action = p.required(`,"action":"`)
	if p.literal(`,"op":"`) {
		p.hex(e.Op[:])
		p.expect(`"`)
	}
	e.Client = p.optional(`,"client":"`)
	e.Remote = p.optional(`,"remote":"`)
	e.Partition = p.optional(`,"partition":"`)
	e.Role = p.optional(`,"role":"`)
	if p.literal(`,"object":"`) {
		p.uuid(&e.Object)
		p.expect(`"`)
	}
	e.Mechanism = p.optional(`,"mechanism":"`)
	e.Outcome = p.required(`,"outcome":"`)
	e.Detail = p.optional(`,"detail":"`)
	p.expect(`}`)
	if p.failed || len(p.rest) != 0 {
		return Event{}, errMalformed
	}
	// One encoding only: what the parser is lenient about (needless escapes,
	// over-long fields, empty members, upper-case digits) differs here.
	var scratch [512]byte
	if !bytes.Equal(e.AppendJSON(scratch[:0]), line) {
		return Event{}, errMalformed
	}
	return e, nil
}

// maxSeq is the largest record number: what every reader of JSON can hold.
const maxSeq = 1<<53 - 1

// parseSeq reads the record number alone.
func parseSeq(line []byte) (int64, bool) {
	p := parser{rest: line}
	seq := p.head()
	return seq, !p.failed
}

// A parser consumes a line from its front. After a failure it only fails.
type parser struct {
	rest   []byte
	failed bool
}

func (p *parser) literal(s string) bool {
	rest, found := bytes.CutPrefix(p.rest, []byte(s))
	p.rest = rest
	return found
}

func (p *parser) expect(s string) {
	if !p.literal(s) {
		p.fail()
	}
}

func (p *parser) fail() { p.failed, p.rest = true, nil }

// take is the next n bytes, or nil.
func (p *parser) take(n int) []byte {
	if len(p.rest) < n {
		p.fail()
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) head() int64 {
	p.expect(`{"seq":`)
	digits := 0
	for digits < len(p.rest) && p.rest[digits] >= '0' && p.rest[digits] <= '9' {
		digits++
	}
	number := p.take(digits)
	p.expect(`,"time":"`)
	seq, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || seq > maxSeq || number[0] == '0' && digits > 1 {
		p.fail()
	}
	return seq
}

func (p *parser) time() time.Time {
	t, err := time.Parse(timeLayout, string(p.take(len(timeLayout))))
	if err != nil {
		p.fail()
	}
	p.expect(`"`)
	return t
}

func (p *parser) hex(dst []byte) {
	if _, err := hex.Decode(dst, p.take(2*len(dst))); err != nil {
		p.fail()
	}
}

func (p *parser) uuid(dst *[16]byte) {
	from := 0
	for i, to := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			p.expect("-")
		}
		p.hex(dst[from:to])
		from = to
	}
}

func (p *parser) required(key string) string {
	value := p.optional(key)
	if value == "" {
		p.fail()
	}
	return value
}

// optional is the string that follows key, up to and with its closing
// quotation mark, or "" if key does not come next.
func (p *parser) optional(key string) string {
	if !p.literal(key) {
		return ""
	}
	end := bytes.IndexAny(p.rest, `"\`)
	if end >= 0 && p.rest[end] == '"' {
		value := string(p.rest[:end])
		p.rest = p.rest[end+1:]
		return value
	}
	return p.escaped()
}

func (p *parser) escaped() string {
	var value []byte
	for !p.failed {
		c := p.take(1)
		switch {
		case c == nil:
		case c[0] == '"':
			return string(value)
		case c[0] != '\\':
			value = append(value, c[0])
		case p.literal(`u`):
			value = utf8.AppendRune(value, p.escapedRune())
		default:
			value = append(value, p.take(1)...)
		}
	}
	return ""
}

// escapedRune is the rune after \u; two escapes when it is beyond the basic plane.
func (p *parser) escapedRune() rune {
	r := p.hex4()
	if utf16.IsSurrogate(r) {
		p.expect(`\u`)
		return utf16.DecodeRune(r, p.hex4())
	}
	return r
}

func (p *parser) hex4() rune {
	var b [2]byte
	p.hex(b[:])
	return rune(b[0])<<8 | rune(b[1])
}
