package hsmlink

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

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
