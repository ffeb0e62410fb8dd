package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/bench/load"
	"moongate/bench/origin"
)

// TestMain lets the test program be the origin and the load, as the benchmark
// itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == originCommand || os.Args[1] == loadCommand) {
		main()
		return
	}
	// Under -race every process would wait a second for reports at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// startBench runs a real origin and measures it for moments.
func startBench(t *testing.T) *bench {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server, err := origin.Start(t.Context(), false, program, originCommand)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &bench{
		program:     program,
		origin:      server,
		contestants: []*contestant{startDirect(setting{origin: server})},
		effort:      effort{repetitions: 2, warmup: 20 * time.Millisecond, measure: 80 * time.Millisecond},
		progress:    t.Logf,
	}
}

func TestEveryScenarioAgainstTheOrigin(t *testing.T) {
	t.Parallel()
	b := startBench(t)
	var measured []measurement
	for _, s := range scenarios(b.origin.Addr) {
		s.direct = true
		m, err := b.measure(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", s.id, err)
		}
		for _, result := range m.results["direct"] {
			if result.Done == 0 || result.Elapsed <= 0 || result.P50 <= 0 || result.P99 < result.P50 {
				t.Errorf("%s: impossible result %+v", s.id, result)
			}
			if s.body > 0 && result.Bytes != int64(result.Done)*int64(s.body) {
				t.Errorf("%s: %d bytes in %d answers", s.id, result.Bytes, result.Done)
			}
			if s.fresh && result.Used < result.Done {
				t.Errorf("%s: %d names for %d connections", s.id, result.Used, result.Done)
			}
		}
		measured = append(measured, m)
	}
	var table strings.Builder
	if err := newReport(machine{}, options{effort: b.effort}, measured).writeTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}

// A contestant that is wrong has no figure, however fast it is.
func TestAWrongAnswerFailsTheRun(t *testing.T) {
	t.Parallel()
	b := startBench(t)
	other, err := origin.Start(t.Context(), false, b.program, originCommand)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	right := load.Job{
		Target: b.origin.Addr, Roots: b.origin.CA, Workers: 2,
		Names:   origin.Names{Pattern: "a" + origin.Domain, Count: 1},
		Measure: 50 * time.Millisecond,
	}
	for _, test := range []struct {
		name  string
		spoil func(*load.Job)
		want  string
	}{
		{"nothing", func(*load.Job) {}, ""},
		{"another authority", func(j *load.Job) { j.Roots = other.CA }, "unknown authority"},
		{"a name that is not the origin's", func(j *load.Job) { j.Names.Pattern = "a.example" }, "handshake"},
		{"no proxy there", func(j *load.Job) { j.Proxy = j.Target }, "asking the proxy"},
		{"more connections than names", func(j *load.Job) { j.Names = origin.Names{Pattern: "n%d.ec" + origin.Domain, Count: 2} }, "names are used"},
		{"a process that is not there", func(j *load.Job) { j.Watch = map[string]int{"ghost": 1 << 30} }, "ghost"},
	} {
		job := right
		test.spoil(&job)
		_, err := load.Run(t.Context(), b.program, []string{loadCommand}, job)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := startBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	b.effort.measure = time.Minute
	begun := time.Now()
	if _, err := b.measure(ctx, scenarios(b.origin.Addr)[0]); err == nil {
		t.Error("a measurement went on without its context")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("ending took %v", took)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	result := func(done int, cpu time.Duration) load.Result {
		return load.Result{Done: done, Elapsed: time.Second, Session: "TLS", CPU: map[string]time.Duration{"p": cpu}}
	}
	ours := &contestant{name: moongateName, watch: map[string]int{"p": 1}}
	theirs := &contestant{name: "peer", watch: map[string]int{"p": 2}}
	m := measurement{
		scenario:    scenario{id: "x", title: "X", metrics: []metric{rate}},
		contestants: []*contestant{ours, theirs},
		results: map[string][]load.Result{
			moongateName: {result(200, time.Second), result(300, time.Second)},
			"peer":       {result(100, time.Second), result(100, time.Second)},
		},
	}
	var table strings.Builder
	report := newReport(machine{CPU: "C", Cores: 2, Versions: []string{"v"}}, options{effort: shortEffort}, []measurement{m})
	if err := report.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"scenario  contestant  median  min–max  unit    CPU µs  moongate÷  client's session",
		"X         moongate       250  200–300  conn/s    4167             TLS",
		"          peer           100  100–100  conn/s   10000       2.50  TLS",
	}
	lines := strings.Split(table.String(), "\n")
	if diff := cmp.Diff(want, lines[3:6]); diff != "" {
		t.Errorf("table, -want +got:\n%s", diff)
	}
}
