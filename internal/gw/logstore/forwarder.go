package logstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"moongate/internal/syslog"
)

// Bounds of what waits for a server. Messages stay until they count as arrived;
// where there is no room, those that were sent are forgotten first, and only
// then are new ones dropped.
const (
	maxWaiting      = 8192
	maxWaitingBytes = 32 << 20
)

// forwarder sends messages to one server.
type forwarder struct {
	server Server
	sender *syslog.Sender
	stop   context.CancelFunc
	ctx    context.Context // of sending
	done   chan struct{}
	wake   chan struct{} // holds one

	mu      sync.Mutex // guards the fields below
	waiting []syslog.Message
	base    int64 // mark of the first of waiting
	sent    int   // how many of waiting were written
	flushed bool  // and are out of the sender's buffer
	bytes   int   // of waiting
	dropped uint64

	most int // messages that wait
}

func newForwarder(server Server, hostname string, most int, logger *slog.Logger) (*forwarder, error) {
	facility := server.Facility
	if facility == 0 {
		facility = facilityUser
	}
	sender, err := syslog.New(syslog.Options{
		Address: server.Address, Transport: server.Transport, ServerName: server.ServerName, Roots: server.Roots,
		SystemRoots: server.Transport == syslog.TLS && server.Roots == nil, ClientCertificate: server.Certificate,
		Facility: facility, Hostname: hostname, App: "moongate", Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	f := &forwarder{server: server, sender: sender, done: make(chan struct{}), wake: make(chan struct{}, 1), flushed: true, most: most}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f, nil
}

func (f *forwarder) start() { go f.run() }

// size is about what a message takes.
func size(m *syslog.Message) int {
	n := len(m.Text)
	for _, e := range m.Data {
		for _, p := range e.Params {
			n += len(p.Name) + len(p.Value) + 32
		}
	}
	return n
}

// put queues without waiting.
func (f *forwarder) put(m syslog.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := size(&m)
	for len(f.waiting) > 0 && (len(f.waiting) >= f.most || f.bytes+n > maxWaitingBytes) {
		if f.sent == 0 {
			f.dropped++
			return
		}
		f.forget(1)
	}
	m.Mark = f.base + int64(len(f.waiting))
	f.waiting = append(f.waiting, m)
	f.bytes += n
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// forget drops the first n of waiting. The caller holds mu.
func (f *forwarder) forget(n int) {
	for i := range n {
		f.bytes -= size(&f.waiting[i])
		f.waiting[i] = syslog.Message{}
	}
	f.waiting = f.waiting[n:]
	f.base += int64(n)
	f.sent = max(0, f.sent-n)
}

// idle is how often a connection without messages is looked at.
const idle = time.Second

func (f *forwarder) run() {
	defer close(f.done)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		m, ok := f.next()
		if ok {
			if err := f.sender.Send(f.ctx, m); err != nil {
				if !errors.Is(err, syslog.ErrLost) {
					return // ctx has ended
				}
				f.again()
				continue
			}
			f.wrote(m.Mark)
			continue
		}
		if err := f.sender.Flush(); err != nil {
			f.again()
			continue
		}
		f.settle()
		timer.Reset(idle)
		select {
		case <-f.wake:
		case <-timer.C:
		case <-f.ctx.Done():
			return
		}
	}
}

// next is the first message that was not written yet.
func (f *forwarder) next() (syslog.Message, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sent >= len(f.waiting) {
		return syslog.Message{}, false
	}
	f.flushed = false
	return f.waiting[f.sent], true
}

// wrote notes that a message was written; meanwhile others may have been
// forgotten, but not this one.
func (f *forwarder) wrote(mark int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sent = int(mark-f.base) + 1
}

// again goes back to the first message that may not have arrived.
func (f *forwarder) again() {
	settled := f.sender.Settled()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := settled - f.base + 1; n > 0 {
		f.forget(int(n))
	}
	f.sent, f.flushed = 0, len(f.waiting) == 0
}

// settle forgets what has arrived.
func (f *forwarder) settle() {
	settled := f.sender.Settled()
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := settled - f.base + 1; n > 0 {
		f.forget(int(n))
	}
	f.flushed = f.sent >= len(f.waiting)
}

func (f *forwarder) status() ForwardStatus {
	st := f.sender.Status()
	f.mu.Lock()
	defer f.mu.Unlock()
	out := ForwardStatus{
		Server: f.server.Name, Connected: st.Connected, Since: st.Since, Sent: st.Messages, Waiting: len(f.waiting) - f.sent, Dropped: f.dropped,
	}
	if st.Err != nil {
		out.Failure = st.Err.Error()
	}
	return out
}

// close gives what waits some time to be sent.
func (f *forwarder) close(patience time.Duration) error {
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		f.mu.Lock()
		flushed := f.flushed
		f.mu.Unlock()
		if flushed {
			break
		}
	}
	f.stop()
	<-f.done
	return f.sender.Close()
}
