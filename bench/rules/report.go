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

// report is what was measured, of each repetition.
type report struct {
	Few     int         `json:"few"`
	Many    int         `json:"many"`
	Samples [2][]sample `json:"samples"` // with few rules, with many

	measure time.Duration
}

// figure is a line of the table.
type figure struct {
	title string
	of    func(sample) float64
	form  string
}

var figures = []figure{
	{"loading the rules, ms", func(m sample) float64 { return m.Load }, "%.1f"},
	{"the same, one action a rule, ms", func(m sample) float64 { return m.Single }, "%.1f"},
	{"commit job, ms", func(m sample) float64 { return m.Commit }, "%.0f"},
	{"changing one rule, ms", func(m sample) float64 { return m.Edit }, "%.1f"},
	{"its commit job, ms", func(m sample) float64 { return m.Small }, "%.0f"},
	{"gateway's memory, MiB", func(m sample) float64 { return m.Resident }, "%.0f"},
	{"its peak so far, MiB", func(m sample) float64 { return m.Peak }, "%.0f"},
	{"full handshakes per second", func(m sample) float64 { return m.Rate }, "%.0f"},
	{"gateway's CPU for each, µs", func(m sample) float64 { return m.CPU }, "%.0f"},
}

func (r report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// writeTable prints medians, extremes, and the median of the repetitions'
// ratios.
func (r report) writeTable(w io.Writer) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\t%d rules\tmin–max\t%d rules\tmin–max\tratio\n", r.Few, r.Many)
	for _, f := range figures {
		few, many := r.values(0, f.of), r.values(1, f.of)
		a, b := stat.Summarize(few), stat.Summarize(many)
		fmt.Fprintf(table, "%s\t"+f.form+"\t"+f.form+"–"+f.form+"\t"+f.form+"\t"+f.form+"–"+f.form+"\t%.2f\n",
			f.title, a.Median, a.Min, a.Max, b.Median, b.Min, b.Max, stat.PairedRatio(many, few))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	many := r.Samples[1][0]
	others := stat.Summarize(append(r.values(0, busy), r.values(1, busy)...))
	fmt.Fprintf(&text, `
%d cores, %s, load %s. Medians of %d repetitions, %v of handshakes each, the two gateways in turns; client, gateway,
HSM and origin share the cores. The ratio is many÷few, the median of the repetitions' ratios. %d rules are %.1f MB of
elements in %d requests. A commit job's time has the polling of it. Memory is resident, read after the handshakes.
While handshakes were made, other programs had %.0f %% of the cores (%.0f to %.0f).
`,
		runtime.NumCPU(), runtime.Version(), loadAverage(), len(r.Samples[0]), r.measure,
		r.Many, float64(many.Bytes)/1e6, many.Bodies, 100*others.Median, 100*others.Min, 100*others.Max)
	_, err := io.WriteString(w, text.String())
	return err
}

func busy(m sample) float64 { return m.OthersBusy }

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
