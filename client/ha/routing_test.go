package ha

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/client"
)

// newGroup is a cluster of n with a group and a key in it.
func newGroup(t testing.TB, n int) (*cluster, *Group, client.Key) {
	t.Helper()
	c := newCluster(t, n)
	g := c.create(c.config(client.RoleCryptoOfficer))
	return c, g, newEC(t, g, "k")
}

// signFor signs from several goroutines until the function returned is called,
// which fails the test for every error and returns the longest call.
func signFor(t testing.TB, key client.Key) func() time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var longest time.Duration
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				if err := sign(key); err != nil {
					t.Errorf("signing: %v", err)
				}
				mu.Lock()
				longest = max(longest, time.Since(began))
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() time.Duration {
		cancel()
		callers.Wait()
		return longest
	}
}

// TestWorkIsShared: calls at once go to all members.
func TestWorkIsShared(t *testing.T) {
	t.Parallel()
	_, g, key := newGroup(t, 3)
	before := map[string]uint64{}
	for _, m := range g.all() {
		before[m.name] = m.answers.Load()
	}
	for range 60 {
		must(t, sign(key))
	}
	for _, m := range g.all() {
		if n := m.answers.Load() - before[m.name]; n < 10 {
			t.Errorf("%s answered %d times", m.name, n)
		}
	}
}

// TestFaultsUnseen: each kind of loss of a member, one at a time, under load: no
// error, no call much longer than Hedge, and the member is used again.
func TestFaultsUnseen(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	for _, fault := range []struct {
		name       string
		begin, end func()
		want       []State
	}{
		{"kill", func() { must(t, c.hsms[0].kill()) }, func() { must(t, c.hsms[0].start()) }, []State{Lost}},
		{"stop", func() { c.proxies[0].set(frozen, 0) }, func() { c.proxies[0].set(passing, 0) }, []State{Suspect, Lost}},
		{"cut", func() { c.proxies[0].set(cut, 0) }, func() { c.proxies[0].set(passing, 0) }, []State{Suspect, Lost}},
		{"refuse", func() { c.proxies[0].refuse() }, func() { must(t, c.proxies[0].open()) }, []State{Lost}},
	} {
		stop := signFor(t, key)
		time.Sleep(20 * time.Millisecond)
		fault.begin()
		eventually(t, fault.name+" is seen", func() bool { return slices.Contains(fault.want, g.stateOf("hsma")) })
		time.Sleep(50 * time.Millisecond)
		fault.end()
		eventually(t, "live again after "+fault.name, func() bool { return g.stateOf("hsma") == Live })
		t.Logf("%s: longest call %v", fault.name, stop())
	}
}

// TestStoppedMemberHoldsNoCall: a call that is at a member which stops is
// answered by another one within Hedge and a little.
func TestStoppedMemberHoldsNoCall(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	c.proxies[1].set(frozen, 0)
	g.next.Store(0) // the search begins with the second
	began := time.Now()
	must(t, sign(key))
	if took := time.Since(began); took > g.config.Hedge+testPatience/10 {
		t.Errorf("a call took %v", took)
	}
	eventually(t, "suspicion", func() bool { s := g.stateOf("hsmb"); return s == Suspect || s == Lost })
	for range 10 {
		must(t, sign(key))
	}
	if hedges := g.member("hsma").hedges.Load(); hedges > 0 {
		t.Errorf("%d calls waited for the member that is well", hedges)
	}
	c.proxies[1].set(passing, 0)
	eventually(t, "live again", func() bool { return g.stateOf("hsmb") == Live })
}

// TestTotalLoss: all members go; calls wait, and go on when one returns, also
// when nobody calls meanwhile.
func TestTotalLoss(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	for _, a := range c.hsms {
		must(t, a.kill())
	}
	eventually(t, "both lost", func() bool { return g.stateOf("hsma") == Lost && g.stateOf("hsmb") == Lost })
	if s := g.Status(); s.Connected || s.Err == nil {
		t.Errorf("status: %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := key.WithContext(ctx).Sign(nil, digest[:], crypto.SHA256)
	var all *CallError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &all) || len(all.Members) != 2 || !client.Unavailable(err) {
		t.Errorf("nobody there: %v", err)
	}
	signed := make(chan error, 1)
	go func() { signed <- sign(key) }()
	must(t, c.hsms[1].start())
	must(t, <-signed)
	must(t, c.hsms[0].start())
	eventually(t, "both live, idle", func() bool { return g.stateOf("hsma") == Live && g.stateOf("hsmb") == Live })
}

// TestNoReturn: a member that was lost stays away until Recover.
func TestNoReturn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	config := c.config(client.RoleCryptoOfficer)
	config.NoReturn = true
	g := c.create(config)
	key := newEC(t, g, "k")
	c.proxies[0].reset()
	eventually(t, "kept away", func() bool {
		s := g.member("hsma").snapshot()
		return s.State == Lost && s.Fix != "" && g.Client("hsma") == nil
	})
	time.Sleep(300 * time.Millisecond)
	if s := g.stateOf("hsma"); s != Lost {
		t.Errorf("it came back: %v", s)
	}
	must(t, sign(key))
	must(t, g.Recover(t.Context()))
	eventually(t, "live again", func() bool { return g.stateOf("hsma") == Live })
}

// TestRetry: with Retry calls wait for a connection that breaks for a moment,
// and go elsewhere when it does not come back.
func TestRetry(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	config := c.config(client.RoleCryptoOfficer)
	config.Retry, config.Hedge = 3, 5*time.Second
	g := c.create(config)
	key := newEC(t, g, "k")

	// In flight at the first when it breaks; the first returns at once.
	inFlight := func() chan error {
		c.proxies[0].set(frozen, 0)
		signed := make(chan error, 1)
		g.next.Store(1)
		go func() { signed <- sign(key) }()
		eventually(t, "a call at the first", func() bool { return g.member("hsma").outstanding.Load() > 0 })
		return signed
	}
	signed := inFlight()
	before := g.member("hsmb").answers.Load()
	c.proxies[0].reset()
	c.proxies[0].set(passing, 0)
	must(t, <-signed)
	if g.member("hsma").failovers.Load() > 0 {
		t.Errorf("the call failed over although the connection came back (the other answered %d times)", g.member("hsmb").answers.Load()-before)
	}

	eventually(t, "live again", func() bool { return g.stateOf("hsma") == Live })
	signed = inFlight()
	c.proxies[0].refuse()
	must(t, <-signed)
	if n := g.member("hsma").failovers.Load(); n != 1 {
		t.Errorf("%d calls failed over, want 1", n)
	}
	if n := g.member("hsma").snapshot().Retries; n < 3 {
		t.Errorf("the call went elsewhere after %d attempts, want 3", n)
	}
}

// TestWrongPassword: a member whose password is wrong is refused and asked once;
// Relogin brings it in.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	must(t, g.Close())
	config := c.config(client.RoleCryptoUser)
	var mu sync.Mutex
	asked := 0
	config.Members[1].Password = func() ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		return []byte("wrong password"), nil
	}
	g = c.open(config)
	must(t, g.Ready(t.Context()))
	eventually(t, "refused", func() bool { return g.stateOf("hsmb") == Refused })
	key, err := g.FindKeyByLabel(t.Context(), "k")
	must(t, err)
	must(t, sign(key))
	time.Sleep(200 * time.Millisecond)
	mu.Lock()
	if asked != 1 {
		t.Errorf("the password was sent %d times", asked)
	}
	mu.Unlock()
	must(t, g.Relogin(t.Context(), func() ([]byte, error) { return slices.Clone(cuPassword), nil }))
	eventually(t, "live", func() bool { return g.stateOf("hsmb") == Live })
}

// TestAllRefused: where nobody but an administrator can help, calls do not wait.
func TestAllRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	g := c.open(c.config(client.RoleCryptoUser)) // no group was made
	err := g.Ready(t.Context())
	if err == nil || !client.Unavailable(err) || !errors.As(err, new(*CallError)) {
		t.Errorf("Ready: %v", err)
	}
	for _, m := range g.Members() {
		if m.State != Refused || m.Fix == "" {
			t.Errorf("%s: %+v", m.Name, m)
		}
	}
	if _, err := g.FindKeyByLabel(t.Context(), "k"); err == nil {
		t.Error("a key was found")
	}
}

// TestFullDisk: a member that cannot record refuses to use keys; its calls go
// elsewhere, and it says why.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	c, g, key := newGroup(t, 2)
	c.hsms[0].full.Store(true)
	stop := signFor(t, key)
	time.Sleep(100 * time.Millisecond)
	if s := g.member("hsma").snapshot(); s.State == Live && s.Reason == "" {
		t.Errorf("nothing is said of it: %+v", s)
	}
	stop()
	c.hsms[1].full.Store(true)
	if err := sign(key); client.CodeOf(err) != client.ErrAuditFailed {
		t.Errorf("both are full: %v", err)
	}
	c.hsms[0].full.Store(false)
	c.hsms[1].full.Store(false)
	must(t, sign(key))
}

// TestKeyTypes: a Group's RSA keys decrypt, others must not be Decrypters, and
// crypto/tls takes all of them.
func TestKeyTypes(t *testing.T) {
	t.Parallel()
	c, g, ec := newGroup(t, 2)
	if _, is := ec.(crypto.Decrypter); is {
		t.Error("an ECDSA key is a crypto.Decrypter")
	}
	pair, err := g.GenerateRSA(t.Context(), 2048, client.NewTemplate(client.BoolAttr(client.AttrEncrypt, true)),
		client.NewTemplate(client.BoolAttr(client.AttrDecrypt, true), client.BoolAttr(client.AttrSign, true)))
	must(t, err)
	key, err := g.Key(t.Context(), pair.Private)
	must(t, err)
	decrypter, is := key.(crypto.Decrypter)
	if !is {
		t.Fatal("an RSA key is no crypto.Decrypter")
	}
	must(t, c.hsms[0].kill())
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, key.Public().(*rsa.PublicKey), []byte("m"), nil)
	must(t, err)
	plain, err := decrypter.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA256})
	if string(plain) != "m" || err != nil {
		t.Errorf("%q, %v", plain, err)
	}
	for _, k := range []client.Key{ec, key} {
		if k.WithContext(t.Context()).ID() != k.ID() {
			t.Error("a bound key is another")
		}
		_ = tls.Certificate{PrivateKey: k}
	}
	if _, err := g.KeyOf(ec.ID(), "", nil); err == nil {
		t.Error("a key without a public half")
	}
	must(t, c.hsms[0].start())
}

// TestNotFound: an object is not there only after all members were asked; who
// could not be asked is named.
func TestNotFound(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	before := g.member("hsma").answers.Load() + g.member("hsmb").answers.Load()
	_, err := g.FindKeyByLabel(t.Context(), "none")
	if client.CodeOf(err) != client.ErrKeyHandle || client.Unavailable(err) {
		t.Errorf("FindKeyByLabel: %v", err)
	}
	if asked := g.member("hsma").answers.Load() + g.member("hsmb").answers.Load() - before; asked < 2 {
		t.Errorf("%d members were asked", asked)
	}
	if list, err := g.Find(t.Context(), client.NewTemplate(client.TextAttr(client.AttrLabel, "none"))); err != nil || len(list) > 0 {
		t.Errorf("Find: %v, %v", list, err)
	}
	must(t, c.hsms[1].kill())
	eventually(t, "lost", func() bool { return g.stateOf("hsmb") == Lost })
	_, err = g.Key(t.Context(), ID{1})
	if !isAbsent(client.CodeOf(err)) || !strings.Contains(err.Error(), "hsmb could not") {
		t.Errorf("Key: %v", err)
	}
}

// TestWrongClock: a member whose clock is wrong refuses a key with dates; another
// one signs, and only where all refuse is that the answer.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	c, g, _ := newGroup(t, 2)
	pair, err := g.GenerateEC(t.Context(), elliptic.P256(), nil, label("dated").With(client.DateAttr(client.AttrEndDate, time.Now().Add(48*time.Hour))))
	must(t, err)
	key, err := g.Key(t.Context(), pair.Private)
	must(t, err)
	c.hsms[0].shift.Store(int64(240 * time.Hour))
	for range 6 {
		must(t, sign(key))
	}
	c.hsms[1].shift.Store(int64(240 * time.Hour))
	began := time.Now()
	if err := sign(key); client.CodeOf(err) != client.ErrKeyDate || time.Since(began) > forbearance {
		t.Errorf("all clocks are wrong: %v after %v", err, time.Since(began))
	}
}
