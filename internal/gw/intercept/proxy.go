package intercept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// Proxy is the forward listener: an HTTP/1.1 proxy (RFC 9110, section 3.7) that
// inspects the TLS in its tunnels and passes plain HTTP on.
type Proxy struct {
	*core
	counter counter
	flows   group // handlers; net/http forgets those with a tunnel
	plain   atomic.Pointer[plainClient]
	retired retirement
}

// NewProxy checks the wiring. The Proxy does nothing until Serve.
func NewProxy(o Options) (*Proxy, error) {
	c, err := newCore(o)
	if err != nil {
		return nil, err
	}
	switch rt := o.Runtime.Load(); {
	case rt.Destinations == nil:
		return nil, errors.New("intercept: a proxy needs to know where it must not go")
	case rt.Certifier == nil || rt.Verifier == nil:
		return nil, errors.New("intercept: a proxy needs a certifier and a verifier")
	}
	return &Proxy{core: c, retired: newRetirement()}, nil
}

// Retire ends Serve early: the listener is closed, and the flows under way end
// in their own time, until Serve's context is done.
func (p *Proxy) Retire() { p.retired.retire() }

// Stats returns how many clients there are.
func (p *Proxy) Stats() Stats { return p.counter.stats() }

// clientKey is the context key of a request's connection.
type clientKey struct{}

// Serve takes connections until ctx is done; then it closes the listener, lets
// the flows under way end in the time of Limits.Drain, and ends the others. It
// returns nil then, with every goroutine and connection gone; an error if it
// ends for another reason. It is called once.
func (p *Proxy) Serve(ctx context.Context, listener net.Listener) error {
	// The flows' context outlives ctx by the drain.
	flows, endFlows := context.WithCancel(context.WithoutCancel(ctx))
	defer endFlows()
	limits := p.options.Runtime.Load().Limits.withDefaults()
	server := &http.Server{
		Handler:           http.HandlerFunc(p.serveHTTP),
		ReadHeaderTimeout: limits.RequestTimeout,
		IdleTimeout:       limits.HalfClosed,
		MaxHeaderBytes:    limits.RequestHeader,
		ErrorLog:          slog.NewLogLogger(p.options.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return flows },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, clientKey{}, c)
		},
		Protocols:                    protocols(),
		DisableGeneralOptionsHandler: true, // OPTIONS is for the servers to answer
	}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(&countingListener{
			Listener: listener,
			counter:  &p.counter,
			limit:    func() int { return p.options.Runtime.Load().Limits.withDefaults().Connections },
		})
	}()

	var failure error
	select {
	case err := <-served:
		if !p.retired.over() || !isClosed(err) {
			failure = fmt.Errorf("accepting proxy clients: %w", err)
		}
		served <- err
	case <-p.retired.done:
	case <-ctx.Done():
	}
	drain, cancel := drainAfter(ctx, limits.Drain, failure)
	defer cancel()
	p.drain(drain, server, endFlows)
	<-served
	return failure
}

// drain waits for requests and tunnels to end, and ends what is left when the
// context does.
func (p *Proxy) drain(ctx context.Context, server *http.Server, endFlows func()) {
	stop := context.AfterFunc(ctx, endFlows)
	defer stop()
	if err := server.Shutdown(ctx); err != nil {
		server.Close()
	}
	p.flows.wait()
	if plain := p.plain.Load(); plain != nil {
		plain.transport.CloseIdleConnections()
	}
}

func protocols() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

// serveHTTP takes one request to the proxy.
func (p *Proxy) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.flows.begin() {
		panic(http.ErrAbortHandler) // came in while the server was closing
	}
	defer p.flows.end()
	client, ok := r.Context().Value(clientKey{}).(*clientConn)
	if !ok {
		panic("intercept: a request without the connection that ConnContext gave it")
	}
	s := p.newSession(p.options.Runtime.Load(), flow.Forward, client.RemoteAddr(), asked(r))
	s.client = client.TCPConn
	if p.serveFlow(w, r, s, client) {
		panic(http.ErrAbortHandler) // net/http's way to break a connection off
	}
}

// asked is what a record says of the target until the request was understood:
// of a URL the host alone, since user, path and query are its client's
// business, and never more than a target can have, since a record must not
// be as long as a client likes.
func asked(r *http.Request) string {
	target := r.URL.Host
	if r.Method == http.MethodConnect {
		target = r.RequestURI
	}
	return target[:min(len(target), maxName+len(".:65535"))]
}

// serveFlow takes a request to its record. It reports whether the answer broke
// off.
func (p *Proxy) serveFlow(w http.ResponseWriter, r *http.Request, s *session, client *clientConn) (cut bool) {
	f := broken() // until there is another end
	defer func() { s.finish(f) }()
	switch {
	case client.over:
		w.Header().Set("Connection", "close")
		f = requestFailure(errTooMany)
		refuse(w, f)
	case r.Method == http.MethodConnect:
		f = p.connect(w, r, s, client)
	default:
		f, cut = p.forward(w, r, s)
	}
	return cut
}

func requestFailure(err error) *flow.Failure {
	return &flow.Failure{Stage: flow.StageRequest, Alert: flow.AlertInternalError, Err: err}
}

// connect takes a CONNECT request from its target to the end of its tunnel.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request, s *session, client *clientConn) *flow.Failure {
	defer s.life.end(nil)
	if f := p.open(r, s); f != nil {
		refuse(w, f)
		return f
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return requestFailure(fmt.Errorf("taking over the connection: %w", err))
	}
	s.life.add(conn)
	if n := buffered.Reader.Buffered(); n > 0 {
		// A client that did not wait for our answer.
		s.early = make([]byte, n)
		if _, err := buffered.Reader.Read(s.early); err != nil {
			return requestFailure(fmt.Errorf("reading what came with the request: %w", err))
		}
	}
	client.SetDeadline(time.Now().Add(s.limits.HelloTimeout))
	if _, err := client.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		return requestFailure(fmt.Errorf("answering the request: %w", plainError(err)))
	}
	client.SetDeadline(time.Time{})
	// The request's context ends with this handler; the client's connection
	// is watched by the flow itself from here on.
	return s.run(r.Context())
}

// open checks a CONNECT request and reaches its target, before the client is
// told that it has a tunnel.
func (p *Proxy) open(r *http.Request, s *session) *flow.Failure {
	target, err := ParseTarget(r.RequestURI)
	if err != nil {
		return requestFailure(fmt.Errorf("CONNECT %.300q: %w", r.RequestURI, err))
	}
	s.target, s.record.Target = target, target.String()
	s.publish()
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Content-Length") != "" {
		// RFC 9110, section 9.3.6: content has no meaning here, and where it
		// ends and the tunnel begins must not be a matter of opinion.
		return requestFailure(errors.New("a CONNECT request has no content"))
	}
	s.decide("")
	if err := s.connect(r.Context(), s.rt.Destinations); err != nil {
		return flow.FailureOf(err, flow.StageConnect)
	}
	s.decide("")
	s.publish()
	if s.decision.Action == policy.Decrypt {
		return p.keyAtHand(r.Context(), s)
	}
	return nil
}

// keyAtHand says why the flow's key cannot be had, while that can still be told
// in HTTP: nil when it can, or when the profile has another way.
func (p *Proxy) keyAtHand(ctx context.Context, s *session) *flow.Failure {
	f := s.options.Table.pass(ctx, s, false)
	if f == nil {
		if err := s.rt.stand(s.decision.Rule).Certifier.Ready(s.target.Host); err != nil {
			f = flow.FailureOf(err, flow.StageHSM)
		}
	}
	if f != nil && s.bypass(f) == "" {
		return f
	}
	return nil
}
