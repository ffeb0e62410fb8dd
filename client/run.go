package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	minBackoff = 50 * time.Millisecond
	// steady is how long a connection must have stood for the pauses to begin
	// with minBackoff again.
	steady = 10 * time.Second
)

// run keeps a connection until Close. It alone connects and logs in, so that a
// wrong password is sent once.
func (c *Client) run() {
	password := c.config.Password
	backoff := minBackoff
	var asked *loginRequest // a Relogin or Reset that the attempt is for
	for {
		if asked != nil && asked.password != nil {
			password = asked.password
		}
		l, err := c.attempt(password)
		if err == nil {
			c.up(l)
		} else if c.ctx.Err() == nil {
			c.failed(err)
		}
		if asked != nil {
			asked.result <- err
			asked = nil
		}
		if err == nil {
			began := time.Now()
			password, asked, err = c.serve(l, password)
			c.ready.Store(nil)
			l.close(err)
			c.down(err)
			if time.Since(began) >= steady {
				backoff = minBackoff
			}
		}
		if c.ctx.Err() != nil {
			c.down(ErrClosed)
			return
		}
		if asked != nil {
			continue // a Reset does not wait
		}
		asked = c.rest(err, backoff)
		if c.ctx.Err() != nil {
			c.down(ErrClosed)
			return
		}
		backoff = min(2*backoff, c.config.MaxBackoff)
	}
}

// attempt takes all steps from the name to the login.
func (c *Client) attempt(password func() ([]byte, error)) (*link, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.config.ConnectTimeout)
	defer cancel()
	l, err := connect(ctx, &c.config, ignore)
	if err != nil {
		return nil, err
	}
	if err := c.audit(l); err != nil {
		l.close(err)
		return nil, err
	}
	s, err := logIn(c.ctx, l, &c.config, password, ignore)
	if err != nil {
		l.close(err)
		return nil, err
	}
	l.session.Store(s)
	return l, nil
}

// audit checks the HSM's audit log where we remember a checkpoint of it.
func (c *Client) audit(l *link) error {
	if c.config.CheckpointFile == "" {
		return nil
	}
	p := newPatience(c.ctx, c.config.ConnectTimeout)
	defer p.release()
	_, err := checkAudit(p, l, &c.config)
	if errors.Is(err, errNoAudit) {
		if !c.noAudit {
			c.config.Logger.Warn("no audit checkpoint is remembered", "error", err)
			c.noAudit = true
		}
		return nil
	}
	if err != nil {
		return stageError(StageAudit, err)
	}
	return nil
}

// logIn opens a session and logs it in where a role is configured.
func logIn(ctx context.Context, l *link, config *Config, password func() ([]byte, error), passed func(Stage, string)) (*session, error) {
	p := newPatience(ctx, config.ConnectTimeout)
	defer p.release()
	s, err := openSession(p, l, config)
	if err != nil {
		return nil, err
	}
	passed(StageAssigned, fmt.Sprintf("partition %q, serial %s", s.info.Label, s.info.Serial))
	if config.Role == RoleNone {
		return s, nil
	}
	if err := logInAs(ctx, l, s, config, password); err != nil {
		closeSession(p, l, s)
		return nil, stageError(StageLogin, err)
	}
	passed(StageLogin, config.Role.String())
	return s, nil
}

func logInAs(ctx context.Context, l *link, s *session, config *Config, password func() ([]byte, error)) error {
	secret, err := password()
	defer clear(secret)
	if err != nil {
		return fmt.Errorf("getting the password: %w", err)
	}
	// Begun here: a person may have typed it.
	p := newPatience(ctx, config.ConnectTimeout)
	defer p.release()
	return login(p, l, s, config.Role, secret)
}

func ignore(Stage, string) {}

// errReset is why a link ended of which Reset was asked.
var errReset = errors.New("the connection was ended, to be made anew")

// serve watches over a link until it breaks, or a Reset ends it. It returns
// the password that is in use by then, the Reset, and why the link ended.
func (c *Client) serve(l *link, password func() ([]byte, error)) (func() ([]byte, error), *loginRequest, error) {
	tick := time.NewTicker(c.config.KeepAlive)
	defer tick.Stop()
	audit := time.NewTicker(c.config.CheckpointInterval)
	defer audit.Stop()
	heard := l.heard.Load()
	pinged := make(chan error, 1) // while somebody asks, a Reset is not kept waiting
	pinging := false
	for {
		select {
		case <-c.ctx.Done():
			return password, nil, ErrClosed
		case <-l.done:
			return password, nil, stageError(StageRequest, fmt.Errorf("%w: %w", errLost, l.failure()))
		case <-tick.C:
			if now := l.heard.Load(); now != heard {
				heard = now
			} else if !pinging {
				pinging = true
				l.wg.Go(func() {
					p := newPatience(c.ctx, c.config.KeepAlive)
					defer p.release()
					pinged <- l.ping(p)
				})
			}
		case err := <-pinged:
			if pinging = false; err != nil {
				return password, nil, stageError(StageRequest, fmt.Errorf("%w: asking whether the HSM is there: %w", errLost, err))
			}
			heard = l.heard.Load()
		case <-audit.C:
			// An HSM that is too busy to answer is asked again; any other trouble
			// ends the link, and the next one begins with the check.
			if err := c.audit(l); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				return password, nil, err
			}
		case r := <-c.logins:
			if r.drop {
				return password, &r, stageError(StageRequest, errReset)
			}
			old := l.session.Load()
			if r.stale != nil && r.stale != old {
				r.result <- nil // somebody was first
				continue
			}
			with := password
			if r.password != nil {
				with = r.password
			}
			s, err := logIn(c.ctx, l, &c.config, with, ignore)
			if err == nil {
				password = with
				l.session.Store(s)
				c.up(l)
			}
			if err != nil && r.stale != nil {
				// Without its session the link is of no use. Whoever asked
				// should find the status as it is.
				c.ready.Store(nil)
				c.down(err)
				r.result <- err
				return password, nil, err
			}
			r.result <- err
			if err == nil {
				p := newPatience(c.ctx, c.config.ConnectTimeout)
				closeSession(p, l, old)
				p.release()
			}
		}
	}
}

// up tells everybody that the link can be used.
func (c *Client) up(l *link) {
	s := l.session.Load()
	c.ready.Store(l)
	c.setStatus(func(status *Status) {
		status.Connected, status.Stage, status.NeedsLogin, status.Attempts = true, "", false, 0
		status.Partition = s.info
		status.Serial, status.Software, status.Protocol = l.hello.Serial, l.hello.Software, l.hello.Version
	})
	c.config.Logger.Info("connected to the HSM", "address", c.config.Address, "serial", l.hello.Serial,
		"partition", s.info.Label, "role", c.config.Role.String())
}

// down tells everybody that there is no link, and why.
func (c *Client) down(err error) { c.tellDown(err, 0) }

// failed is down after an attempt.
func (c *Client) failed(err error) { c.tellDown(err, 1) }

func (c *Client) tellDown(err error, attempts int) {
	var stage Stage
	if e, ok := errors.AsType[*Error](err); ok {
		stage = e.Stage
	}
	needsLogin := isCredential(err)
	before, _ := c.statusAndChange()
	c.setStatus(func(status *Status) {
		status.Connected, status.Stage, status.Err, status.NeedsLogin = false, stage, err, needsLogin
		status.Attempts += attempts
	})
	// An outage is one line in the log, not one for each attempt.
	if !errors.Is(err, ErrClosed) && (before.Connected || before.Stage != stage) {
		c.config.Logger.Warn("no connection to the HSM", "address", c.config.Address, "stage", string(stage), "error", err)
	}
}

// rest waits until the next attempt is due: for the backoff, half of it at
// random, or after a refused password for ever. A Relogin ends it, and so does
// a Reset, but for a refused password.
func (c *Client) rest(err error, backoff time.Duration) *loginRequest {
	var due <-chan time.Time
	if !isCredential(err) {
		timer := time.NewTimer(backoff/2 + rand.N(backoff/2+1))
		defer timer.Stop()
		due = timer.C
	}
	for {
		select {
		case <-due:
			return nil
		case <-c.ctx.Done():
			return nil
		case r := <-c.logins:
			if r.stale != nil {
				// The link that it was about is gone; the next one logs in.
				r.result <- nil
				continue
			}
			if r.drop && isCredential(err) {
				r.result <- err
				continue
			}
			return &r
		}
	}
}
