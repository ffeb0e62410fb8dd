package plane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moongate/internal/gw/intercept"
	"moongate/internal/gw/keys"
)

// Session is a flow under way.
type Session = intercept.Session

// Why a flow ended before its time, in its record.
var (
	errEnded   = errors.New("ended by an administrator")
	errCleared = errors.New("ended by an administrator, who cleared all sessions")
	// errReset is the cause of handshakes that waited too long for the HSM's
	// sessions to come back.
	errReset = errors.New("HSM sessions reset")
)

// Sessions returns the flows under way that keep says true of, oldest first;
// all of them where keep is nil.
func (p *Plane) Sessions(keep func(*Session) bool) []Session { return p.table.List(keep) }

// SessionInfo is how many flows there are under way.
type SessionInfo struct {
	Active    int // all of them
	Decrypted int
	Limit     int // clients at a time, for each listener; 0 before a configuration
}

// SessionInfo counts the flows under way.
func (p *Plane) SessionInfo() SessionInfo {
	var info SessionInfo
	info.Active, info.Decrypted = p.table.Count()
	if g := p.generation(); g != nil {
		info.Limit = g.snapshot.Limits.MaxConnections
	}
	return info
}

// End ends the flow of the number. It reports whether there was one.
func (p *Plane) End(id uint64) bool { return p.table.End(id, errEnded) }

// EndAll ends the flows that keep says true of; all of them where keep is nil.
// It returns how many there were.
func (p *Plane) EndAll(keep func(*Session) bool) int { return p.table.EndAll(keep, errEnded) }

// Cleared is what ClearSessions did.
type Cleared struct {
	Sessions  int // inspected flows that were ended
	Remaining int // flows that are not inspected, and go on
	Waited    int // new handshakes that waited meanwhile
	Refused   int // those among them that waited too long
	HSM       keys.Status
	Down      time.Duration // how long the HSM's sessions were away
	Took      time.Duration
}

// resetBound is how long ClearSessions waits for the HSM's sessions to come back
// where its context allows more.
const resetBound = 30 * time.Second

// ClearSessions ends every flow that is inspected, or about to be, and every
// session with the HSM, and waits until the HSM's are back, 30 s at most. New
// handshakes wait meanwhile, each for Options.HoldBound at most, and fail then
// with the cause "HSM sessions reset". progress hears, in sentences, of each
// state as it comes; nil is nobody. The error says why the HSM is not back,
// which is tried on in the background; what was done is told with it too.
func (p *Plane) ClearSessions(ctx context.Context, progress func(string)) (Cleared, error) {
	if progress == nil {
		progress = func(string) {}
	}
	began := time.Now()
	release, err := p.table.Hold(p.options.HoldBound, errReset)
	if err != nil {
		return Cleared{}, err
	}
	defer release()
	var c Cleared
	progress("new handshakes wait")
	c.Sessions, c.Remaining = p.table.EndInspected(errCleared)
	progress(fmt.Sprintf("%d inspected sessions are ended", c.Sessions))
	err = p.resetHSM(ctx, &c, progress)
	c.Waited, c.Refused = release()
	c.Took = time.Since(began)
	progress(fmt.Sprintf("done in %v", c.Took.Round(time.Millisecond)))
	if err != nil {
		return c, fmt.Errorf("opening new sessions with the HSM: %w", err)
	}
	return c, nil
}

// resetHSM has the HSM's sessions made anew.
func (p *Plane) resetHSM(ctx context.Context, c *Cleared, progress func(string)) error {
	if g := p.generation(); g == nil || g.snapshot.HSM == nil {
		c.HSM = p.options.HSM.Status()
		progress("no HSM is configured: there are no sessions with one")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, resetBound)
	defer cancel()
	began := time.Now()
	progress("HSM sessions: down")
	err := p.options.HSM.Reset(ctx)
	if err != nil && ctx.Err() == nil {
		progress(fmt.Sprintf("HSM sessions: still down: %v", err))
		err = p.options.HSM.Ready(ctx)
	}
	c.Down, c.HSM = time.Since(began), p.options.HSM.Status()
	if err != nil {
		progress(fmt.Sprintf("HSM sessions: not back: %v", err))
		return err
	}
	progress(fmt.Sprintf("HSM sessions: up, after %v", c.Down.Round(time.Millisecond)))
	return nil
}

// generation is the one that runs; nil before the first.
func (p *Plane) generation() *generation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}
