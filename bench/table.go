package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// column is one of the table's, numbers to the right.
type column struct {
	title string
	right bool
}

var columns = []column{
	{title: "scenario"}, {title: "contestant"}, {title: "median", right: true}, {title: "min–max", right: true},
	{title: "unit"}, {title: "CPU µs", right: true}, {title: "moongate÷", right: true}, {title: "client's session"},
}

// writeTable prints the machine, the table, and how to read it.
func (r report) writeTable(w io.Writer) error {
	var text strings.Builder
	m := r.Machine
	fmt.Fprintf(&text, "%s, %d cores, Linux %s, %s, load %s\n%s\n\n",
		m.CPU, m.Cores, m.Kernel, m.Go, m.Load, strings.Join(m.Versions, ", "))
	cells := [][]string{nil}
	for _, c := range columns {
		cells[0] = append(cells[0], c.title)
	}
	group := ""
	for _, one := range r.Rows {
		title := ""
		if key := one.Title + one.Unit; key != group {
			title, group = one.Title, key
		}
		cells = append(cells, one.cells(title))
	}
	writeAligned(&text, cells)
	text.WriteString(r.caption())
	_, err := io.WriteString(w, text.String())
	return err
}

func (one row) cells(title string) []string {
	ratio, own := "", ""
	if one.Ratio != nil {
		ratio = number(*one.Ratio)
	}
	if one.own > 0 {
		own = number(one.own)
	}
	return []string{
		title, one.Contestant, number(one.Figure.Median),
		number(one.Figure.Min) + "–" + number(one.Figure.Max),
		one.Unit, own, ratio, one.Session,
	}
}

func (r report) caption() string {
	lines := []string{
		"",
		fmt.Sprintf("Medians of %d repetitions of %s after %s of warm-up, contestants in turn; client, contestant and origin", r.Repetitions, r.Measure, r.Warmup),
		"share the cores: compare ratios, not absolutes. CPU µs: processor time of the contestant's own processes per answer.",
		fmt.Sprintf("Other programs had %.0f %% of the cores meanwhile (%.0f to %.0f).", 100*r.Others.Median, 100*r.Others.Min, 100*r.Others.Max),
		"moongate÷: Moongate's figure over this one, the median of the repetitions' ratios; for ms less is better.",
		"Each connection is a full handshake, with its own upstream connection (nginx+pool: a kept one); each contestant logs.",
		"Squid and nginx keep their keys in files and in their own memory. Moongate's are in the HSM, a process of its own that it",
		"asks over mutual TLS and whose time is in CPU µs.",
	}
	if r.Classic {
		lines = append(lines, "Client and origin were kept from X25519MLKEM768.")
	}
	return strings.Join(lines, "\n") + "\n"
}

// writeAligned pads each cell to its column's width, in characters.
func writeAligned(w *strings.Builder, cells [][]string) {
	widths := make([]int, len(columns))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range cells {
		var text strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if columns[i].right {
				cell = pad + cell
			} else {
				cell += pad
			}
			text.WriteString(cell + "  ")
		}
		w.WriteString(strings.TrimRight(text.String(), " ") + "\n")
	}
}
