package ha

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// run watches over one member until ctx ends: it opens the client, asks who
// is there after each connection, and probes.
func (m *member) run(ctx context.Context) {
	defer func() {
		if c := m.client.Swap(nil); c != nil {
			c.Close()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.known, m.compared = false, false
		m.status.State, m.status.Reason, m.status.Fix = Lost, "the group is closed", ""
		m.publish()
	}()
	for ctx.Err() == nil {
		if m.client.Load() == nil && !m.open(ctx) {
			continue
		}
		m.watch(ctx)
	}
}

// open makes the client. It reports false after a pause where the configuration
// cannot work.
func (m *member) open(ctx context.Context) bool {
	m.mu.Lock()
	config := m.config
	m.mu.Unlock()
	c, err := client.Open(config)
	if err == nil {
		m.client.Store(c)
		return true
	}
	m.set(Refused, err.Error(), "")
	select {
	case <-ctx.Done():
	case <-m.recover:
	}
	return false
}

// watch follows the client until ctx ends, or the client should be made anew.
func (m *member) watch(ctx context.Context) {
	c := m.client.Load()
	m.admitted = time.Time{}
	probe := time.NewTimer(m.pause())
	defer probe.Stop()
	answers := m.answers.Load()
	for {
		status, changed := c.Watch()
		switch {
		case !status.Connected:
			m.disconnected(status)
			if !m.admitted.IsZero() && m.g.config.NoReturn {
				m.stay(ctx, c)
				return
			}
			m.admitted = time.Time{}
		case status.Since != m.admitted:
			m.admitted = time.Time{}
			if m.admit(ctx, c, status) {
				m.admitted = status.Since
				answers = m.answers.Load()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-m.recover:
			if !c.Status().Connected {
				m.client.Store(nil)
				c.Close()
				m.set(Connecting, "", "")
				return
			}
			m.admitted = time.Time{} // look again
		case <-m.kick:
			m.probe(ctx, c, &answers)
			probe.Reset(m.pause())
		case <-probe.C:
			m.probe(ctx, c, &answers)
			probe.Reset(m.pause())
		}
	}
}

// pause is the time between probes, with jitter so that many clients do not
// ask at once; a suspect is asked more often.
func (m *member) pause() time.Duration {
	d := m.g.config.Probe
	if m.state() == Suspect {
		d /= 4
	}
	return d/2 + rand.N(d/2+1)
}

// stay keeps a member away that was lost, until Recover.
func (m *member) stay(ctx context.Context, c *client.Client) {
	m.client.Store(nil)
	c.Close()
	m.mu.Lock()
	reason := m.status.Reason
	m.mu.Unlock()
	m.set(Lost, reason+"; it was told not to return by itself", "bring it back with `cmu ha recover`, or switch no-return off")
	select {
	case <-ctx.Done():
	case <-m.recover:
		m.set(Connecting, "", "")
	}
}

// disconnected decides what a member is that has no connection.
func (m *member) disconnected(status client.Status) {
	m.mu.Lock()
	m.known, m.compared = false, false
	m.status.Behind, m.status.Equal = -1, false
	m.status.Retries = status.Attempts
	was := m.status.State
	m.mu.Unlock()
	if status.Err == nil {
		if was != Connecting {
			m.set(Lost, "the connection ended", "")
		}
		return
	}
	reason, fix := explain(status.Err)
	switch {
	case status.NeedsLogin, refusedFor(status):
		m.set(Refused, reason, fix)
	case was == Connecting && status.Attempts == 0:
	default:
		m.set(Lost, reason, fix)
	}
}

// refusedFor reports whether the HSM is there and does not want us: time alone
// does not mend that.
func refusedFor(status client.Status) bool {
	switch status.Stage {
	case client.StageTLS:
		var pin *client.PinError
		return errors.As(status.Err, &pin)
	case client.StageAudit:
		return true
	case client.StageRegistered, client.StageAssigned, client.StageLogin:
		_, is := errors.AsType[*client.HSMError](status.Err)
		return is && client.CodeOf(status.Err) != client.ErrBusy
	}
	return false
}

// explain parts an error's reason from what to do about it.
func explain(err error) (string, string) {
	if e, is := errors.AsType[*client.Error](err); is {
		return fmt.Sprintf("%s: %v", e.Stage, e.Err), e.Fix
	}
	return err.Error(), ""
}

// admit asks a new connection who is there. It reports false where there is no
// answer, or none of use.
func (m *member) admit(ctx context.Context, c *client.Client, status client.Status) bool {
	m.mu.Lock()
	m.known, m.compared, m.mute = false, false, false
	m.publish()
	limit := m.config.ConnectTimeout
	m.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	self, record, err := introduce(within, c)
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		reason, fix := explain(err)
		if client.Unavailable(err) || errors.Is(err, context.DeadlineExceeded) {
			m.set(Lost, reason, fix)
		} else {
			m.set(Refused, reason, fix)
		}
		return false
	}
	m.answers.Add(1)
	verdict := m.g.identify(m, self, record, status)
	if verdict.state != Behind {
		m.set(verdict.state, verdict.reason, verdict.fix)
		return false
	}
	outdated := m.g.Record().Supersedes(record)
	m.mu.Lock()
	m.replica, m.known, m.arrived = self, true, time.Now()
	m.outdated = outdated
	m.software.Store(&status.Software)
	m.status.Serial, m.status.HSM, m.status.Software = self.Serial, self.HSM, status.Software
	m.status.Behind, m.status.Equal, m.status.Retries = -1, false, 0
	m.mu.Unlock()
	m.g.route()
	m.set(Behind, "its contents are being compared", "")
	m.g.wakeKeeper()
	return true
}

// introduce asks a partition what it is and which group it belongs to.
func introduce(ctx context.Context, c *client.Client) (object.Replica, object.Group, error) {
	self, err := c.Replica(ctx)
	if err != nil {
		return object.Replica{}, object.Group{}, err
	}
	record, err := c.Group(ctx)
	if err != nil {
		return object.Replica{}, object.Group{}, err
	}
	return self, record, nil
}

// probe asks a member whether it is there when nothing was heard of it.
func (m *member) probe(ctx context.Context, c *client.Client, answers *uint64) {
	if m.admitted.IsZero() {
		return // watch looks who is there
	}
	state := m.state()
	if now := m.answers.Load(); now != *answers && state != Suspect {
		*answers = now
		return
	}
	within, cancel := context.WithTimeout(ctx, m.g.config.Hedge)
	asked := time.Now()
	err := c.Ping(within)
	cancel()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		// Where our own timers are late it is we who did not run.
		if errors.Is(err, context.DeadlineExceeded) && time.Since(asked) < 2*m.g.config.Hedge {
			m.suspectNow(fmt.Sprintf("it did not answer a probe within %v", m.g.config.Hedge))
		}
		return // a lost connection is seen as such
	}
	m.answers.Add(1)
	*answers = m.answers.Load()
	if state == Suspect {
		m.absolve()
	}
}

// absolve ends a suspicion: the member is what it was before, or Behind where
// it missed something meanwhile.
func (m *member) absolve() {
	m.mu.Lock()
	next, reason := m.before, ""
	if next == Behind || len(m.pending)+len(m.stale) > 0 {
		next, reason = Behind, "it missed changes while it did not answer"
	}
	m.mu.Unlock()
	m.transition(Suspect, next, reason, "")
	if next == Behind {
		m.g.wakeKeeper()
	}
}
