package intercept

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// chunkSize is how much is moved at a time when there is much to move:
	// a few records for the price of one system call.
	chunkSize = 64 << 10
	// maxRecord is the most that one record takes on a wire (RFC 5246, section
	// 6.2.3; those of TLS 1.3 are shorter).
	maxRecord = 5 + 16<<10 + 2<<10
)

// chunks are lent for as long as data is on its way; a connection on which
// nothing moves has none.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// wire is the TCP connection below a TLS session. It reads ahead, and writes
// several records at once, where data comes in bulk. Reading belongs to the
// handshake, then to the one goroutine that reads from the session.
type wire struct {
	*net.TCPConn
	raw     syscall.RawConn
	unread  []byte             // read before its time
	ahead   *[chunkSize]byte   // what unread is a part of; nil if it is of another
	bulk    bool               // the last read got all that it had room for
	arrived int                // of tryRead
	failed  error              // of tryRead; the system reports it only once
	tryRead func(uintptr) bool // reads what has arrived into ahead
	// ended tells that the peer's FIN was read. crypto/tls reports an end
	// between two records as io.EOF, whether a close_notify came before it or
	// not; it never reads on after a close_notify, so that this tells.
	ended bool
	// mute, where it is set, says of a handshake that what it would write is
	// not to be sent: while it has written nothing, the client may yet be
	// answered by somebody else. Of the handshake's goroutine.
	mute  func() bool
	wrote bool // something was sent
	read  bool // something was read besides what was there at first

	mu   sync.Mutex
	cork *[chunkSize]byte // guarded by mu; nil while writes go straight through
	held int              // guarded by mu; bytes of cork
}

// newWire makes the wire of a connection, of which first was read already.
func newWire(conn *net.TCPConn, first []byte) *wire {
	w := &wire{TCPConn: conn, unread: first}
	if raw, err := conn.SyscallConn(); err == nil {
		w.raw = raw
		w.tryRead = func(fd uintptr) bool {
			w.arrived, w.failed = readNow(int(fd), w.ahead[:])
			return true // whatever it was: this read does not wait
		}
	}
	return w
}

func (w *wire) Read(b []byte) (int, error) {
	if len(w.unread) == 0 && w.bulk {
		w.readAhead()
	}
	if len(w.unread) > 0 {
		n := copy(b, w.unread)
		if w.unread = w.unread[n:]; len(w.unread) == 0 {
			w.unread = nil // frees the hello
			if w.ahead != nil {
				chunks.Put(w.ahead)
				w.ahead = nil
			}
		}
		return n, nil
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.TCPConn.Read(b)
	w.read = true
	if err == io.EOF {
		w.ended = true
	}
	w.bulk = n == len(b)
	return n, err
}

// readAhead reads what has arrived, if anything has.
func (w *wire) readAhead() {
	w.bulk = false
	if w.raw == nil {
		return
	}
	w.ahead = chunks.Get().(*[chunkSize]byte)
	w.arrived = 0
	if err := w.raw.Read(w.tryRead); err != nil || w.arrived <= 0 {
		chunks.Put(w.ahead)
		w.ahead = nil
		return
	}
	w.unread = w.ahead[:w.arrived]
	w.bulk = w.arrived == chunkSize
}

// ready reports that a read of the session gets a record without waiting.
func (w *wire) ready() bool { return len(w.unread) >= maxRecord }

// Write may be called by the session's reader too, which answers some records.
func (w *wire) Write(b []byte) (int, error) {
	if w.mute != nil {
		if !w.wrote && !w.read && w.mute() {
			return len(b), nil
		}
		w.wrote = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cork == nil {
		return w.TCPConn.Write(b)
	}
	if w.held+len(b) > chunkSize {
		if err := w.flush(); err != nil {
			return 0, err
		}
		if len(b) > chunkSize {
			return w.TCPConn.Write(b)
		}
	}
	w.held += copy(w.cork[w.held:], b)
	return len(b), nil
}

// hold makes writes wait for release.
func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cork = chunks.Get().(*[chunkSize]byte)
}

// release writes what was held.
func (w *wire) release() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flush()
	chunks.Put(w.cork)
	w.cork = nil
	return err
}

// flush writes what is held; mu is held by the caller.
func (w *wire) flush() error {
	n := w.held
	w.held = 0
	_, err := w.TCPConn.Write(w.cork[:n])
	return err
}

// Close makes what is pending return, and leaves the connection open: crypto/tls
// calls it when the context of a handshake ends, and the client is to hear why
// before the connection's owner closes it.
func (w *wire) Close() error { return w.SetDeadline(time.Unix(1, 0)) }

// handshakeClient answers the hello that was peeked at. crypto/tls keeps its
// first flight until the key has signed, so that mute can hold back the alert
// that a key's failure makes of it: silent reports, with an error, that the
// client has heard nothing, and that nothing of it but the hello was read.
func handshakeClient(ctx context.Context, conn *net.TCPConn, seen []byte, cfg *tls.Config, mute func() bool) (client *leg, silent bool, err error) {
	w := newWire(conn, seen)
	w.mute = mute
	session := tls.Server(w, cfg)
	if err := session.HandshakeContext(ctx); err != nil {
		return nil, mute != nil && !w.wrote && !w.read, err
	}
	w.mute = nil
	return &leg{tls: session, wire: w, name: "client"}, false, nil
}
