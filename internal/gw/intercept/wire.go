package intercept

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"time"
)

// wire is the TCP connection below a TLS session. It belongs to the handshake,
// then to the one goroutine that reads from the session.
type wire struct {
	*net.TCPConn
	unread []byte // was read before, and is put back in front
	// ended tells that the peer's FIN was read. crypto/tls reports an end
	// between two records as io.EOF, whether a close_notify came before it or
	// not; it never reads on after a close_notify, so that this tells.
	ended bool
}

func (w *wire) Read(b []byte) (int, error) {
	if len(w.unread) == 0 {
		n, err := w.TCPConn.Read(b)
		if err == io.EOF {
			w.ended = true
		}
		return n, err
	}
	n := copy(b, w.unread)
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		w.unread = nil // frees the hello
	}
	return n, nil
}

// Close makes what is pending return, and leaves the connection open: crypto/tls
// calls it when the context of a handshake ends, and the client is to hear why
// before the connection's owner closes it.
func (w *wire) Close() error { return w.SetDeadline(time.Unix(1, 0)) }

// handshakeClient answers the hello that was peeked at.
func handshakeClient(ctx context.Context, conn *net.TCPConn, seen []byte, cfg *tls.Config) (*leg, error) {
	w := &wire{TCPConn: conn, unread: seen}
	client := tls.Server(w, cfg)
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &leg{tls: client, wire: w, name: "client"}, nil
}
