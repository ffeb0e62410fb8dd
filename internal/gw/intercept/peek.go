package intercept

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"moongate/internal/gw/flow"
)

// maxHello bounds the bytes that a ClientHello may take on the wire. crypto/tls
// bounds the message at 64 KiB; the rest is room for record headers.
const maxHello = 256 << 10

var (
	errNotTLS    = errors.New("not TLS: the first byte is not that of a handshake record")
	errLongHello = fmt.Errorf("the ClientHello takes more than %d bytes", maxHello)
)

// recordHandshake is the first byte of a TLS connection (RFC 8446, section 5.1).
const recordHandshake = 0x16

// tap lies between crypto/tls and a connection whose hello is peeked at. It
// keeps what is read and holds back what is written, so that the connection is
// afterwards as it was: with what was seen put back in front, it can be
// answered, relayed to the server, or ended with an alert of our choice.
type tap struct {
	*net.TCPConn
	early []byte // came with the proxy request, not read yet
	seen  []byte // all that was read
	held  []byte // all that was written: at most an alert
}

func (t *tap) Read(b []byte) (int, error) {
	var n int
	var err error
	if len(t.early) > 0 {
		n = copy(b, t.early)
		t.early = t.early[n:]
	} else {
		n, err = t.TCPConn.Read(b)
	}
	t.seen = append(t.seen, b[:n]...)
	switch {
	case n == 0:
		return n, err
	case t.seen[0] != recordHandshake:
		return 0, errNotTLS
	case len(t.seen) > maxHello:
		return 0, errLongHello
	}
	return n, err
}

func (t *tap) Write(b []byte) (int, error) {
	t.held = append(t.held, b...)
	return len(b), nil
}

// extensionEarlyData announces early data (RFC 8446, section 4.2.10).
const extensionEarlyData = 42

// peeked is what was read from a client that was not answered yet.
type peeked struct {
	hello flow.Hello
	// earlyData tells that the client has sent data behind its hello, under
	// keys that it shares with the server.
	earlyData bool
	bytes     []byte
}

// peek reads the ClientHello, over as many records and segments as it takes
// (one with post-quantum key shares takes several), and returns it with all the
// bytes that were read. The parser is crypto/tls's own: what the decision is
// about cannot differ from what is later answered.
//
// With an error, only bytes are valid, and alert is what crypto/tls would have
// sent for it; empty where it had nothing to say.
func peek(conn *net.TCPConn, early []byte) (p *peeked, alert []byte, err error) {
	t := &tap{TCPConn: conn, early: early}
	p = &peeked{}
	errSeen := errors.New("seen")
	parser := tls.Server(t, &tls.Config{
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			p.hello = describeHello(info)
			p.earlyData = slices.Contains(info.Extensions, extensionEarlyData)
			return nil, errSeen
		},
	})
	err = parser.Handshake()
	p.bytes = append(t.seen, t.early...)
	if errors.Is(err, errSeen) {
		return p, nil, nil
	}
	return p, t.held, err
}

// describeHello takes from a hello what decisions need.
func describeHello(info *tls.ClientHelloInfo) flow.Hello {
	hello := flow.Hello{
		ServerName:   strings.ToLower(info.ServerName),
		ALPN:         info.SupportedProtos,
		Versions:     slices.DeleteFunc(slices.Clone(info.SupportedVersions), isGrease),
		CipherSuites: info.CipherSuites,
		Groups:       info.SupportedCurves,
		Signatures:   info.SignatureSchemes,
	}
	slices.SortFunc(hello.Versions, func(a, b uint16) int { return int(b) - int(a) })
	return hello
}

// isGrease recognises the values that clients throw in so that servers stay
// tolerant (RFC 8701).
func isGrease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// checkServerName refuses a server name that no certificate can hold.
func checkServerName(name string) error {
	if _, err := netip.ParseAddr(name); name == "" || err == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("the server name %.100q: %w", name, err)
	}
	return nil
}
