package hsmlink

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/p11host"
)

const (
	// reconnect bounds how long a gateway goes without an HSM that is back.
	reconnect = time.Second
	// grace is how long a connection that was replaced stays open for what
	// began on it: longer than any may take.
	grace = 10 * time.Second
	// handover is how long the connection before goes on to be used while the
	// new one is made.
	handover = 5 * time.Second
	// sourceEach is how often the source address is looked at.
	sourceEach = time.Second
)

// Link is the connections of one configuration. It is a keys.Link, a keys.Maker
// and a vault.Wrapper.
type Link struct {
	m       *Manager
	hsm     *config.HSM
	inner   *keys.Switch // leads to whatever is used now
	modules []*module
	looking chan struct{} // wakes watchKeys
	rebuilt chan struct{} // wakes run: something is to be connected otherwise

	ctx    context.Context // done when Close is called
	cancel context.CancelFunc
	work   sync.WaitGroup
	closed sync.Once

	// building is held while connections are made and replaced.
	building sync.Mutex
	traffic  string // of what inner was made; guarded by building
	from     string // the source addresses of the connections; guarded by building

	mu     sync.Mutex
	group  *ha.Group     // nil while there is none; guarded by mu
	record ha.Record     // that a server answered with before a group was opened; guarded by mu
	host   *p11host.Host // of a module; guarded by mu
	served string        // the module that keys are used on where there is no group; guarded by mu
	source SourceStatus  // guarded by mu
	told   GroupState    // in the last event; guarded by mu
}

func newLink(m *Manager, h *config.HSM) *Link {
	l := &Link{m: m, hsm: h, inner: keys.NewSwitch(), looking: make(chan struct{}, 1), rebuilt: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	switch h.Provider {
	case config.NetworkHSM:
		for _, s := range h.Servers {
			l.modules = append(l.modules, &module{link: l, name: s.Name, server: s, address: net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port)))})
		}
	case config.PKCS11HSM:
		l.modules = []*module{{link: l, name: tokenName(h.Module), address: h.Module.Path}}
	}
	l.inner.Set(waiting{l})
	return l
}

// tokenName is the name under which a token's PIN is kept: another token's is
// another.
func tokenName(m *config.PKCS11Module) string {
	sum := sha256.Sum256([]byte(m.Path + "\x00" + m.Token))
	return "pkcs11-" + hex.EncodeToString(sum[:4])
}

// start begins to connect.
func (l *Link) start() {
	l.assemble(false)
	for _, mod := range l.modules {
		l.work.Go(func() { mod.run(l.ctx) })
	}
	l.work.Go(func() { l.watchKeys(l.ctx) })
	l.work.Go(l.run)
}

// run rebuilds what is to be connected otherwise.
func (l *Link) run() {
	tick := time.NewTicker(sourceEach)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.rebuilt:
			l.assemble(true)
		case <-tick.C:
			l.watchSource()
			l.tryNextIdentity()
			l.findRecord()
			l.tellGroup()
		}
	}
}

// rebuild has the connections be made of what is known now, soon.
func (l *Link) rebuild() {
	select {
	case l.rebuilt <- struct{}{}:
	default:
	}
}

// Activate makes it the link that the gateway uses.
func (l *Link) Activate() {
	l.m.mu.Lock()
	l.m.active = l
	l.m.mu.Unlock()
	l.lookForKeys()
}

// Close ends every connection.
func (l *Link) Close() error {
	l.closed.Do(func() {
		l.cancel()
		l.work.Wait()
		l.building.Lock()
		defer l.building.Unlock()
		l.inner.Set(waiting{l})
		l.mu.Lock()
		group, host := l.group, l.host
		l.group, l.host = nil, nil
		l.mu.Unlock()
		if group != nil {
			_ = group.Close() // never fails
		}
		for _, mod := range l.modules {
			mod.mu.Lock()
			own := mod.own
			mod.own = nil
			mod.mu.Unlock()
			if own != nil {
				_ = own.Close() // never fails
			}
		}
		if host != nil {
			if err := host.Close(); err != nil {
				l.m.o.Logger.Warn("ending the process of the PKCS#11 module", "err", err)
			}
		}
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		l.m.links = slices.DeleteFunc(l.m.links, func(other *Link) bool { return other == l })
		if l.m.active == l {
			l.m.active = nil
		}
	})
	return nil
}

// Key, and what follows, ask whatever is connected now.
func (l *Link) Key(ctx context.Context, pub crypto.PublicKey) (keys.Key, error) {
	return l.inner.Key(ctx, pub)
}

// Make makes a key pair where keys are used.
func (l *Link) Make(ctx context.Context, s keys.Spec) (keys.Key, error) { return l.inner.Make(ctx, s) }

// Ready waits until keys can be used, on whatever is connected by then.
func (l *Link) Ready(ctx context.Context) error {
	for {
		within, cancel := context.WithTimeout(ctx, lookEach)
		err := l.inner.Ready(within)
		short := within.Err() != nil // or something else may be connected by now
		cancel()
		if err == nil || ctx.Err() != nil || l.ctx.Err() != nil || !short && !l.soon() {
			return err
		}
		if !short {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// soon reports whether something that is being connected may be used soon.
func (l *Link) soon() bool {
	for _, mod := range l.modules {
		mod.mu.Lock()
		logsIn := mod.plan.logsIn()
		mod.mu.Unlock()
		if logsIn {
			return true
		}
	}
	return false
}

// Reset ends every session and opens new ones.
func (l *Link) Reset(ctx context.Context) error { return l.inner.Reset(ctx) }

// Status is that of whatever is used. Its cause names the server and the fix.
func (l *Link) Status() keys.Status {
	s := l.inner.Status()
	if s.Ready {
		return s
	}
	for _, mod := range l.modules {
		status, _ := mod.snapshot()
		if status.Problem != nil && status.State != StateAuthenticated && (l.hsm.HA != nil || l.isServed(mod)) {
			s.Stage = status.State
			s.Cause = (&Error{Server: mod.name, Stage: StageName(status.State), Problem: *status.Problem}).Error()
			break
		}
	}
	return s
}

func (l *Link) isServed(mod *module) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.served == mod.name || l.served == "" && mod == l.modules[0]
}

// serves reports whether keys on a module are used.
func (l *Link) serves(mod *module, member *ha.MemberStatus) bool {
	if l.groupNow() != nil {
		return isMemberUsable(member)
	}
	return l.isServed(mod)
}

func (l *Link) groupNow() *ha.Group {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.group
}

// waiting is the keys.Link of a Link that has nothing to use.
type waiting struct{ link *Link }

func (w waiting) Key(context.Context, crypto.PublicKey) (keys.Key, error) { return nil, w.err() }
func (w waiting) Ready(context.Context) error                             { return w.err() }
func (w waiting) Reset(context.Context) error                             { return w.err() }
func (w waiting) Close() error                                            { return nil }

func (w waiting) Status() keys.Status {
	return keys.Status{Stage: string(StageTLS), Cause: "no HSM has a certificate and a password that the gateway could use"}
}

func (w waiting) err() error {
	return fmt.Errorf("%w: %s", keys.ErrUnavailable, w.link.Status().Cause)
}

// planFor says how a server is to be connected, of what is known now. role is
// as which all are to log in.
func (l *Link) planFor(mod *module, ids *identities, idsErr error, role client.Role) plan {
	p := plan{config: client.Config{Address: mod.address, MaxBackoff: reconnect, Software: "moongate " + l.m.o.Version, Version: l.hsm.Version, Logger: l.m.o.Logger}}
	fail := func(stage StageName, problem Problem, err error) plan {
		p.problem = &Error{Server: mod.name, Stage: stage, Problem: problem, Err: err}
		return p
	}
	from, err := source(l.hsm.Source, mod.server.Address)
	if err != nil {
		return fail(StageTCP, Problem{CodeSource, oneLine(err.Error()), "give the machine the address, or change route/service/entry[@name='hsm']"}, err)
	}
	p.config.LocalAddress = from
	if idsErr != nil {
		return fail(StageTLS, Problem{CodeNoIdentity, oneLine(idsErr.Error()), ""}, idsErr)
	}
	pinned, pins, err := l.m.store.pins(mod.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(StageTLS, Problem{CodeNotPinned, "the HSM's certificate is not known", "give it: `request hsm authenticate`, or `request hsm server-certificate import` with the HSM's server.pem"}, err)
	case err != nil:
		return fail(StageTLS, Problem{CodeNotPinned, "reading the pinned certificate: " + oneLine(err.Error()), "import the HSM's server.pem again"}, err)
	}
	p.config.ServerCertificates = pinned
	p.config.Certificate = *ids.find(l.m.store.get(mod.name).Client)
	if p.config.Partition, err = l.m.store.partition(mod.name); err != nil {
		return fail(StageAssigned, Problem{CodeRefused, oneLine(err.Error()), ""}, err)
	}
	p.connect = true
	of := passwordOf{mod.name, role}
	p.given = l.m.store.generation(of)
	mod.mu.Lock()
	locked := mod.locked
	mod.mu.Unlock()
	err = l.m.store.has(of)
	if err == nil {
		err = l.m.store.maySend(of, mod.address, pins)
	}
	switch {
	case locked:
		p.problem = explain(mod.name, mod.address, &client.Error{Stage: client.StageLogin, Err: lockedError})
	case err == nil:
		p.config.Role = role
		p.config.Password = func() ([]byte, error) { return l.m.store.password(of) }
		p.pins = fingerprintsOf(pins)
	case errors.Is(err, errNotGiven), errors.Is(err, errRefused), errors.Is(err, errElsewhere):
		p.problem = explain(mod.name, mod.address, err)
	default:
		p.problem = &Error{Server: mod.name, Stage: StageLogin, Err: err,
			Problem: Problem{CodeNoPassword, "reading the partition's password: " + oneLine(err.Error()), "give it again: `request hsm login`"}}
	}
	var fingerprints []string
	for _, pin := range pinned {
		fingerprints = append(fingerprints, client.Fingerprint(pin.Raw))
	}
	p.key = strings.Join([]string{mod.address, strings.Join(fingerprints, ","), fingerprint(&p.config.Certificate), p.config.Partition,
		p.config.Role.String(), from.String(), strconv.Itoa(int(p.config.Version)), p.given}, "|")
	return p
}

// lockedError stands for the HSM's while it is not asked again.
var lockedError = &client.HSMError{Code: client.ErrPINLocked}

// role is as which all servers log in: as the first of them that can.
func (l *Link) role() client.Role {
	for _, mod := range l.modules {
		role := l.m.store.role(mod.name)
		if l.m.store.has(passwordOf{mod.name, role}) == nil {
			return role
		}
	}
	return l.m.store.role(l.modules[0].name)
}

// assemble connects by what is known now, and leaves alone what is connected as
// it should be. With patience the connection before is used until the next one
// stands.
func (l *Link) assemble(patience bool) {
	l.building.Lock()
	defer l.building.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	if l.hsm.Provider == config.PKCS11HSM {
		l.assembleToken()
		return
	}
	ids, idsErr := l.m.store.identities()
	role := l.role()
	plans := make([]plan, len(l.modules))
	var ready []int
	var from []string
	for i, mod := range l.modules {
		of := role
		if l.hsm.HA == nil {
			of = l.m.store.role(mod.name)
		}
		plans[i] = l.planFor(mod, ids, idsErr, of)
		if plans[i].logsIn() {
			ready = append(ready, i)
		}
		from = append(from, plans[i].config.LocalAddress.String())
	}
	l.noteSource(plans, strings.Join(from, ","))
	if l.hsm.HA != nil && len(ready) >= 2 && l.knowsGroup() {
		l.assembleGroup(plans, ready, patience)
		return
	}
	l.assembleSingle(plans, ready, patience)
}

// assembleSingle connects each server by itself. Keys are used on the first one;
// in a group that is not one yet, on the first one that can log in.
func (l *Link) assembleSingle(plans []plan, ready []int, patience bool) {
	served := 0
	if l.hsm.HA != nil && len(ready) > 0 {
		served = ready[0]
	}
	var gone, over []*client.Client
	for i, mod := range l.modules {
		old, used := mod.connect(&plans[i])
		switch {
		case old == nil:
		case used && plans[i].logsIn():
			gone = append(gone, old)
		default: // of no use to anybody, or logged out: at once
			over = append(over, old)
		}
	}
	mod := l.modules[served]
	key := "single " + mod.name + " " + plans[served].key
	if !plans[served].logsIn() {
		key = "none"
	}
	l.mu.Lock()
	group := l.group
	l.group, l.served = nil, mod.name
	l.mu.Unlock()
	if l.traffic != key || group != nil {
		mod.mu.Lock()
		next := mod.own
		mod.mu.Unlock()
		if key == "none" || next == nil {
			l.inner.Set(waiting{l})
		} else {
			l.handOver(next, patience)
			l.inner.Set(keys.Network(kept{next}))
		}
		l.traffic = key
	}
	if len(ready) == 0 {
		end(group, nil)
		group = nil
	}
	end(nil, over)
	l.retire(group, gone)
	l.lookForKeys()
}

// connect opens the connection of a plan, unless it stands already. It returns
// the one that was replaced, and whether that was logged in; nil for none.
func (mod *module) connect(p *plan) (before *client.Client, used bool) {
	mod.mu.Lock()
	defer mod.mu.Unlock()
	if mod.plan.key == p.key && p.connect && mod.own != nil {
		mod.plan = *p
		return nil, false
	}
	used = mod.plan.logsIn()
	mod.plan = *p
	before, mod.own = mod.own, nil
	if p.connect {
		c, err := client.Open(p.config)
		if err != nil {
			mod.plan.problem = &Error{Server: mod.name, Stage: StageTLS, Problem: Problem{CodeRefused, oneLine(err.Error()), ""}, Err: err}
			if p.config.Version != 0 {
				mod.plan.problem.Code, mod.plan.problem.Stage = CodeVersion, StageRegistered
			}
			mod.plan.connect = false
		}
		mod.own = c
	}
	mod.keys = foundKeys{}
	return before, used
}

// kept is an HSM that is closed by its module, not by who uses it.
type kept struct{ *client.Client }

func (kept) Close() error { return nil }

// keptGroup is a group that is closed by its Link.
type keptGroup struct{ *ha.Group }

func (keptGroup) Close() error { return nil }

// handOver waits for the next connection where there is one before that can be
// used meanwhile.
func (l *Link) handOver(next keys.HSM, patience bool) {
	if !patience || !l.inner.Status().Ready {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, handover)
	defer cancel()
	if err := next.Ready(ctx); err != nil && l.ctx.Err() == nil {
		l.m.o.Logger.Warn("the next connection to the HSM does not stand yet", "err", err)
	}
}

// retire closes what is not used any more when what began on it has ended.
func (l *Link) retire(group *ha.Group, clients []*client.Client) {
	if group == nil && len(clients) == 0 {
		return
	}
	l.work.Go(func() {
		select {
		case <-time.After(grace):
		case <-l.ctx.Done():
		}
		end(group, clients)
	})
}

// end closes connections; none is nil.
func end(group *ha.Group, clients []*client.Client) {
	if group != nil {
		_ = group.Close() // never fails
	}
	for _, c := range clients {
		_ = c.Close() // never fails
	}
}

// noteSource keeps which addresses connections leave from, and tells when they
// change.
func (l *Link) noteSource(plans []plan, from string) {
	if l.hsm.Source.IsZero() {
		return
	}
	next := SourceStatus{Interface: l.hsm.Source.Interface}
	for i := range plans {
		if a := plans[i].config.LocalAddress; a.IsValid() && next.Address == "" {
			next.Address, next.Dynamic = a.String(), isDynamic(a)
		}
		if p := plans[i].problem; p != nil && p.Code == CodeSource {
			next.Problem = &p.Problem
		}
	}
	l.mu.Lock()
	before := l.source
	l.source = next
	l.mu.Unlock()
	first := l.from == ""
	l.from = from
	if first && next.Problem == nil || before.Address == next.Address && codeOf(before.Problem) == codeOf(next.Problem) || !first && !l.m.isActive(l) {
		return
	}
	e := Event{Severity: High, ID: "hsm-source-address", Object: cmp.Or(next.Interface, next.Address)}
	switch {
	case next.Problem != nil:
		e.Severity, e.Text = Critical, "the source address of connections to the HSMs is gone: "+next.Problem.String()
	case before.Address == "":
		e.Severity, e.Text = Informational, "connections to the HSMs leave from "+next.Address+" again"
	default:
		e.Text = movedFrom(next.Address, before.Address)
	}
	l.m.event(e)
}

// watchRoute tells when the machine's routing has connections leave from another
// address than before, where no service route decides.
func (l *Link) watchRoute() {
	for _, mod := range l.modules {
		if _, isAddress := parseAddr(mod.server.Address); !isAddress {
			continue // looking a name up may take its time
		}
		from, err := seenFrom(l.ctx, config.HSMSource{}, mod.server.Address, mod.server.Port)
		if err != nil {
			return // no way there: the stage tcp says so
		}
		l.mu.Lock()
		before := l.source.Address
		if before != from.String() {
			l.source = SourceStatus{Address: from.String(), Dynamic: isDynamic(from)}
		}
		l.mu.Unlock()
		if before != "" && before != from.String() && l.m.isActive(l) {
			l.m.event(Event{Severity: High, ID: "hsm-source-address", Object: from.String(), Text: movedFrom(from.String(), before)})
		}
		return
	}
}

func movedFrom(now, before string) string {
	return fmt.Sprintf("connections to the HSMs leave from %s, before from %s: HSMs on which the gateway is registered for the old address refuse it", now, before)
}

// watchSource rebuilds when the machine's addresses have changed.
func (l *Link) watchSource() {
	if l.hsm.Provider != config.NetworkHSM {
		return
	}
	if l.hsm.Source.IsZero() {
		l.watchRoute()
		return
	}
	var now []string
	for _, mod := range l.modules {
		from, _ := source(l.hsm.Source, mod.server.Address)
		now = append(now, from.String())
	}
	l.building.Lock()
	changed := l.from != strings.Join(now, ",")
	l.building.Unlock()
	if changed {
		l.rebuild()
	}
}
