package logstore

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bounds of a filter.
const (
	MaxFilter = 4 << 10 // bytes
	maxDepth  = 32      // of parentheses and negations
	maxTerms  = 64      // comparisons
)

// Filter chooses entries of one log:
//
//	( addr.src in 10.0.0.0/8 ) and ( rule eq 'web' or not sni contains example )
//
// A comparison is a field, an operator and a value. The operators are eq, neq,
// geq, leq, contains (without regard to ASCII case) and, for addresses and
// times, in and notin. The words and, or, not (also !) join comparisons; and
// binds closer than or. A value with spaces or parentheses is quoted by ' or ";
// in quotes, a backslash takes a quote or a backslash as it is. Times are written
// 2006/01/02 15:04:05 in the zone of the machine, or as in RFC 3339, or, after in,
// as one of last-60-seconds, last-15-minutes, last-hour, last-6-hrs, last-12-hrs,
// last-24-hrs, last-7-days, last-30-days. "addr" is either address, "port" either
// port.
type Filter struct {
	log  Log
	root *node // nil chooses all
}

// FilterError says what is wrong with a filter, and where.
type FilterError struct {
	At   int // byte offset
	What string
}

func (e *FilterError) Error() string { return fmt.Sprintf("filter, at %d: %s", e.At+1, e.What) }

type junction int

const (
	compare junction = iota
	and
	or
	not
)

// node is a comparison, or others joined.
type node struct {
	is   junction
	kids []*node // of and, or: two and more; of not: one

	field  int // in the log's fields; seqField for the number of the entry
	op     operator
	text   string        // of text; of word and contains in lower case
	num    int64         // of number, instant and severity
	low    []byte        // of address: the range
	high   []byte        //
	within time.Duration // of instant: not before that long ago; 0 for none
}

// seqField stands for the entry's number.
const seqField = -1

type operator string

const (
	opEq       operator = "eq"
	opNeq      operator = "neq"
	opGeq      operator = "geq"
	opLeq      operator = "leq"
	opIn       operator = "in"
	opNotIn    operator = "notin"
	opContains operator = "contains"
)

// operators are those that a kind takes.
var operators = map[kind][]operator{
	text:     {opEq, opNeq, opContains},
	word:     {opEq, opNeq, opContains},
	number:   {opEq, opNeq, opGeq, opLeq},
	instant:  {opEq, opNeq, opGeq, opLeq, opIn},
	address:  {opEq, opNeq, opIn, opNotIn},
	severity: {opEq, opNeq, opGeq, opLeq},
}

// periods are the values of a time's in.
var periods = []struct {
	name string
	d    time.Duration
}{
	{"last-60-seconds", time.Minute}, {"last-15-minutes", 15 * time.Minute}, {"last-hour", time.Hour},
	{"last-6-hrs", 6 * time.Hour}, {"last-12-hrs", 12 * time.Hour}, {"last-24-hrs", 24 * time.Hour},
	{"last-7-days", 7 * 24 * time.Hour}, {"last-30-days", 30 * 24 * time.Hour},
}

// ParseFilter reads a filter of a log; an empty one chooses all. The error is a
// *FilterError.
func ParseFilter(log Log, s string) (*Filter, error) {
	if len(s) > MaxFilter {
		return nil, &FilterError{MaxFilter, fmt.Sprintf("it is %d bytes long; expected %d at most", len(s), MaxFilter)}
	}
	p := parser{log: log, in: s}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.is == end {
		return &Filter{log: log}, nil
	}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.tok.is != end {
		return nil, p.wrong("%s is not expected; comparisons are joined by and, or", p.tok)
	}
	return &Filter{log: log, root: root}, nil
}

// CheckFilter says what is wrong with a filter of a log; nil if nothing is.
func CheckFilter(log Log, s string) error {
	_, err := ParseFilter(log, s)
	return err
}

// IsFilterError says whether an error is that of a filter.
func IsFilterError(err error) bool {
	var e *FilterError
	return errors.As(err, &e)
}

type tokenKind int

const (
	end tokenKind = iota
	open
	closing
	bang
	bare   // a word as it is
	quoted // a value in quotes
)

type token struct {
	is   tokenKind
	at   int
	text string
}

func (t token) String() string {
	if t.is == end {
		return "the end"
	}
	return strconv.Quote(t.text)
}

type parser struct {
	log   Log
	in    string
	pos   int
	tok   token
	terms int
}

func (p *parser) wrong(format string, args ...any) error {
	return &FilterError{p.tok.at, fmt.Sprintf(format, args...)}
}

// next reads a token.
func (p *parser) next() error {
	for p.pos < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.pos]) >= 0 {
		p.pos++
	}
	p.tok = token{at: p.pos}
	if p.pos == len(p.in) {
		return nil
	}
	switch c := p.in[p.pos]; c {
	case '(', ')', '!':
		p.pos++
		p.tok.is, p.tok.text = map[byte]tokenKind{'(': open, ')': closing, '!': bang}[c], string(c)
		return nil
	case '\'', '"':
		return p.quoted(c)
	}
	length := strings.IndexAny(p.in[p.pos:], " \t\r\n()'\"")
	if length < 0 {
		length = len(p.in) - p.pos
	}
	p.tok.is, p.tok.text = bare, p.in[p.pos:p.pos+length]
	p.pos += length
	return nil
}

func (p *parser) quoted(quote byte) error {
	var b strings.Builder
	for i := p.pos + 1; i < len(p.in); i++ {
		c := p.in[i]
		switch {
		case c == quote:
			p.pos, p.tok.is, p.tok.text = i+1, quoted, b.String()
			return nil
		case c == '\\' && i+1 < len(p.in) && strings.IndexByte(`\'"`, p.in[i+1]) >= 0:
			i++
			c = p.in[i]
		}
		b.WriteByte(c)
	}
	return p.wrong("the quote %c is not closed", quote)
}

// keyword reports whether the token is that word, unquoted.
func (p *parser) keyword(word string) bool {
	return p.tok.is == bare && strings.EqualFold(p.tok.text, word)
}

func (p *parser) or(depth int) (*node, error) { return p.join(depth, or, "or", p.and) }

func (p *parser) and(depth int) (*node, error) { return p.join(depth, and, "and", p.not) }

func (p *parser) join(depth int, is junction, word string, part func(int) (*node, error)) (*node, error) {
	first, err := part(depth)
	if err != nil || !p.keyword(word) {
		return first, err
	}
	n := &node{is: is, kids: []*node{first}}
	for p.keyword(word) {
		if err := p.next(); err != nil {
			return nil, err
		}
		kid, err := part(depth)
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, kid)
	}
	return n, nil
}

func (p *parser) not(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, p.wrong("it is nested more than %d deep", maxDepth)
	}
	switch {
	case p.tok.is == bang || p.keyword("not"):
		if err := p.next(); err != nil {
			return nil, err
		}
		kid, err := p.not(depth + 1)
		if err != nil {
			return nil, err
		}
		return &node{is: not, kids: []*node{kid}}, nil
	case p.tok.is == open:
		if err := p.next(); err != nil {
			return nil, err
		}
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.tok.is != closing {
			return nil, p.wrong("expected \")\" instead of %s", p.tok)
		}
		return n, p.next()
	}
	return p.comparison()
}

func (p *parser) comparison() (*node, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, p.wrong("it has more than %d comparisons", maxTerms)
	}
	if p.tok.is != bare {
		return nil, p.wrong("expected a field instead of %s", p.tok)
	}
	indexes, k, ok := lookup(p.log, p.tok.text)
	if !ok {
		return nil, p.wrong("the %s log has no field %q; it has %s", p.log, p.tok.text, strings.Join(FieldNames(p.log), ", "))
	}
	name := p.tok.text
	if err := p.next(); err != nil {
		return nil, err
	}
	op := operator("")
	for _, known := range operators[k] {
		if p.keyword(string(known)) {
			op = known
		}
	}
	if op == "" {
		return nil, p.wrong("%s is no operator of %s; expected one of %v", p.tok, name, operators[k])
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if p.tok.is != bare && p.tok.is != quoted {
		return nil, p.wrong("expected a value instead of %s", p.tok)
	}
	n := &node{field: indexes[0], op: op}
	if err := n.value(k, p.tok.text); err != nil {
		return nil, p.wrong("%s: %v", name, err)
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	if len(indexes) == 1 {
		return n, nil
	}
	either := &node{is: or}
	if op == opNeq || op == opNotIn {
		either.is = and
	}
	for _, i := range indexes {
		kid := *n
		kid.field = i
		either.kids = append(either.kids, &kid)
	}
	return either, nil
}

// value reads what a field is compared with.
func (n *node) value(k kind, s string) (err error) {
	if n.op == opContains || k == word {
		n.text = lower(clean(s, MaxFilter))
		return nil
	}
	switch k {
	case text:
		n.text = clean(s, MaxFilter)
	case number:
		if n.num, err = strconv.ParseInt(s, 10, 64); err != nil {
			return fmt.Errorf("%q: expected a whole number", s)
		}
	case severity:
		level, err := ParseSeverity(s)
		if err != nil {
			return err
		}
		n.num = int64(level)
	case instant:
		return n.time(s)
	case address:
		return n.addresses(s)
	}
	return nil
}

func (n *node) time(s string) error {
	if n.op == opIn {
		names := make([]string, len(periods))
		for i, period := range periods {
			names[i] = period.name
			if strings.EqualFold(s, period.name) {
				n.op, n.within = opGeq, period.d
				return nil
			}
		}
		return fmt.Errorf("%q: expected one of %s", s, strings.Join(names, ", "))
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	for _, layout := range []string{timeLayout, "2006/01/02 15:04", "2006/01/02"} {
		if err != nil {
			at, err = time.ParseInLocation(layout, s, time.Local)
		}
	}
	if err != nil {
		return fmt.Errorf("%q: expected a time such as '2026/01/31 13:45:00' or 2026-01-31T13:45:00Z", s)
	}
	n.num = micros(at)
	return nil
}

func (n *node) addresses(s string) error {
	prefix, err := netip.ParsePrefix(s)
	if a, addrErr := netip.ParseAddr(s); addrErr == nil {
		a = a.Unmap().WithZone("")
		prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || prefix.Addr().Is4In6() {
		return fmt.Errorf("%q: expected an address or a prefix, such as 10.0.0.0/8", s)
	}
	n.low = addressKey(prefix.Masked().Addr())
	n.high = append([]byte{}, n.low...)
	for bit := prefix.Bits(); bit < prefix.Addr().BitLen(); bit++ {
		n.high[1+bit/8] |= 0x80 >> (bit % 8)
	}
	return nil
}

// lookup finds a filter's field: more than one for addr and port.
func lookup(log Log, name string) ([]int, kind, bool) {
	fields := fieldsOf(log)
	flows := log == Traffic || log == Decryption
	switch {
	case strings.EqualFold(name, "seqno"):
		return []int{seqField}, number, true
	case flows && strings.EqualFold(name, "addr"):
		return []int{3, 5}, address, true
	case flows && strings.EqualFold(name, "port"):
		return []int{4, 6}, number, true
	}
	for i, f := range fields {
		for _, known := range append([]string{f.name}, f.also...) {
			if strings.EqualFold(name, known) {
				return []int{i}, f.kind, true
			}
		}
	}
	return nil, 0, false
}

// FieldNames are the names that a log's filters take, without synonyms.
func FieldNames(log Log) []string {
	names := []string{"seqno"}
	for _, f := range fieldsOf(log) {
		names = append(names, f.name)
	}
	if log == Traffic || log == Decryption {
		names = append(names, "addr.src", "addr.dst", "addr", "port.src", "port.dst", "port")
	}
	return names
}

// Operators are the operators that a field of a log's filters takes; nil for
// a field that it has not.
func Operators(log Log, name string) []string {
	_, k, ok := lookup(log, name)
	if !ok {
		return nil
	}
	var list []string
	for _, op := range operators[k] {
		list = append(list, string(op))
	}
	return list
}

// lower is what SQLite's lower is: of ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
