package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"moongate/bench/stat"
)

// report is what was measured.
type report struct {
	Samples [2][]sample `json:"samples"` // of one HSM, of the group
	Sizes   []size      `json:"sizes"`

	measure time.Duration
	keys    int
}

// figure is a line of the comparison.
type figure struct {
	title string
	of    func(sample) float64
}

var figures = []figure{
	{"one at a time, p50, µs", func(m sample) float64 { return m.P50 }},
	{"one at a time, p99, µs", func(m sample) float64 { return m.P99 }},
	{"the client's CPU for each, µs", func(m sample) float64 { return m.CPU }},
	{fmt.Sprintf("per second, %d in flight", flight), func(m sample) float64 { return m.Rate }},
	{"the client's CPU for each, µs", func(m sample) float64 { return m.ManyCPU }},
}

func (r report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func (r report) writeTable(w io.Writer) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "signatures\tone HSM\tmin–max\tgroup of %d\tmin–max\tratio\n", r.Sizes[0].Members)
	for _, f := range figures {
		single, group := r.values(0, f.of), r.values(1, f.of)
		a, b := stat.Summarize(single), stat.Summarize(group)
		fmt.Fprintf(table, "%s\t%.1f\t%.1f–%.1f\t%.1f\t%.1f–%.1f\t%.2f\n",
			f.title, a.Median, a.Min, a.Max, b.Median, b.Min, b.Max, stat.PairedRatio(group, single))
	}
	fmt.Fprintf(table, "\t\t\t\t\t\n")
	fmt.Fprintf(table, "members\tcreate, ms\ta key pair, ms\ta signature, ms\tsynchronize, ms\tback with %d keys missed, ms\n", r.keys)
	for _, s := range r.Sizes {
		fmt.Fprintf(table, "%d\t%.0f\t%.1f\t%.2f\t%.1f\t%.0f\n", s.Members, s.Create, s.Make, s.Sign, s.Equal, s.Return)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&text, `
%d cores, %s, load %s. Medians of %d repetitions of %v, the HSM and the group in turns; client and HSMs share the cores,
so that a group of more members is not faster here. The ratio is group÷one HSM, the median of the repetitions' ratios.
`, runtime.NumCPU(), runtime.Version(), loadAverage(), len(r.Samples[0]), r.measure)
	_, err := io.WriteString(w, text.String())
	return err
}

func (r report) values(of int, value func(sample) float64) []float64 {
	var list []float64
	for _, m := range r.Samples[of] {
		list = append(list, value(m))
	}
	return list
}

// loadAverage is the machine's, as the kernel says it (proc(5)).
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
