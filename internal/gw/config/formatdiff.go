package config

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// FormatDiff writes what differs between two trees for people, one element or
// value a line, those around it for orientation alone: + before what was added,
// - before what was removed, ! before what was moved. It is "" where nothing
// differs. Secrets are masked, and where one was changed both lines say so.
//
//	  devices {
//	    localhost.localdomain {
//	      deviceconfig {
//	        system {
//	-         hostname old;
//	+         hostname new;
//	        }
//	      }
//	    }
//	  }
func FormatDiff(before, after *Node) string {
	var f formatter
	f.compare(before, after, target{row: schema}, 0)
	return f.b.String()
}

// Format writes one tree, or a part of one, as FormatDiff does what was added,
// without the signs. Secrets are not masked here.
func Format(n *Node) string {
	var f formatter
	f.whole("", n, 0)
	return f.b.String()
}

type formatter struct {
	b strings.Builder
	// open are the braces that are around what is written next, as far as they
	// are not written yet.
	open []string
	deep int // of open, how many are written
}

// line writes a line, after the braces that it is in.
func (f *formatter) line(sign string, depth int, text string) {
	for ; f.deep < len(f.open); f.deep++ {
		f.write(" ", f.deep, f.open[f.deep])
	}
	f.write(sign, depth, text)
}

func (f *formatter) write(sign string, depth int, text string) {
	if sign != "" {
		f.b.WriteString(sign + " ")
	}
	f.b.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

// within writes what is in a pair of braces, and no braces around nothing.
func (f *formatter) within(depth int, open, shut string, inner func()) {
	f.open = append(f.open, open)
	inner()
	f.open = f.open[:len(f.open)-1]
	if f.deep > len(f.open) {
		f.deep = len(f.open)
		f.write(" ", depth, shut)
	}
}

// compare writes how the children of two elements of the same key differ.
func (f *formatter) compare(a, b *Node, at target, depth int) {
	s := align(a.Children, b.Children)
	for _, c := range s.removed {
		f.whole("-", mask(c, at.after(c)), depth)
	}
	for _, p := range s.pairs {
		next := at.after(p.after)
		if p.before == nil {
			f.whole("+", mask(p.after, next), depth)
			continue
		}
		if p.moved {
			f.line("!", depth, label(p.after)+"; # moved "+s.place(b, p.after)+", was "+s.place(a, p.before))
		}
		if p.before == p.after {
			continue
		}
		if p.before.Text != p.after.Text || !sameAttrs(p.before, p.after) {
			f.whole("-", mask(alone(p.before), next), depth)
			f.whole("+", mask(alone(p.after), next), depth)
		}
		open, shut := braces(p.after)
		f.within(depth, open, shut, func() { f.compare(p.before, p.after, next, depth+1) })
	}
}

// alone is a node without its children.
func alone(n *Node) *Node {
	copied := n.copied()
	copied.Children = nil
	return copied
}

func sameAttrs(a, b *Node) bool {
	if len(a.Attrs) != len(b.Attrs) {
		return false
	}
	for i := range a.Attrs {
		if a.Attrs[i] != b.Attrs[i] {
			return false
		}
	}
	return true
}

// whole writes an element and all that is in it.
func (f *formatter) whole(sign string, n *Node, depth int) {
	if len(n.Children) == 0 {
		text := label(n)
		if n.Text != "" && n.Name != memberName {
			text += " " + word(n.Text)
		}
		f.line(sign, depth, text+";")
		return
	}
	open, shut := braces(n)
	f.line(sign, depth, open)
	for _, c := range n.Children {
		f.whole(sign, c, depth+1)
	}
	f.line(sign, depth, shut)
}

func braces(n *Node) (open, shut string) {
	if len(n.Children) > 0 && n.Children[0].Name == memberName {
		return label(n) + " [", "];"
	}
	return label(n) + " {", "}"
}

// label is what tells an element from its siblings.
func label(n *Node) string {
	var name string
	switch n.Name {
	case entryName:
		name = word(n.Entry)
	case memberName:
		name = word(n.Text)
	default:
		name = n.Name
	}
	for _, a := range n.Attrs {
		name += " @" + a.Name + "=" + word(a.Value)
	}
	return name
}

// maxWord is how much of a value is written, in bytes.
const maxWord = 256

// word quotes what would not be one word.
func word(s string) string {
	more := ""
	if len(s) > maxWord {
		cut := maxWord
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s, more = s[:cut], "…"
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || isControl(r) || strings.ContainsRune(`"'{}[];#\`, r) }) {
		s = strconv.Quote(s)
	}
	return s + more
}
