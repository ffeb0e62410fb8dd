package logstore

import (
	"bytes"
	"strings"
	"time"
)

// A filter is evaluated in two ways, which a test holds to be the same: by the
// database, for queries, and here, for what is forwarded.

// sql appends the condition. What came from outside is in the arguments only.
func (n *node) sql(b *strings.Builder, args []any, fields []field, now time.Time) []any {
	switch n.is {
	case not:
		b.WriteString("NOT ")
		return n.kids[0].sql(b, args, fields, now)
	case and, or:
		for i, kid := range n.kids {
			switch {
			case i == 0:
				b.WriteByte('(')
			case n.is == and:
				b.WriteString(" AND ")
			default:
				b.WriteString(" OR ")
			}
			args = kid.sql(b, args, fields, now)
		}
		b.WriteByte(')')
		return args
	}
	column, k := "seq", number
	if n.field != seqField {
		column, k = fields[n.field].column(), fields[n.field].kind
	}
	if k == address {
		b.WriteString("(" + column)
		if n.op == opNeq || n.op == opNotIn {
			b.WriteString(" NOT")
		}
		b.WriteString(" BETWEEN ? AND ?)")
		return append(args, n.low, n.high)
	}
	var value any = n.num
	switch {
	case n.op == opContains:
		b.WriteString("(instr(lower(" + column + "), ?) > 0)")
		return append(args, n.text)
	case k == text:
		value = n.text
	case k == word:
		column, value = "lower("+column+")", n.text
	case n.within != 0:
		value = micros(now.Add(-n.within))
	}
	b.WriteString("(" + column + map[operator]string{opEq: " = ", opNeq: " <> ", opGeq: " >= ", opLeq: " <= "}[n.op] + "?)")
	return append(args, value)
}

// match says whether the values of an entry are chosen.
func (n *node) match(seq int64, values []any, fields []field, now time.Time) bool {
	switch n.is {
	case not:
		return !n.kids[0].match(seq, values, fields, now)
	case and, or:
		for _, kid := range n.kids {
			if kid.match(seq, values, fields, now) == (n.is == or) {
				return n.is == or
			}
		}
		return n.is == and
	}
	var value any = seq
	if n.field != seqField {
		value = values[n.field]
	}
	switch v := value.(type) {
	case []byte:
		inside := bytes.Compare(n.low, v) <= 0 && bytes.Compare(v, n.high) <= 0
		return inside == (n.op == opEq || n.op == opIn)
	case string:
		if n.op == opContains {
			return strings.Contains(lower(v), n.text)
		}
		if fields[n.field].kind == word {
			v = lower(v)
		}
		return (v == n.text) == (n.op == opEq)
	case int64:
		against := n.num
		if n.within != 0 {
			against = micros(now.Add(-n.within))
		}
		switch n.op {
		case opEq:
			return v == against
		case opNeq:
			return v != against
		case opGeq:
			return v >= against
		default:
			return v <= against
		}
	}
	return false
}

// bounded reports whether the filter bounds the time of receipt, such that the
// index on it is the way to go.
func (n *node) bounded() bool {
	switch n.is {
	case and:
		for _, kid := range n.kids {
			if kid.bounded() {
				return true
			}
		}
	case compare:
		return n.field == timeField && n.op != opNeq
	}
	return false
}
