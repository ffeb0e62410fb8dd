package stat

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sample []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{7}, Summary{Median: 7, Min: 7, Max: 7, N: 1}},
		{[]float64{9, 1, 5}, Summary{Median: 5, Min: 1, Max: 9, N: 3}},
		{[]float64{4, 1, 9, 2}, Summary{Median: 3, Min: 1, Max: 9, N: 4}},
	} {
		before := append([]float64(nil), test.sample...)
		if diff := cmp.Diff(test.want, Summarize(test.sample)); diff != "" {
			t.Errorf("Summarize(%v): -want +got\n%s", test.sample, diff)
		}
		if diff := cmp.Diff(before, test.sample); diff != "" {
			t.Errorf("the sample was reordered, and pairs with it: %s", diff)
		}
	}
}

func TestPairedRatio(t *testing.T) {
	t.Parallel()
	// The machine halves its speed in the second repetition: the ratio of the
	// medians would be 150/100, the paired one is not moved.
	if got := PairedRatio([]float64{200, 100, 220}, []float64{100, 50, 110}); got != 2 {
		t.Errorf("ratio %v, want 2", got)
	}
	if got := PairedRatio([]float64{6, 1}, []float64{3, 0}); got != 2 {
		t.Errorf("with a zero divisor: ratio %v, want 2", got)
	}
	if got := PairedRatio([]float64{6}, nil); !math.IsNaN(got) {
		t.Errorf("without pairs: ratio %v, want NaN", got)
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var sorted []time.Duration
	for i := range 200 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{50: 100, 99: 198, 100: 200, 0.1: 1} {
		if got := Percentile(sorted, p); got != want {
			t.Errorf("p%v is %d, want %d", p, got, want)
		}
	}
	if got := Percentile(nil, 99); got != 0 {
		t.Errorf("p99 of nothing is %v, want 0", got)
	}
}
