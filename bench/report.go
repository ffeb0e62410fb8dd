package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"moongate/bench/load"
	"moongate/bench/stat"
)

// report is what is printed: JSON as it stands, or the table made of it.
type report struct {
	Machine     machine `json:"machine"`
	Repetitions int     `json:"repetitions"`
	Warmup      string  `json:"warmup"`
	Measure     string  `json:"measure"`
	Classic     bool    `json:"classic,omitempty"`
	// Others is the share of all cores that other programs had while it was
	// measured, 0 to 1, over all repetitions of all contestants.
	Others stat.Summary `json:"others"`
	Rows   []row        `json:"rows"`
}

// row is one contestant's figures for one metric of a scenario.
type row struct {
	Scenario      string       `json:"scenario"`
	Title         string       `json:"title"`
	Unit          string       `json:"unit"`
	LowerIsBetter bool         `json:"lower_is_better,omitempty"`
	Contestant    string       `json:"contestant"`
	Figure        stat.Summary `json:"figure"`
	// Ratio is Moongate's figure over this contestant's; absent without one.
	Ratio *float64 `json:"moongate_ratio,omitempty"`
	// CPU is median microseconds of processor time per answer by process:
	// the contestant's own, the "origin" and the "load".
	CPU     map[string]float64 `json:"cpu_us_per_answer"`
	Session string             `json:"session"`
	Samples []float64          `json:"samples"`
	own     float64            // CPU of the contestant's own processes together
}

func newReport(m machine, o options, measured []measurement) report {
	r := report{
		Machine: m, Repetitions: o.effort.repetitions, Classic: o.classic,
		Warmup: o.effort.warmup.String(), Measure: o.effort.measure.String(),
	}
	var others []float64
	for _, m := range measured {
		for _, results := range m.results {
			others = append(others, sample(results, func(r load.Result) float64 { return r.Others })...)
		}
		for _, metric := range m.scenario.metrics {
			r.Rows = append(r.Rows, rows(m, metric)...)
		}
	}
	r.Others = stat.Summarize(others)
	return r
}

func rows(m measurement, metric metric) []row {
	ours := sample(m.results[moongateName], metric.of)
	var all []row
	for _, c := range m.contestants {
		results := m.results[c.name]
		theirs := sample(results, metric.of)
		one := row{
			Scenario: m.scenario.id, Title: m.scenario.title,
			Unit: metric.unit, LowerIsBetter: metric.lowerIsBetter,
			Contestant: c.name, Figure: stat.Summarize(theirs), Samples: theirs,
			CPU: map[string]float64{}, Session: results[len(results)-1].Session,
		}
		if ratio := stat.PairedRatio(ours, theirs); c.name != moongateName && !math.IsNaN(ratio) {
			one.Ratio = &ratio
		}
		for process := range results[0].CPU {
			one.CPU[process] = stat.Median(sample(results, func(r load.Result) float64 { return cpuPerAnswer(r, process) }))
			if _, own := c.watch[process]; own {
				one.own += one.CPU[process]
			}
		}
		all = append(all, one)
	}
	return all
}

// sample is one figure of each repetition, in their order.
func sample(results []load.Result, of func(load.Result) float64) []float64 {
	figures := make([]float64, len(results))
	for i, r := range results {
		figures[i] = of(r)
	}
	return figures
}

// cpuPerAnswer is in microseconds.
func cpuPerAnswer(r load.Result, process string) float64 {
	return float64(r.CPU[process]) / float64(time.Microsecond) / float64(r.Done)
}

// figures are a result's, for the progress on standard error.
func figures(s scenario, r load.Result) string {
	var parts []string
	for _, m := range s.metrics {
		parts = append(parts, number(m.of(r))+" "+m.unit)
	}
	return strings.Join(append(parts, r.Session), ", ")
}

func (r report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// number prints three or more significant digits.
func number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "-"
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
