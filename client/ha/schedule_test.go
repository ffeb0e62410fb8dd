package ha

import (
	"context"
	"crypto/elliptic"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/client"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the one fault schedule of this seed, on new HSMs")
	// soak is how many schedules TestSoak runs: `make soak` sets it.
	soak, _ = strconv.Atoi(os.Getenv("MOONGATE_SOAK"))
)

// fault is something that happens to a member, and how it ends. Each leaves the
// member as it was.
type fault struct {
	name  string
	begin func(a *arena, i int)
	end   func(a *arena, i int)
}

var faults = []fault{
	{"kill", func(a *arena, i int) { a.must(a.hsms[i].kill()) }, func(a *arena, i int) { a.must(a.hsms[i].start()) }},
	{"freeze", func(a *arena, i int) { a.proxies[i].set(frozen, 0) }, func(a *arena, i int) { a.proxies[i].set(passing, 0) }},
	{"cut", func(a *arena, i int) { a.proxies[i].set(cut, 0) }, func(a *arena, i int) { a.proxies[i].set(passing, 0) }},
	{"slow", func(a *arena, i int) { a.proxies[i].set(passing, 2*a.config.Hedge) }, func(a *arena, i int) { a.proxies[i].set(passing, 0) }},
	{"reset", func(a *arena, i int) { a.proxies[i].reset() }, func(a *arena, i int) {}},
	{"refuse", func(a *arena, i int) { a.proxies[i].refuse() }, func(a *arena, i int) { a.must(a.proxies[i].open()) }},
	{"full disk", func(a *arena, i int) { a.hsms[i].full.Store(true) }, func(a *arena, i int) { a.hsms[i].full.Store(false) }},
	{"clock jump", func(a *arena, i int) { a.hsms[i].shift.Store(int64(a.jump)) }, func(a *arena, i int) { a.hsms[i].shift.Store(0) }},
	{"flap", func(a *arena, i int) { a.flap(i) }, func(a *arena, i int) { a.stopFlapping() }},
}

// arena is a cluster under load, on which schedules run one after the other.
type arena struct {
	*cluster
	config Config
	group  *Group
	keys   []client.Key // that are signed with
	jump   time.Duration
	out    *result

	flapping chan struct{}
	flapped  sync.WaitGroup
}

// result is what a schedule found.
type result struct {
	calls    atomic.Int64
	signed   []atomic.Int64 // calls that ended, by key
	errors   atomic.Int64
	longest  atomic.Int64 // nanoseconds
	recovery atomic.Int64 // the longest time from a fault's end until the member was used
	during   atomic.Int64 // the longest call since the last step began

	mu    sync.Mutex
	texts []string // of errors, and what was wrong; guarded by mu
	steps []string // what was done; guarded by mu
	kinds map[string]figures
}

// figures are those of one kind of fault.
type figures struct {
	times             int
	longest, recovery time.Duration
}

func (f figures) with(other figures) figures {
	return figures{f.times + other.times, max(f.longest, other.longest), max(f.recovery, other.recovery)}
}

func (r *result) step(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, fmt.Sprintf(format, args...))
}

func (r *result) wrong(format string, args ...any) {
	r.errors.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.texts) < 10 {
		r.texts = append(r.texts, fmt.Sprintf(format, args...))
	}
}

func raise(v *atomic.Int64, d time.Duration) {
	for {
		old := v.Load()
		if int64(d) <= old || v.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func newArena(t testing.TB, n int) *arena {
	t.Helper()
	a := &arena{cluster: newCluster(t, n)}
	a.config = a.cluster.config(client.RoleCryptoOfficer)
	a.config.Hedge = slowness * 150 * time.Millisecond
	if *seedFlag == 0 {
		a.config.Logger = nil // one schedule's story is readable, not a hundred's
	}
	a.group = a.create(a.config)
	for i := range 3 {
		a.keys = append(a.keys, newEC(t, a.group, fmt.Sprintf("load %d", i)))
	}
	// One that a member whose clock is wrong refuses.
	now := time.Now()
	pair, err := a.group.GenerateEC(t.Context(), elliptic.P256(), nil, label("dated").
		With(client.DateAttr(client.AttrStartDate, now.Add(-36*time.Hour))).With(client.DateAttr(client.AttrEndDate, now.Add(36*time.Hour))))
	must(t, err)
	dated, err := a.group.Key(t.Context(), pair.Private)
	must(t, err)
	a.keys = append(a.keys, dated)
	return a
}

// must is for faults: what is wrong with one is the test's fault.
func (a *arena) must(err error) {
	if err != nil {
		a.out.wrong("making a fault: %v", err)
	}
}

func (a *arena) flap(i int) {
	a.flapping = make(chan struct{})
	a.flapped.Go(func() {
		for {
			a.proxies[i].reset()
			select {
			case <-a.flapping:
				return
			case <-time.After(15 * time.Millisecond):
			}
		}
	})
}

func (a *arena) stopFlapping() {
	close(a.flapping)
	a.flapped.Wait()
}

// run runs the schedule of a seed and returns what it found.
func (a *arena) run(ctx context.Context, seed uint64) *result {
	random := rand.New(rand.NewPCG(seed, 0x6861))
	out := &result{}
	a.out = out
	ctx, cancel := context.WithCancel(ctx)
	var load sync.WaitGroup
	out.signed = make([]atomic.Int64, len(a.keys))
	for i, key := range a.keys {
		load.Go(func() { a.load(ctx, key, out, &out.signed[i]) })
	}
	var changer *changer
	if random.IntN(2) == 0 {
		changer = newChanger(a, random.Uint64())
		load.Go(func() { changer.run(ctx) })
	}
	for range 2 + random.IntN(3) {
		a.step(ctx, random, out)
	}
	cancel()
	load.Wait()
	a.settle(out)
	if changer != nil {
		changer.check(out)
	}
	return out
}

// step does something to some members, never to all of them, or for a short
// while to all; waits; mends it; and waits until they are used again.
func (a *arena) step(ctx context.Context, random *rand.Rand, out *result) {
	n := len(a.hsms)
	victims := random.Perm(n)
	total := random.IntN(8) == 0
	if !total {
		victims = victims[:1+random.IntN(n-1)]
	}
	out.during.Store(0)
	lasting := 50*time.Millisecond + time.Duration(random.IntN(120))*time.Millisecond
	a.jump = time.Duration(random.Int64N(int64(240*time.Hour))) - 120*time.Hour
	var chosen []fault
	for _, i := range victims {
		f := faults[random.IntN(len(faults))]
		for f.name == "flap" && len(chosen) > 0 || total && (f.name == "full disk" || f.name == "clock jump") {
			f = faults[random.IntN(len(faults))]
		}
		out.step("%s %s %v", a.hsms[i].name, f.name, lasting)
		f.begin(a, i)
		chosen = append(chosen, f)
	}
	rest(ctx, lasting)
	for k, i := range victims {
		chosen[k].end(a, i)
	}
	mended := time.Now()
	var recovering sync.WaitGroup
	for k, i := range victims {
		recovering.Go(func() {
			if !a.used(a.hsms[i].name) {
				out.wrong("%s is not used again: %+v", a.hsms[i].name, a.group.member(a.hsms[i].name).snapshot())
			}
			out.recovered(chosen[k].name, len(victims) == n, time.Since(mended))
		})
	}
	recovering.Wait()
	out.quiet(ctx)
}

// quiet waits until every call that began before now is over. One that a member
// with a wrong clock refused, and that is asked of another one just when that
// dies too, has no good member left, although each fault left one.
func (r *result) quiet(ctx context.Context) {
	for i := range r.signed {
		for before := r.signed[i].Load(); r.signed[i].Load() < before+2; {
			if !rest(ctx, time.Millisecond) {
				return
			}
		}
	}
}

// recovered notes how long it took until a member was used again.
func (r *result) recovered(kind string, total bool, took time.Duration) {
	raise(&r.recovery, took)
	if total {
		kind = "all members, " + kind
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kinds == nil {
		r.kinds = map[string]figures{}
	}
	r.kinds[kind] = r.kinds[kind].with(figures{1, time.Duration(r.during.Load()), took})
}

// used waits until a member answers, and serves keys.
func (a *arena) used(name string) bool {
	m := a.group.member(name)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c := m.client.Load()
		if c == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := c.Random(ctx, 1)
		cancel()
		if v := m.view.Load(); err == nil && v.usable && !v.blind {
			return true
		}
	}
	return false
}

// load signs steadily.
func (a *arena) load(ctx context.Context, key client.Key, out *result, signed *atomic.Int64) {
	for ctx.Err() == nil {
		began := time.Now()
		err := sign(key)
		raise(&out.longest, time.Since(began))
		raise(&out.during, time.Since(began))
		out.calls.Add(1)
		signed.Add(1)
		if err != nil {
			out.wrong("signing: %v", err)
		}
		time.Sleep(4 * time.Millisecond)
	}
}

// settle waits until all members are live, and compares what they hold.
func (a *arena) settle(out *result) {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	if err := a.group.ReadyAll(ctx); err != nil {
		out.wrong("not all members are live in the end: %v", err)
		return
	}
	// Live says that nothing differed when last compared; a change may have
	// come since.
	for {
		report, err := a.group.Synchronize(ctx, nil)
		if err == nil && report.Complete() {
			break
		}
		if !rest(ctx, a.config.Probe) { // a member may be suspect just now
			out.wrong("synchronizing in the end: %v, %v", report, err)
			break
		}
	}
	if texts := a.sums(); len(texts) != 1 {
		out.wrong("members hold different things: %v", texts)
	}
}

// TestSchedules runs a hundred random fault schedules under load. A seed that
// fails is named; -args -seed=N runs that one alone.
func TestSchedules(t *testing.T) {
	t.Parallel()
	if *seedFlag != 0 {
		report(t, map[uint64]*result{*seedFlag: newArena(t, 2+int(*seedFlag%2)).run(t.Context(), *seedFlag)})
		return
	}
	count := 100
	if testing.Short() {
		count = 10
	}
	runSchedules(t, 1, count)
}

// TestSoak runs as many as `make soak` says, from a seed of the day.
func TestSoak(t *testing.T) {
	if soak == 0 {
		t.Log("MOONGATE_SOAK says how many schedules to run: none")
		return
	}
	first := uint64(time.Now().Unix())
	if *seedFlag != 0 {
		first = *seedFlag
	}
	runSchedules(t, first, soak)
}

// arenas is how many schedules run at once: most of their time is waiting.
const arenas = 6

func runSchedules(t *testing.T, first uint64, count int) {
	t.Helper()
	results := map[uint64]*result{}
	var mu sync.Mutex
	queue := [2]chan uint64{make(chan uint64, count), make(chan uint64, count)}
	for seed := first; seed < first+uint64(count); seed++ {
		queue[seed%2] <- seed
	}
	close(queue[0])
	close(queue[1])
	var ready [arenas]*arena
	for k := range ready {
		ready[k] = newArena(t, 2+k%2)
	}
	var all sync.WaitGroup
	for k, a := range ready {
		all.Go(func() {
			for seed := range queue[k%2] {
				r := a.run(t.Context(), seed)
				mu.Lock()
				results[seed] = r
				mu.Unlock()
				if r.errors.Load() > 0 {
					return // what follows would say less
				}
			}
		})
	}
	all.Wait()
	report(t, results)
}

// report fails for what was wrong, and logs figures.
func report(t *testing.T, results map[uint64]*result) {
	t.Helper()
	var calls, longest, recovery int64
	kinds := map[string]figures{}
	for seed, r := range results {
		for kind, f := range r.kinds {
			kinds[kind] = kinds[kind].with(f)
		}
		calls += r.calls.Load()
		longest = max(longest, r.longest.Load())
		recovery = max(recovery, r.recovery.Load())
		if r.errors.Load() > 0 {
			t.Errorf("seed %d: %d things wrong (repeat with `go test -run TestSchedules ./client/ha -args -seed=%d`)\n%s\n%s",
				seed, r.errors.Load(), seed, strings.Join(r.texts, "\n"), strings.Join(r.steps, "\n"))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		f := kinds[kind]
		t.Logf("%-28s %4d times: longest call %6d ms, used again after %6d ms at most", kind, f.times, f.longest.Milliseconds(), f.recovery.Milliseconds())
	}
	t.Logf("%d schedules, %d signatures, longest call %v, longest until a mended member was used %v",
		len(results), calls, time.Duration(longest).Round(time.Millisecond), time.Duration(recovery).Round(time.Millisecond))
}
