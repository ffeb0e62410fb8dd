package intercept

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// core is what the flows of a Proxy or a Gate share.
type core struct {
	options  Options
	sessions *sessions
	bounds   *bounds
}

func newCore(o Options) (*core, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Table == nil {
		o.Table = NewTable()
	}
	sessions, err := newSessions()
	if err != nil {
		return nil, err
	}
	bounds, err := newBounds()
	if err != nil {
		return nil, err
	}
	return &core{options: o, sessions: sessions, bounds: bounds}, nil
}

// Kept returns how many TLS sessions with servers are kept, to be resumed, and
// how many can be.
func (c *core) Kept() (n, limit int) { return c.sessions.lru.Len(), sessionCacheSize }

// session is one flow. It belongs to the goroutine that runs it; what others
// touch is in the lifeline and the counters.
type session struct {
	*core
	rt     *Runtime
	limits Limits
	kind   flow.Kind
	start  time.Time
	target Target
	client *net.TCPConn
	server *net.TCPConn // nil until dialled
	early  []byte       // of the client, read with the proxy request

	decision policy.Decision
	record   flow.Record
	meter    flow.Meter
	life     lifeline

	serverUsed bool      // bytes of ours went to the server
	heldUntil  time.Time // how long the flow waits while handshakes are held; zero before it does
	heldOut    bool      // it has waited as long

	up, down   atomic.Int64 // bytes of the relay
	halfClosed atomic.Bool  // one side has ended

	// Of the Table, which others read.
	id        uint64                   // never changes
	seen      atomic.Pointer[Session]  // what was published last
	inspected atomic.Bool              // let through to the handshakes
	raw       atomic.Pointer[rawBytes] // of a relay by splice
}

// newSession begins a flow, whose record its caller must write with finish.
func (c *core) newSession(rt *Runtime, kind flow.Kind, client net.Addr, target string) *session {
	s := &session{core: c, rt: rt, limits: rt.Limits.withDefaults(), kind: kind, start: time.Now()}
	s.meter.ID = flow.NewID()
	s.record = flow.Record{
		ID:         s.meter.ID.String(),
		Start:      s.start,
		Kind:       kind,
		Client:     addrPort(client).String(),
		Target:     target,
		Verdict:    flow.Unverified,
		Revocation: "not-checked",
	}
	c.options.Table.add(s)
	return s
}

// finish writes the flow's one record. f is why it ended before its time; nil
// if it did not.
func (s *session) finish(f *flow.Failure) {
	r := &s.record
	r.Duration = flow.Millis(time.Since(s.start))
	calls, spent := s.meter.Read()
	r.HSMCalls, r.HSMTime = calls, flow.Millis(spent)
	r.BytesUp, r.BytesDown = s.up.Load(), s.down.Load()
	if s.server != nil {
		r.Server = addrPort(s.server.RemoteAddr()).String()
	}
	if f != nil {
		r.FailureStage, r.FailureCause = f.Stage, f.Err.Error()
		switch f.Stage {
		case flow.StageRequest, flow.StageDestination, flow.StagePolicy, flow.StageVerify:
			r.Action = string(policy.Block)
		}
		if r.Reason == "" {
			r.Reason = "refused before a decision"
		}
		s.options.Log.Debug("flow failed", slog.String("id", r.ID), slog.String("target", r.Target),
			slog.String("stage", string(f.Stage)), slog.Any("cause", f.Err))
	}
	silence := s.decision.Silence
	r.Silent = r.Bypass == "" && (f == nil && silence.Success || f != nil && silence.Failure)
	s.options.Table.remove(s)
	s.options.Sink.Write(r)
}

// decide asks the policy, with what is known by now.
func (s *session) decide(sni string) {
	facts := policy.Facts{
		Kind:   s.kind,
		Client: addrPort(s.client.RemoteAddr()).Addr(),
		Host:   s.target.Host,
		Port:   s.target.Port,
		SNI:    sni,
	}
	if s.server != nil {
		facts.Server = addrPort(s.server.RemoteAddr()).Addr()
	}
	s.decision = s.rt.Policy.Decide(facts)
	s.record.Action, s.record.Rule, s.record.Reason = string(s.decision.Action), s.decision.Rule, s.decision.Reason
}

// connect reaches the server. The connection ends with the flow's lifeline.
func (s *session) connect(ctx context.Context, destinations *policy.Destinations) error {
	d := dialer{s.options.Resolver, s.limits.DialTimeout, destinations}
	conn, err := d.dial(ctx, s.target)
	if err != nil {
		return err
	}
	s.server = conn
	s.life.add(conn)
	return nil
}

// run takes the flow from its first byte to its last and closes its
// connections. ctx ends it early.
func (s *session) run(ctx context.Context) *flow.Failure {
	stop := context.AfterFunc(ctx, func() { s.life.end(errShutdown) })
	defer stop()
	defer s.life.end(nil)

	client, f := s.peek()
	if f != nil {
		return f
	}
	f = s.prepare(ctx, client)
	if f == nil && s.decision.Action == policy.NoDecrypt {
		return s.relayRaw(client.bytes)
	}
	if f == nil {
		f = s.ready(ctx)
	}
	if f != nil {
		return s.refuse(ctx, f, client.bytes)
	}
	clientLeg, serverLeg, f := s.handshakes(ctx, client)
	if clientLeg == nil {
		return f
	}
	s.publish()
	return s.relay(clientLeg, serverLeg)
}

// ready waits while handshakes are held, and lets the flow through to its own.
// Where its profile would rather have it undecrypted than without its key, it
// learns here that there is none, before a server is asked in vain.
func (s *session) ready(ctx context.Context) *flow.Failure {
	if f := s.options.Table.pass(ctx, s, true); f != nil {
		return f
	}
	stand := s.rt.stand(s.decision.Rule)
	if stand.Certifier == nil || s.decision.Profile.BlocksHSMUnavailable(s.kind) {
		return nil
	}
	if err := stand.Certifier.Ready(s.target.Host); err != nil {
		return flow.FailureOf(err, flow.StageHSM)
	}
	return nil
}

// refuse ends a flow to whose client nothing was sent yet, or relays it
// undecrypted if its profile has that for the failure.
func (s *session) refuse(ctx context.Context, f *flow.Failure, hello []byte) *flow.Failure {
	if why := s.bypass(f); why != "" && s.life.why() == nil && ctx.Err() == nil {
		return s.relayInstead(ctx, why, f, hello)
	}
	return s.alert(f)
}

// handshakes makes both TLS sessions, in the time allowed for both. Without
// them the flow is over: by the failure, or, where there is none, because it
// was relayed undecrypted instead.
func (s *session) handshakes(ctx context.Context, p *peeked) (client, server *leg, f *flow.Failure) {
	bounded, cancel := context.WithTimeout(flow.WithMeter(ctx, &s.meter), s.limits.TLSTimeout)
	defer cancel()
	server, presented, f := s.answer(bounded, &p.hello)
	if f != nil {
		return nil, nil, s.refuse(ctx, f, p.bytes)
	}
	client, silent, err := s.present(bounded, p.bytes, presented)
	if err == nil {
		return client, server, nil
	}
	f = clientFailure(err, &s.meter, s.record.Authority)
	if silent && s.bypass(f) != "" {
		return nil, nil, s.refuse(ctx, f, p.bytes)
	}
	return nil, nil, s.unlessCut(f)
}

// alert tells a client, to whom nothing was sent yet, that it ends here.
func (s *session) alert(f *flow.Failure) *flow.Failure {
	sendAlert(s.client, f.Alert)
	return s.unlessCut(f)
}

var errShutdown = errors.New("the gateway shuts down")

// unlessCut replaces what failed when the lifeline was cut by why it was cut.
func (s *session) unlessCut(f *flow.Failure) *flow.Failure {
	if cause := s.life.why(); cause != nil {
		return &flow.Failure{Stage: f.Stage, Alert: f.Alert, Err: cause}
	}
	return f
}

// peek reads the ClientHello and all that came with it.
func (s *session) peek() (*peeked, *flow.Failure) {
	s.client.SetReadDeadline(time.Now().Add(s.limits.HelloTimeout))
	p, alert, err := peek(s.client, s.early)
	s.early = nil
	if err != nil {
		f := helloFailure(err, len(p.bytes), s.limits)
		if len(alert) > 0 {
			writeLast(s.client, alert)
		}
		return nil, s.unlessCut(f)
	}
	s.client.SetReadDeadline(time.Time{})
	s.record.SNI = p.hello.ServerName
	return p, nil
}

// prepare decides, having reached the server: the address is part of the
// facts, and either way the flow needs the connection.
func (s *session) prepare(ctx context.Context, p *peeked) *flow.Failure {
	hello := &p.hello
	if err := checkServerName(hello.ServerName); err != nil {
		return &flow.Failure{Stage: flow.StageHello, Alert: alertUnrecognizedName, Err: err}
	}
	if s.server == nil {
		if err := s.connect(ctx, nil); err != nil {
			s.decide(hello.ServerName)
			return flow.FailureOf(err, flow.StageConnect)
		}
	}
	s.decide(hello.ServerName)
	s.publish()
	if s.options.Decided != nil {
		s.options.Decided(s.kind, &s.decision)
	}
	switch s.decision.Action {
	case policy.Block:
		return &flow.Failure{Stage: flow.StagePolicy, Alert: flow.AlertAccessDenied, Err: errors.New(s.decision.Reason)}
	case policy.Decrypt:
		if f := checkVersions(hello, s.decision.Profile); f != nil {
			return f
		}
		if p.earlyData {
			return &flow.Failure{Stage: flow.StageHello, Alert: alertUnsupportedExtension, Err: errEarlyData}
		}
	}
	return nil
}

// answer makes what the client is to be answered with: the server's leg, its
// verdict, and the certificate to present.
func (s *session) answer(ctx context.Context, hello *flow.Hello) (*leg, *flow.Presented, *flow.Failure) {
	profile, stand := s.decision.Profile, s.rt.stand(s.decision.Rule)
	if stand.Certifier == nil || stand.Verifier == nil {
		return nil, nil, &flow.Failure{Stage: flow.StageCertify, Alert: flow.AlertInternalError,
			Err: errors.New("nothing is configured to present in this server's stead")}
	}
	asked := hello.ServerName
	if s.rt.ServerName != "" {
		asked = s.rt.ServerName
	}
	s.serverUsed = true
	server, err := handshakeServer(ctx, s.server, asked, hello.ALPN, profile, s.sessions)
	if err != nil {
		return nil, nil, flow.FailureOf(err, flow.StageServerTLS)
	}
	state := server.tls.ConnectionState()
	var leaf *x509.Certificate
	if len(state.PeerCertificates) > 0 {
		leaf = state.PeerCertificates[0]
	}
	s.record.ServerLeg = flow.DescribeLeg(state, leaf)

	// Without a name in the hello, the server answers for what was dialled.
	verdict := stand.Verifier.Verify(cmp.Or(asked, s.target.Host), state.PeerCertificates)
	s.record.Verdict, s.record.VerdictDetail, s.record.Revocation = verdict.Status, verdict.Detail, verdict.Revocation
	outcome := profile.Judge(s.kind, verdict)
	if outcome.Trust == policy.Blocked {
		return nil, nil, verifyFailure(verdict, outcome.Reason)
	}

	presented, err := stand.Certifier.Certify(ctx, &flow.CertifyRequest{
		Hello:    narrowed(hello, profile),
		Name:     cmp.Or(hello.ServerName, s.target.Host),
		Protocol: state.NegotiatedProtocol,
		Upstream: state.PeerCertificates,
		Trust:    outcome.Trust == policy.Trusted,
	})
	if err != nil {
		return nil, nil, flow.FailureOf(err, flow.StageCertify)
	}
	s.record.Authority, s.record.Cached = presented.Authority, presented.Cached
	return server, presented, nil
}

// present finishes the handshake with the client. With an error, it reports
// whether the client has heard nothing of it, so that there is another way; an
// alert is only held back where the profile knows one.
func (s *session) present(ctx context.Context, seen []byte, presented *flow.Presented) (client *leg, silent bool, err error) {
	var mute func() bool
	if !s.decision.Profile.BlocksHSMUnavailable(s.kind) {
		mute = func() bool { f := s.meter.Failure(); return f != nil && s.bypass(f) != "" }
	}
	client, silent, err = handshakeClient(ctx, s.client, seen, s.bounds.apply(presented.Config, s.decision.Profile), mute)
	leaf := presented.Leaf
	if authority, chosen := s.meter.Presented(); chosen != nil {
		s.record.Authority, leaf = authority, chosen
	}
	if err != nil {
		return nil, silent, err
	}
	s.record.ClientLeg = flow.DescribeLeg(client.tls.ConnectionState(), leaf)
	return client, false, nil
}
