package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Client is one HSM, as one role on one partition. Its methods may be called
// from many goroutines at once.
type Client struct {
	config Config // never changes; run keeps the password in use

	ctx    context.Context // done when Close is called
	cancel context.CancelFunc
	ended  chan struct{} // closed when run has returned

	// logins reach run, which alone logs in.
	logins chan loginRequest

	noAudit bool // it is in the log that the HSM has no audit log; of run

	// ready is the link to use; nil while there is none. Written by run.
	ready atomic.Pointer[link]

	mu      sync.Mutex
	status  Status        // guarded by mu
	changed chan struct{} // closed and replaced when status changes; guarded by mu
}

// Status is how a Client's connection stands.
type Status struct {
	// Connected: a session is open, and logged in where a role is configured.
	Connected bool
	// Stage is the step that failed last; empty while connected and before
	// the first attempt has ended.
	Stage Stage
	// Err is why the last attempt or the last connection failed. It stays
	// while connected; nil when nothing has failed yet.
	Err error
	// NeedsLogin: a password was refused, and nothing is tried until Relogin.
	NeedsLogin bool
	// Since is when Connected, Stage or NeedsLogin last changed.
	Since time.Time
	// Attempts to connect that failed since the last that succeeded.
	Attempts int

	// Of the last connection; empty before the first.
	Partition PartitionInfo
	Serial    string // the HSM's
	Software  string // the HSM's
	Protocol  uint16 // the version that both speak

	// Of the moment in which Status was called; no change of them is told.

	// InFlight is how many requests have no answer yet.
	InFlight int
	// Silent is since when the HSM has answered nothing although it owes
	// answers: since its last one, or since the first of those requests was
	// sent. Zero while it owes none. A key that is generated may take it
	// seconds; a Ping is answered at once.
	Silent time.Time
}

// loginRequest asks run for a login.
type loginRequest struct {
	ctx context.Context
	// stale is the session that should be replaced; nil for a Relogin.
	stale *session
	// password is used instead of the one before; nil keeps that.
	password func() ([]byte, error)
	// drop ends the connection first.
	drop   bool
	result chan<- error // buffered
}

// Open starts a Client and returns at once: the connection is made in the
// background, and tried again until it succeeds or a password is refused. The
// error says that the configuration cannot work.
func Open(config Config) (*Client, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	c := &Client{
		config:  config,
		ended:   make(chan struct{}),
		logins:  make(chan loginRequest),
		changed: make(chan struct{}),
		status:  Status{Since: time.Now()},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go func() { defer close(c.ended); c.run() }()
	return c, nil
}

// Dial is Open, and waits until the first attempt has succeeded. When it fails
// the error says at which stage, and nothing stays behind.
func Dial(ctx context.Context, config Config) (*Client, error) {
	c, err := Open(config)
	if err != nil {
		return nil, err
	}
	for {
		status, changed := c.statusAndChange()
		if status.Connected {
			return c, nil
		}
		if status.Err != nil {
			c.Close()
			return nil, status.Err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			c.Close()
			return nil, fmt.Errorf("connecting to the HSM at %s: %w", c.config.Address, ctx.Err())
		}
	}
}

// Close ends the connection and everything that the Client started. Calls in
// flight fail with ErrClosed.
func (c *Client) Close() error {
	c.cancel()
	<-c.ended
	return nil
}

// Status returns how the connection stands.
func (c *Client) Status() Status {
	status, _ := c.Watch()
	return status
}

// Watch returns how the connection stands, and a channel that is closed when
// that has changed, by a failed attempt too. Who takes the channel first and
// acts on the status misses nothing.
func (c *Client) Watch() (Status, <-chan struct{}) {
	status, changed := c.statusAndChange()
	if l := c.ready.Load(); l != nil {
		status.InFlight, status.Silent = l.owed()
	}
	return status, changed
}

// Ready waits until the connection stands. Its error is that of a refused
// password, or else the last failure with the context's end.
func (c *Client) Ready(ctx context.Context) error {
	p := c.patience(ctx, c.config.CallTimeout)
	defer p.release()
	_, err := c.wait(p)
	return err
}

// Relogin logs in with a new password, or with the configured function again
// where password is nil, and waits for the outcome. It is the only way on
// after a password was refused. The new password is used for later connections
// too, unless it is refused while a session stands: that session goes on.
func (c *Client) Relogin(ctx context.Context, password func() ([]byte, error)) error {
	return c.requestLogin(loginRequest{ctx: ctx, password: password})
}

// Reset ends the connection, and with it every session on the HSM, connects
// again and logs in with the password in use, and waits for the outcome. Calls
// in flight are repeated on the new connection as after any loss of one. When
// the attempt fails the error says at which stage, and more are made in the
// background. A password that was refused before is not sent again.
func (c *Client) Reset(ctx context.Context) error {
	return c.requestLogin(loginRequest{ctx: ctx, drop: true})
}

func (c *Client) requestLogin(r loginRequest) error {
	result := make(chan error, 1)
	r.result = result
	select {
	case c.logins <- r:
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-c.ended:
		return ErrClosed
	}
	select {
	case err := <-result:
		return err
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-c.ended:
		return ErrClosed
	}
}

func (c *Client) statusAndChange() (Status, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.changed
}

func (c *Client) setStatus(change func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.status
	change(&c.status)
	if c.status.Connected != before.Connected || c.status.Stage != before.Stage || c.status.NeedsLogin != before.NeedsLogin {
		c.status.Since = time.Now()
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait returns the link once there is one. Its errors say that nothing was
// sent: they are waitErrors.
func (c *Client) wait(p patience) (*link, error) {
	if l := c.ready.Load(); l != nil && !l.broken() {
		return l, nil
	}
	for {
		status, changed := c.statusAndChange()
		if l := c.ready.Load(); l != nil && !l.broken() {
			return l, nil
		}
		switch {
		case status.NeedsLogin:
			return nil, waitError{status.Err}
		case c.ctx.Err() != nil:
			return nil, waitError{ErrClosed}
		case p.atOnce:
			return nil, notConnected(c.config.Address, status, errAway)
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
		case <-p.ctx.Done():
			return nil, notConnected(c.config.Address, status, p.err())
		case <-p.timeout:
			return nil, notConnected(c.config.Address, status, p.err())
		}
	}
}

func notConnected(address string, status Status, cause error) error {
	if status.Err == nil {
		return waitError{fmt.Errorf("waiting for the HSM at %s: %w", address, cause)}
	}
	return waitError{withCause(status.Err, cause)}
}
