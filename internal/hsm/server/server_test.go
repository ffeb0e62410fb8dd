package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

func TestSigns(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	p.send(wire.OpSign, sign(7))
	var signature wire.DataAnswer
	if err := signature.Decode(p.want(object.OK)); err != nil {
		t.Fatal(err)
	}
	if !ecdsa.VerifyASN1(&d.key.PublicKey, sign(7).Data, signature.Data) {
		t.Error("the signature does not verify")
	}
}

func TestRefusalIsTheAnswerToHello(t *testing.T) {
	t.Parallel()
	hello := &wire.HelloRequest{Min: 1, Max: 1}
	for _, test := range []struct {
		name   string
		attach error
		op     wire.Op
		send   answer
		want   object.Code
		detail string
	}{
		{"not registered", object.Errorf(object.ErrNotRegistered, "certificate 1234"), wire.OpHello, hello, object.ErrNotRegistered, "certificate 1234"},
		{"other address", object.Errorf(object.ErrAddress, "registered for 192.0.2.1"), wire.OpHello, hello, object.ErrAddress, "registered for 192.0.2.1"},
		{"backend broken", errPrivate, wire.OpHello, hello, object.ErrGeneral, "HSM's log"},
		{"too old", nil, wire.OpHello, &wire.HelloRequest{Min: 0, Max: 0}, object.ErrVersion, "0 to 0"},
		{"too new", nil, wire.OpHello, &wire.HelloRequest{Min: 2, Max: 9}, object.ErrVersion, "2 to 9"},
		{"no Hello", nil, wire.OpPing, done, object.ErrProtocol, "Ping before Hello"},
		{"malformed", nil, wire.OpHello, done, object.ErrProtocol, "ends early"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDevice(t)
			d.attach = func(Peer) error { return test.attach }
			p := start(t, Options{Backend: d}).dial(t, newCertificate(t, "c"))
			p.send(test.op, test.send)
			if detail := p.want(test.want); !strings.Contains(string(detail), test.detail) || strings.Contains(string(detail), "fire") {
				t.Errorf("detail %q, want %q in it", detail, test.detail)
			}
			p.wantEnd()
		})
	}
}

func TestPeerIsWhoConnects(t *testing.T) {
	t.Parallel()
	d, certificate := newDevice(t), newCertificate(t, "c")
	seen := make(chan Peer, 1)
	d.attach = func(p Peer) error { seen <- p; return nil }
	p := start(t, Options{Backend: d}).connect(t, certificate)
	got := <-seen
	if got.Fingerprint != fingerprintOf(certificate) || !bytes.Equal(got.Certificate, certificate.Certificate[0]) {
		t.Error("the backend was given another certificate")
	}
	if got.Remote.String() != p.conn.LocalAddr().String() {
		t.Errorf("remote is %v, want %v", got.Remote, p.conn.LocalAddr())
	}
}

func TestTLSIsStrict(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Backend: newDevice(t)})
	certificate := newCertificate(t, "c")
	good := func() *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, NextProtos: []string{wire.ALPN}}
	}
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"as it should be", func(*tls.Config) {}, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }, false},
		{"no ALPN", func(c *tls.Config) { c.NextProtos = nil }, false},
		{"other ALPN", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			config := good()
			test.change(config)
			// A certificate that is missing shows with the first read.
			conn, err := tls.Dial("tcp", r.address, config)
			if err == nil {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(patience))
				p := &peer{t: t, conn: conn}
				p.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1})
				_, err = io.ReadFull(conn, make([]byte, 16))
				if state := conn.ConnectionState(); test.ok && (state.CurveID != tls.X25519MLKEM768 || state.DidResume) {
					t.Errorf("key exchange %v, resumed %v", state.CurveID, state.DidResume)
				}
			}
			if (err == nil) != test.ok {
				t.Errorf("Hello over it: %v", err)
			}
		})
	}
}

func TestAnswersComeAsTheyAreReady(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	release := make(chan struct{})
	d.sign = func(ctx context.Context, digest []byte) error {
		if digest[0] == 1 {
			<-release
		}
		return nil
	}
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	first := p.send(wire.OpSign, sign(1))
	p.send(wire.OpSign, sign(2))
	p.want(object.OK)
	close(release)
	if head, _ := p.receive(); head.ID != first {
		t.Errorf("answer %d, want %d", head.ID, first)
	}
}

func TestDeadlineReachesTheBackend(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.sign = func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	p.sendWithin(wire.OpSign, 20, sign(1))
	p.want(object.ErrDeadline)
}

func TestHangUpCancels(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	d.sign = func(ctx context.Context, _ []byte) error {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	p.send(wire.OpSign, sign(1))
	wait(t, began, "the signature's beginning")
	p.conn.Close()
	if err := wait(t, ended, "the signature's end"); !errors.Is(err, context.Canceled) {
		t.Errorf("the context ended with %v", err)
	}
	for _, want := range []string{"session", "client"} {
		if got := wait(t, d.changed, "closes"); got != want {
			t.Errorf("a %s was closed, want a %s", got, want)
		}
	}
}

func TestReadingStopsWhenFull(t *testing.T) {
	t.Parallel()
	const limit, requests = 4, 40
	d := newDevice(t)
	var inside, most atomic.Int64
	release := make(chan struct{})
	entered := make(chan struct{}, requests)
	d.sign = func(context.Context, []byte) error {
		if n := inside.Add(1); n > most.Load() {
			most.Store(n)
		}
		entered <- struct{}{}
		<-release
		inside.Add(-1)
		return nil
	}
	p := start(t, Options{Backend: d, MaxInFlight: limit, Workers: 64}).connect(t, newCertificate(t, "c"))
	for range requests {
		p.send(wire.OpSign, sign(1))
	}
	p.send(wire.OpPing, done)
	for range limit {
		wait(t, entered, "the first requests")
	}
	// Had the server read on, it would have come to the Ping.
	answers := make(chan wire.Answer, requests+1)
	go func() {
		for range requests + 1 {
			head, _ := p.receive()
			answers <- head
		}
	}()
	select {
	case head := <-answers:
		t.Errorf("answer %d while every request is held", head.ID)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	for range requests + 1 {
		if head := wait(t, answers, "answers"); head.Code != object.OK {
			t.Fatalf("answer %d: %v", head.ID, head.Code)
		}
	}
	if most.Load() > limit {
		t.Errorf("%d requests ran at once, at most %d may", most.Load(), limit)
	}
}

func TestBufferedBytesAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t, Options{Backend: newDevice(t), MaxBuffered: 100 << 10}).connect(t, newCertificate(t, "c"))
	go func() {
		for range 20 {
			p.send(wire.OpEncrypt, &wire.UseRequest{Session: 1, Data: make([]byte, wire.MaxPlaintext)})
		}
	}()
	for range 20 {
		if head, body := p.receive(); head.Code != object.OK || len(body) < wire.MaxPlaintext {
			t.Fatalf("%v, %d bytes", head.Code, len(body))
		}
	}
}

func TestClientThatDoesNotReadIsCut(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	r := start(t, Options{Backend: d, WriteTimeout: 200 * time.Millisecond})
	stalled, other := r.connect(t, newCertificate(t, "stalled")), r.connect(t, newCertificate(t, "other"))
	go func() {
		// Ends when the server cuts the connection.
		random := (&wire.RandomRequest{Session: 1, N: wire.MaxRandom}).Append(wire.BeginRequest(nil, wire.Request{ID: 9, Op: wire.OpRandom}))
		wire.End(random, 0)
		for {
			if _, err := stalled.conn.Write(random); err != nil {
				return
			}
		}
	}()
	for gone := false; !gone; {
		other.send(wire.OpSign, sign(1))
		other.want(object.OK)
		select {
		case what := <-d.changed:
			gone = what == "client"
		default:
		}
	}
	other.send(wire.OpSign, sign(1))
	other.want(object.OK)
}

func TestGarbageEndsItsConnectionAlone(t *testing.T) {
	t.Parallel()
	raw := func(b ...byte) func(*peer) {
		return func(p *peer) {
			if _, err := p.conn.Write(b); err != nil {
				t.Error(err)
			}
		}
	}
	r := start(t, Options{Backend: newDevice(t), FrameTimeout: 100 * time.Millisecond})
	other := r.connect(t, newCertificate(t, "other"))
	t.Run("kinds", func(t *testing.T) {
		for _, test := range []struct {
			name   string
			do     func(*peer)
			answer bool // ErrProtocol comes first
		}{
			{"too long a frame", raw(0xff, 0xff, 0xff, 0xff), false},
			{"too short a frame", raw(0, 0, 0, 1, 0), false},
			{"half a frame", raw(0, 0, 0, 100, 1, 2, 3), false},
			{"half a length", raw(0, 0), false},
			{"bytes after the body", func(p *peer) { p.send(wire.OpPing, sign(1)) }, true},
			{"a body that ends early", func(p *peer) { p.send(wire.OpSign, done) }, true},
			{"a second Hello", func(p *peer) { p.send(wire.OpHello, &wire.HelloRequest{}) }, true},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				p := r.connect(t, newCertificate(t, "c"))
				test.do(p)
				if test.answer {
					p.want(object.ErrProtocol)
				}
				p.wantEnd()
			})
		}
	})
	other.send(wire.OpSign, sign(1))
	other.want(object.OK)
}

func TestRefusalKeepsTheConnection(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	p := start(t, Options{Backend: newDevice(t), Logger: slog.New(slog.NewTextHandler(&log, nil))}).connect(t, newCertificate(t, "c"))
	for _, test := range []struct {
		name string
		op   wire.Op
		m    answer
		want object.Code
	}{
		{"reserved", wire.OpBegin, done, object.ErrNotSupported},
		{"reserved for replication", wire.OpReplicationFirst, done, object.ErrNotSupported},
		{"unknown", 0xffff, done, object.ErrNotSupported},
		{"no such session", wire.OpSign, &wire.UseRequest{Session: 2}, object.ErrSessionHandle},
		{"not assigned", wire.OpOpenSession, &wire.OpenSessionRequest{Partition: "p2"}, object.ErrNotAssigned},
		{"wrong password", wire.OpLogin, &wire.PasswordRequest{Session: 1, Password: []byte("wrong")}, object.ErrPINIncorrect},
		{"unknown attribute", wire.OpStore, &wire.StoreRequest{Session: 1, Template: object.Template{{Type: 0x7777}}}, object.ErrAttributeType},
		{"refused", wire.OpWrap, &wire.WrapRequest{Session: 1}, object.ErrKeyUnextractable},
		{"answer too long", wire.OpGet, &wire.GetRequest{Session: 1}, object.ErrDataLength},
		{"broken", wire.OpGenerate, &wire.GenerateRequest{Session: 1}, object.ErrGeneral},
	} {
		p.send(test.op, test.m)
		if detail := p.want(test.want); strings.Contains(string(detail), "fire") {
			t.Errorf("%s: the client sees %q", test.name, detail)
		}
	}
	p.send(wire.OpPing, done)
	p.want(object.OK)
	if text := log.String(); !strings.Contains(text, "disk on fire") || !strings.Contains(text, "operation=ab0000") {
		t.Errorf("the log does not say what broke in which operation:\n%s", text)
	}
}

func TestSessionsBelongToTheirConnection(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	r, certificate := start(t, Options{Backend: d, MaxSessions: 2}), newCertificate(t, "c")
	a, b := r.connect(t, certificate), r.connect(t, certificate)
	a.send(wire.OpOpenSession, &wire.OpenSessionRequest{Partition: "p1"}) // session 2 of a
	a.want(object.OK)
	b.send(wire.OpSign, &wire.UseRequest{Session: 2})
	b.want(object.ErrSessionHandle)
	a.send(wire.OpOpenSession, &wire.OpenSessionRequest{})
	a.want(object.ErrBusy)
	if got := wait(t, d.changed, "the close of the session without room"); got != "session" {
		t.Errorf("a %s was closed", got)
	}
	a.send(wire.OpCloseSession, &wire.SessionRequest{Session: 1})
	a.want(object.OK)
	a.send(wire.OpSign, sign(1))
	a.want(object.ErrSessionHandle)
	a.send(wire.OpOpenSession, &wire.OpenSessionRequest{})
	var again wire.OpenSessionAnswer
	if err := again.Decode(a.want(object.OK)); err != nil || again.Session == 1 {
		t.Errorf("session %d: a number was used again (%v)", again.Session, err)
	}
}

// A session that is closed while a request uses it is closed after it.
func TestCloseSessionWaitsForItsRequests(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	began, release := make(chan struct{}), make(chan struct{})
	d.sign = func(context.Context, []byte) error { close(began); <-release; return nil }
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	signing := p.send(wire.OpSign, sign(1))
	wait(t, began, "the signature")
	p.send(wire.OpCloseSession, &wire.SessionRequest{Session: 1})
	p.want(object.OK)
	select {
	case <-d.changed:
		t.Error("the session was closed while it signed")
	default:
	}
	close(release)
	if head, _ := p.receive(); head.ID != signing || head.Code != object.OK {
		t.Errorf("answer %+v", head)
	}
	wait(t, d.changed, "the session's close")
}

func TestPasswordIsWiped(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	p.send(wire.OpLogin, &wire.PasswordRequest{Session: 1, Role: object.RoleCryptoUser, Password: []byte("right")})
	p.want(object.OK)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.logins) != 1 || !bytes.Equal(d.logins[0], make([]byte, 5)) {
		t.Errorf("after Login the password is %q", d.logins)
	}
}

func TestFindFitsAFrame(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	for i := range 100 {
		d.found = append(d.found, object.Found{ID: object.NewID(), Attributes: object.New(
			object.Bytes(object.AttrValue, make([]byte, 60<<10)), object.Number(object.AttrHandle, uint64(i)))})
	}
	p := start(t, Options{Backend: d}).connect(t, newCertificate(t, "c"))
	p.send(wire.OpFind, &wire.FindRequest{Session: 1, Limit: 100})
	var found wire.FindAnswer
	if err := found.Decode(p.want(object.OK)); err != nil || len(found.Objects) != 17 || !found.More {
		t.Errorf("%d objects, more %v, %v; want 17, true", len(found.Objects), found.More, err)
	}
}

func TestDisconnectEndsOneClient(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	var refused atomic.Bool
	gone := newCertificate(t, "gone")
	d.attach = func(p Peer) error {
		if refused.Load() && p.Fingerprint == fingerprintOf(gone) {
			return object.Errorf(object.ErrNotRegistered, "")
		}
		return nil
	}
	began := make(chan struct{})
	d.sign = func(ctx context.Context, digest []byte) error {
		if digest[0] == 1 {
			close(began)
			<-ctx.Done()
		}
		return ctx.Err()
	}
	r := start(t, Options{Backend: d})
	a, b, other := r.connect(t, gone), r.connect(t, gone), r.connect(t, newCertificate(t, "other"))
	a.send(wire.OpSign, sign(1))
	wait(t, began, "a request in flight")
	refused.Store(true)
	if n := r.Disconnect(fingerprintOf(gone)); n != 2 {
		t.Errorf("Disconnect cut %d connections, want 2", n)
	}
	a.wantEnd()
	b.wantEnd()
	other.send(wire.OpSign, sign(2))
	other.want(object.OK)
	again := r.dial(t, gone)
	again.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1})
	again.want(object.ErrNotRegistered)
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	r := start(t, Options{Backend: d, MaxConnections: 3, MaxConnectionsPerClient: 2})
	a, b := newCertificate(t, "a"), newCertificate(t, "b")
	first := r.connect(t, a)
	r.connect(t, a)
	refused := func(c tls.Certificate, detail string) {
		t.Helper()
		p := r.dial(t, c)
		p.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1})
		if got := p.want(object.ErrBusy); !strings.Contains(string(got), detail) {
			t.Errorf("refused with %q, want %q in it", got, detail)
		}
	}
	refused(a, "this client has 2 connections")
	r.connect(t, b)
	refused(b, "the HSM has 3 connections")
	// A place that is given back is a place.
	first.conn.Close()
	for what := ""; what != "client"; {
		what = wait(t, d.changed, "the end of a connection")
	}
	for deadline := time.Now().Add(patience); ; {
		p := r.dial(t, b)
		p.send(wire.OpHello, &wire.HelloRequest{Min: 1, Max: 1})
		if head, _ := p.receive(); head.Code == object.OK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place was not given back")
		}
	}
}

func TestEndAnswersWhatIsInFlight(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	began, release := make(chan struct{}), make(chan struct{})
	d.sign = func(context.Context, []byte) error { close(began); <-release; return nil }
	r := start(t, Options{Backend: d, Grace: patience})
	p := r.connect(t, newCertificate(t, "c"))
	p.send(wire.OpSign, sign(1))
	wait(t, began, "the signature")
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	// The listener is gone before the request ends.
	for {
		c, err := net.Dial("tcp", r.address)
		if err != nil {
			break
		}
		c.Close()
	}
	close(release)
	p.want(object.OK)
	p.wantEnd()
	if err := wait(t, stopped, "Serve"); err != nil {
		t.Error(err)
	}
}

func TestEndCutsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	began := make(chan struct{})
	d.sign = func(ctx context.Context, _ []byte) error { close(began); <-ctx.Done(); return ctx.Err() }
	r := start(t, Options{Backend: d, Grace: 50 * time.Millisecond})
	p := r.connect(t, newCertificate(t, "c"))
	p.send(wire.OpSign, sign(1))
	wait(t, began, "the signature")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	p.wantEnd()
}

func TestIdleClientIsLetGo(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Backend: newDevice(t), IdleTimeout: 50 * time.Millisecond})
	r.connect(t, newCertificate(t, "c")).wantEnd()
}

func TestNewRefusesImpossibleWiring(t *testing.T) {
	t.Parallel()
	d, certificate := newDevice(t), newCertificate(t, "hsm")
	for name, o := range map[string]Options{
		"no backend":      {Certificate: certificate},
		"no certificate":  {Backend: d},
		"long serial":     {Backend: d, Certificate: certificate, Serial: strings.Repeat("1", wire.MaxSerial+1)},
		"long software":   {Backend: d, Certificate: certificate, Software: strings.Repeat("x", wire.MaxSoftware+1)},
		"certificate key": {Backend: d, Certificate: tls.Certificate{Certificate: certificate.Certificate}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}

// lockedBuffer is a log for many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
