package hsmlink

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/config"
)

const (
	lookEach   = 500 * time.Millisecond // how often a server's state is looked at
	askEach    = 750 * time.Millisecond // how often a connected one is asked how it is
	askFor     = 750 * time.Millisecond // how long it may take to answer
	knockEach  = 700 * time.Millisecond // how often the port of one that is not connected is tried
	knockFor   = time.Second            // how long a TCP connection may take, when looked at
	freshFor   = 3 * time.Second        // how long a first attempt may take before it is said
	renewEach  = 3 * time.Second        // how often a server is asked whether it takes the next certificate
	rememberOf = 5 * time.Second        // how often a group's record is asked for where none is known
)

// plan is how a module is to be connected.
type plan struct {
	config client.Config
	key    string   // of all that config was made of: another key is another connection
	given  string   // the generation of the password in it
	pins   []string // that the password may be sent to
	// problem is why there is no connection (connect is false), or none that
	// logs in (Role is RoleNone).
	problem *Error
	connect bool
}

func (p *plan) logsIn() bool { return p.connect && p.config.Role != client.RoleNone }

// module is one server of a link, or the module of a token.
type module struct {
	link    *Link
	name    string // as the administrator calls it
	server  config.HSMServer
	address string // for people: host:port, or the module's file

	mu       sync.Mutex
	plan     plan           // guarded by mu
	own      *client.Client // its own connection; nil where there is none, or it is the group's; guarded by mu
	status   ServerStatus   // as last looked at; guarded by mu
	lookedAt time.Time      // guarded by mu
	locked   bool           // its role was locked when the gateway last logged in; guarded by mu
	keys     foundKeys      // guarded by mu

	// Of run alone.
	asked     time.Time
	partition client.PartitionStatus // as last answered
	silent    bool
	attempts  int       // to connect, that had failed in a row
	attempted time.Time // when that was another number
	knocked   time.Time
	answer    *Error // of the last knock
	sequence  uint64 // of the partition's last change
	told      string // the state and the problem of the last event

	// Of the link's run alone.
	renewed, remembered time.Time
}

// connection is the client through which the module is reached now; nil
// without one.
func (mod *module) connection() *client.Client {
	if g := mod.link.groupNow(); g != nil {
		if c := g.Client(mod.name); c != nil {
			return c
		}
	}
	mod.mu.Lock()
	defer mod.mu.Unlock()
	return mod.own
}

// snapshot is the status as last looked at.
func (mod *module) snapshot() (ServerStatus, time.Time) {
	mod.mu.Lock()
	defer mod.mu.Unlock()
	s := mod.status
	s.Stages = slices.Clone(s.Stages)
	return s, mod.lookedAt
}

// run looks at the module until ctx is done.
func (mod *module) run(ctx context.Context) {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	for {
		mod.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look finds out how the module stands, and tells what has changed.
func (mod *module) look(ctx context.Context) {
	mod.mu.Lock()
	p := mod.plan
	before := mod.status
	mod.mu.Unlock()
	c := mod.connection()
	now := mod.link.m.o.Now()
	s := ServerStatus{Name: mod.name, Address: mod.address}
	if g := mod.link.groupNow(); g != nil {
		for _, member := range g.Members() {
			if member.Name == mod.name {
				s.Member = &member
			}
		}
	}
	reached, failed := mod.reach(ctx, c, &p, &s)
	if ctx.Err() != nil {
		return
	}
	if failed == nil && reached > at(StageLogin) {
		reached, failed = mod.judgeKeys(&s)
	}
	s.Stages = stagesOf(before.Stages, reached, failed, &s, now)
	s.State, s.Problem = StateAuthenticated, nil
	if failed != nil {
		s.Problem = &failed.Problem
	}
	if reached <= at(StageLogin) {
		s.State = string(Stages[reached])
		s.Serial, s.Partition = "", ""
	}
	if reached <= at(StageTLS) { // whoever is there, it is not known to be that HSM
		s.HSMSerial, s.Software, s.Protocol = "", "", 0
	}
	s.Since = now
	if before.State == s.State && !before.Since.IsZero() {
		s.Since = before.Since
	}
	known := mod.link.m.store.get(mod.name)
	s.HostKey = known.HostKey
	if s.Serial != "" && s.Serial != known.Serial && mod.link.hsm.HA != nil {
		if err := mod.link.m.store.change(mod.name, func(state *serverState) { state.Serial = s.Serial }); err != nil {
			mod.link.m.o.Logger.Error("keeping a partition's serial number", "server", mod.name, "err", err)
		}
	}
	s.Serving = mod.link.serves(mod, s.Member)
	mod.mu.Lock()
	mod.status, mod.lookedAt = s, now
	mod.mu.Unlock()
	mod.link.tell(mod, &before, &s)
}

// at is a stage's place in Stages.
func at(name StageName) int { return slices.Index(Stages, name) }

// reach says how far the way to the module goes: all stages before the index
// are green, and that one is red where there is an error, or waited for.
func (mod *module) reach(ctx context.Context, c *client.Client, p *plan, s *ServerStatus) (int, *Error) {
	if c == nil {
		if p.problem != nil && p.problem.Stage == StageTCP {
			return at(StageTCP), p.problem
		}
		if failed := mod.knock(ctx, p); failed != nil {
			return at(failed.Stage), failed
		}
		if p.problem == nil {
			return at(StageTLS), nil
		}
		return at(p.problem.Stage), p.problem
	}
	now := c.Status()
	s.HSMSerial, s.Software, s.Protocol = now.Serial, now.Software, now.Protocol
	if !now.Connected {
		return mod.away(ctx, now, p)
	}
	loggedIn := p.logsIn()
	mod.ask(ctx, c, loggedIn)
	if mod.silent {
		return at(StageTCP), &Error{Server: mod.name, Stage: StageTCP, Problem: Problem{CodeSilent,
			mod.address + " has stopped answering", "check the HSM and the network between; the gateway connects again by itself"}}
	}
	s.Serial, s.Partition = now.Partition.Serial, now.Partition.Label
	if loggedIn && mod.link.hsm.Provider == config.NetworkHSM {
		if err := mod.link.m.store.proven(passwordOf{mod.name, p.config.Role}, mod.address, p.pins); err != nil {
			mod.link.m.o.Logger.Error("keeping where a password was right", "server", mod.name, "err", err)
		}
	}
	if loggedIn {
		s.Role = roleWord(p.config.Role)
		return at(StageKeys), nil
	}
	// Connected without a login: why, the plan says.
	failed := p.problem
	if failed == nil {
		return at(StageLogin), nil
	}
	mod.unlock()
	return at(StageLogin), failed
}

// away says why there is no connection. What was found some time ago is not
// said of the network of this moment, which is looked at.
func (mod *module) away(ctx context.Context, now client.Status, p *plan) (int, *Error) {
	var failed *Error
	if now.Err != nil {
		failed = explain(mod.name, mod.address, now.Err)
	}
	if now.NeedsLogin {
		mod.refused(failed, p)
		return at(failed.Stage), failed
	}
	if failed != nil && at(failed.Stage) > at(StageTCP) {
		if failed.Stage == StageLogin && p.problem != nil {
			return at(StageLogin), p.problem
		}
		// The HSM itself said so, or showed it. Attempts go on; where one takes
		// long it may not be there any more.
		if now.Attempts != mod.attempts {
			mod.attempts, mod.attempted = now.Attempts, time.Now()
		}
		if time.Since(mod.attempted) > reconnect+lookEach {
			if gone := mod.knock(ctx, p); gone != nil {
				return at(gone.Stage), gone
			}
		}
		return at(failed.Stage), failed
	}
	if gone := mod.knock(ctx, p); gone != nil {
		return at(gone.Stage), gone
	}
	if failed != nil && time.Since(now.Since) > freshFor {
		return at(failed.Stage), failed
	}
	return at(StageTLS), nil // the port answers: the next attempt is under way
}

// refused takes note of a password that was refused: no more attempts are made
// with it.
func (mod *module) refused(failed *Error, p *plan) {
	switch failed.Code {
	case CodeLocked:
		mod.mu.Lock()
		mod.locked = true
		mod.mu.Unlock()
	default:
		if err := mod.link.m.store.refused(passwordOf{mod.name, p.config.Role}, p.given); err != nil {
			mod.link.m.o.Logger.Error("keeping that a password was refused", "server", mod.name, "err", err)
		}
	}
	mod.link.rebuild()
}

// unlock has the gateway log in again once the role that was locked is not any
// more.
func (mod *module) unlock() {
	mod.mu.Lock()
	locked := mod.locked
	mod.mu.Unlock()
	if !locked {
		return
	}
	role := mod.link.m.store.role(mod.name)
	i := slices.IndexFunc(mod.partition.Roles, func(r client.RoleStatus) bool { return r.Role == role })
	if i < 0 || mod.partition.Roles[i].Locked || !mod.partition.Roles[i].Initialized {
		return
	}
	mod.mu.Lock()
	mod.locked = false
	mod.mu.Unlock()
	mod.link.rebuild()
}

// ask has the HSM say how the partition is, which shows at once whether it
// answers and whether anything has changed. Who is not logged in may not ask
// the latter, and the HSM would record each attempt.
func (mod *module) ask(ctx context.Context, c *client.Client, loggedIn bool) {
	if time.Since(mod.asked) < askEach {
		return
	}
	mod.asked = time.Now()
	within, cancel := context.WithTimeout(client.WithoutWaiting(ctx), askFor)
	defer cancel()
	partition, err := c.PartitionStatus(within)
	switch silent := c.Status().Silent; {
	case err == nil:
		mod.partition, mod.silent = partition, false
	case ctx.Err() != nil:
	case !silent.IsZero() && time.Since(silent) >= askFor-50*time.Millisecond:
		mod.silent = true
	}
	if mod.silent || err != nil || !loggedIn || mod.link.hsm.Provider != config.NetworkHSM {
		return
	}
	if digest, err := c.Digest(within); err == nil && digest.Sequence != mod.sequence {
		mod.sequence = digest.Sequence
		mod.link.lookForKeys()
	}
}

// knock says whether the port answers: nil where it does. It is tried anew after
// a while, since each time is a line in somebody's log.
func (mod *module) knock(ctx context.Context, p *plan) *Error {
	if mod.link.hsm.Provider != config.NetworkHSM {
		return mod.link.tokenProblem(mod)
	}
	if time.Since(mod.knocked) >= knockEach {
		mod.answer = mod.dial(ctx, p)
		mod.knocked = time.Now()
	}
	return mod.answer
}

// dial opens a TCP connection and closes it.
func (mod *module) dial(ctx context.Context, p *plan) *Error {
	ctx, cancel := context.WithTimeout(ctx, knockFor)
	defer cancel()
	if _, err := netip.ParseAddr(mod.server.Address); err != nil {
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", mod.server.Address); err != nil {
			return explain(mod.name, mod.address, &client.Error{Stage: client.StageName, Err: err})
		}
	}
	d := net.Dialer{}
	if p.config.LocalAddress.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.config.LocalAddress, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", mod.address)
	if err != nil {
		return explain(mod.name, mod.address, &client.Error{Stage: client.StageTCP, Err: err})
	}
	_ = conn.Close() // nothing was sent
	return nil
}

// isMemberUsable reports whether a member of the group has calls go to it.
func isMemberUsable(m *ha.MemberStatus) bool {
	return m != nil && (m.State == ha.Live || m.State == ha.Behind)
}

// renewAgain reports whether it is time to ask the server for the next
// certificate; it is called by the link's run alone.
func (mod *module) renewAgain() bool {
	if time.Since(mod.renewed) < renewEach {
		return false
	}
	mod.renewed = time.Now()
	return true
}
