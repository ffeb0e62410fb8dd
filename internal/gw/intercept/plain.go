package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
)

// actionPlain is the action in the record of a request without TLS.
const actionPlain = "plain"

// via is what the proxy calls itself to servers and clients (RFC 9110, section
// 7.6.3); every message that it forwards must carry it.
const via = "1.1 moongate"

// plainClient is the client half of plain HTTP, for one runtime: connections
// that are kept were checked against its destinations, and no other's.
type plainClient struct {
	rt        *Runtime
	transport *http.Transport
}

// client returns the plainClient of a runtime.
func (p *Proxy) client(rt *Runtime) *plainClient {
	current := p.plain.Load()
	if current != nil && current.rt == rt {
		return current
	}
	dialer := dialer{p.options.Resolver, rt.Limits.withDefaults().DialTimeout, rt.Destinations}
	next := &plainClient{rt: rt, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			target, err := ParseTarget(address)
			if err != nil {
				return nil, requestFailure(fmt.Errorf("http://%.300q: %w", address, err))
			}
			conn, err := dialer.dial(ctx, target)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		DisableCompression:     true, // the client's Accept-Encoding is the client's
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              protocols(),
	}}
	if p.plain.CompareAndSwap(current, next) {
		if current != nil {
			current.transport.CloseIdleConnections()
		}
		return next
	}
	return p.client(rt)
}

// forward passes a request of plain HTTP on, in absolute-form (RFC 9112,
// section 3.2.2), and its answer back; an Upgrade becomes a tunnel. It reports
// too whether the answer broke off: then the client's connection must, or the
// client could take a part for the whole.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, s *session) (f *flow.Failure, cut bool) {
	target, err := plainTarget(r)
	if err != nil {
		f := requestFailure(err)
		refuse(w, f)
		return f, false
	}
	s.target = target
	s.record.Target = target.String()
	s.record.Action, s.record.Reason = actionPlain, "plain HTTP"
	s.publish()
	s.life.add(s.client)
	stopWatch := s.watchIdle()
	defer stopWatch()

	exchange := &exchange{session: s}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &countedBody{ReadCloser: r.Body, exchange: exchange}
	}
	proxy := httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      p.client(s.rt).transport,
		FlushInterval:  -1, // a proxy does not make an answer wait
		BufferPool:     copyBuffers{},
		ErrorLog:       slog.NewLogLogger(p.options.Log.Handler(), slog.LevelDebug),
		ModifyResponse: exchange.modify,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			f = exchange.failure(err)
			refuse(w, f)
		},
	}
	cut = serveReverse(&proxy, w, r.WithContext(exchange.trace(r.Context())))
	if cut {
		f = exchange.failure(errors.New("the client closed the connection within the answer"))
	}
	if cause := s.life.why(); cause != nil && f == nil {
		f = exchange.failure(cause) // a tunnel was cut, which a ReverseProxy does not tell
	}
	if server := exchange.server.Load(); server != nil {
		s.record.Server = server.String()
	}
	return f, cut
}

// serveReverse reports whether the proxy gave up within the answer, which a
// ReverseProxy tells by a panic.
func serveReverse(proxy *httputil.ReverseProxy, w http.ResponseWriter, r *http.Request) (cut bool) {
	defer func() {
		if reason := recover(); reason != nil {
			if reason != http.ErrAbortHandler {
				panic(reason)
			}
			cut = true
		}
	}()
	proxy.ServeHTTP(w, r)
	return false
}

// plainTarget says where a request for plain HTTP is to go.
func plainTarget(r *http.Request) (Target, error) {
	switch {
	case !r.URL.IsAbs():
		return Target{}, fmt.Errorf("this is a proxy: %s %.100q is no request for one, which names a whole URL; is it set as the proxy, and not as the server?",
			r.Method, r.RequestURI)
	case r.URL.Scheme != "http":
		return Target{}, fmt.Errorf("%.20q URLs are not fetched for clients: they tunnel to the host by CONNECT", r.URL.Scheme)
	case r.URL.User != nil:
		return Target{}, errors.New("a URL in a request holds no user name (RFC 9110, section 4.2.4)")
	}
	address := r.URL.Host
	if r.URL.Port() == "" {
		address = strings.TrimSuffix(address, ":") + ":80"
	}
	target, err := ParseTarget(address)
	if err != nil {
		return Target{}, fmt.Errorf("URL of host %.300q: %w", r.URL.Host, err)
	}
	return target, nil
}

// errUpgradedTLS ends a tunnel that was opened to get TLS past inspection.
var errUpgradedTLS = errors.New("TLS within a connection that was upgraded to WebSocket: tunnels for TLS are opened by CONNECT")

// rewrite makes the outgoing request: the client's, but for the hop-by-hop
// fields (RFC 9110, section 7.6.1), which are gone already, and Via.
func rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	// WebSocket is the one protocol that clients upgrade to in earnest; TLS
	// (RFC 2817) and any other would pass unseen. A server that is not asked
	// goes on in HTTP/1.1 (RFC 9110, section 7.8).
	if !strings.EqualFold(out.Header.Get("Upgrade"), "websocket") {
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
	}
	// What a ReverseProxy leaves out as hostile to the server behind it, a
	// forward proxy has no opinion on.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := in.Header[name]; ok {
			out.Header[name] = values
		}
	}
	out.URL.RawQuery = in.URL.RawQuery
	out.Header.Add("Via", strconv.Itoa(in.ProtoMajor)+"."+strconv.Itoa(in.ProtoMinor)+" moongate")
}

// exchange is one request of plain HTTP and its answer.
type exchange struct {
	session *session
	server  atomic.Pointer[netip.AddrPort]
	broken  atomic.Pointer[error] // why the server's answer broke off
}

// trace finds out which connection was used: a new one, or one that was kept.
func (e *exchange) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			address := addrPort(info.Conn.RemoteAddr())
			e.server.Store(&address)
		},
	})
}

// failure says why an exchange failed.
func (e *exchange) failure(err error) *flow.Failure {
	if cause := e.session.life.why(); cause != nil {
		err = cause
	} else if cause := e.broken.Load(); cause != nil {
		err = fmt.Errorf("reading the server's answer: %w", plainError(*cause))
	} else if errors.Is(err, context.Canceled) {
		err = errors.New("the client closed the connection, or the gateway shut down")
	}
	return flow.FailureOf(err, flow.StageRelay)
}

func (e *exchange) modify(response *http.Response) error {
	response.Header.Add("Via", via)
	body := &countedBody{ReadCloser: response.Body, exchange: e, down: true}
	response.Body = body
	if tunnel, ok := body.ReadCloser.(io.ReadWriteCloser); ok && response.StatusCode == http.StatusSwitchingProtocols {
		e.session.record.Reason = "plain HTTP, upgraded to WebSocket"
		response.Body = &countedTunnel{countedBody: body, tunnel: tunnel}
	}
	return nil
}

// countedBody counts a body as it is read.
type countedBody struct {
	io.ReadCloser
	exchange *exchange
	down     bool
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if !b.down {
		b.exchange.session.up.Add(int64(n))
		return n, err
	}
	b.exchange.session.down.Add(int64(n))
	if err != nil && err != io.EOF {
		b.exchange.broken.CompareAndSwap(nil, &err)
	}
	return n, err
}

// countedTunnel is what an Upgrade turns an answer's body into.
type countedTunnel struct {
	*countedBody
	tunnel io.ReadWriteCloser
	begun  bool // the client has sent something; of the goroutine that writes
}

// Write passes on what the client sends, which no frame of WebSocket begins as
// TLS does (RFC 6455, section 5.2: opcode 6 is reserved).
func (t *countedTunnel) Write(p []byte) (int, error) {
	if !t.begun && len(p) > 0 && p[0] == recordHandshake {
		t.exchange.session.life.end(errUpgradedTLS)
		return 0, errUpgradedTLS
	}
	t.begun = t.begun || len(p) > 0
	n, err := t.tunnel.Write(p)
	t.exchange.session.up.Add(int64(n))
	return n, err
}

// CloseWrite passes on that the client has ended, where the transport can.
func (t *countedTunnel) CloseWrite() error {
	if half, ok := t.tunnel.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return t.tunnel.Close()
}

// copyBuffers lends the relay's buffers to ReverseProxy.
type copyBuffers struct{}

func (copyBuffers) Get() []byte { return chunks.Get().(*[chunkSize]byte)[:] }

func (copyBuffers) Put(b []byte) {
	if len(b) == chunkSize {
		chunks.Put((*[chunkSize]byte)(b))
	}
}
