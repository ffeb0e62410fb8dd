package ops

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"moongate/internal/gw/config"
)

// Nodes makes elements of a part of a configuration.
func Nodes(nodes []*config.Node) []*Element {
	elements := make([]*Element, len(nodes))
	for i, n := range nodes {
		e := &Element{Name: n.Name, Text: n.Text, Children: Nodes(n.Children)}
		if n.Name == "entry" {
			e.With("name", n.Entry)
		}
		for _, a := range n.Attrs {
			e.With(a.Name, a.Value)
		}
		elements[i] = e
	}
	return elements
}

// message is the result of a command that says one thing.
func message(format string, args ...any) *Result {
	text := fmt.Sprintf(format, args...)
	return &Result{Elements: []*Element{{Text: text}}, Text: text + "\n"}
}

// pairs writes elements with text as lines of "name: value".
func pairs(elements ...*Element) string {
	var b strings.Builder
	for _, e := range elements {
		b.WriteString(strings.TrimRight(e.Name+": "+e.Text, " ") + "\n")
	}
	return b.String()
}

// grid aligns rows in columns under a heading.
type grid struct {
	b bytes.Buffer
	w *tabwriter.Writer
}

func newGrid(heading ...string) *grid {
	g := &grid{}
	g.w = tabwriter.NewWriter(&g.b, 0, 0, 2, ' ', 0)
	g.row(heading...)
	return g
}

func (g *grid) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(g.w, strings.Join(cells, "\t"))
}

// text is the whole grid, a line below the heading, no spaces at line ends.
func (g *grid) text() string {
	g.w.Flush() // to memory
	lines := strings.Split(strings.TrimRight(g.b.String(), "\n"), "\n")
	widest := 0
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
		widest = max(widest, len([]rune(lines[i])))
	}
	lines = append(lines[:1], append([]string{strings.Repeat("-", widest)}, lines[1:]...)...)
	return strings.Join(lines, "\n") + "\n"
}

// timeLayout is how times are shown, in the zone of the gateway.
const timeLayout = "2006/01/02 15:04:05"

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(timeLayout)
}

// Clock is the time of day, as jobs have it; empty for none.
func Clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format("15:04:05")
}

// uptime is 3 days, 4:05:06.
func uptime(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d days, %d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// documentOf writes elements as indented XML, for a terminal.
func documentOf(nodes []*config.Node) string {
	var b strings.Builder
	for _, n := range nodes {
		text := string(config.Encode(n))
		if _, after, ok := strings.Cut(text, "?>\n"); ok {
			text = after
		}
		b.WriteString(text)
	}
	return b.String()
}
