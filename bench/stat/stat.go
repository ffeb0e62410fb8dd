// Package stat reduces the repetitions of a measurement to what is reported.
package stat

import (
	"math"
	"slices"
	"time"
)

// Summary is a sample's median and its extremes.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize describes a sample; an empty one has N 0.
func Summarize(sample []float64) Summary {
	if len(sample) == 0 {
		return Summary{}
	}
	return Summary{
		Median: Median(sample),
		Min:    slices.Min(sample),
		Max:    slices.Max(sample),
		N:      len(sample),
	}
}

// Median returns the middle of a sample, the mean of the middle two for an
// even count, and NaN for an empty one.
func Median(sample []float64) float64 {
	if len(sample) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(sample))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// PairedRatio returns the median of a[i]/b[i]. Repetition i of both was
// measured within seconds, so that a slow minute of the machine, which moves
// both, does not move the ratio. Pairs without a positive divisor are left
// out; with none left, the ratio is NaN.
func PairedRatio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			ratios = append(ratios, a[i]/b[i])
		}
	}
	return Median(ratios)
}

// Percentile returns the nearest-rank percentile p, 0 < p ≤ 100, of sorted
// durations; 0 of none.
func Percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
