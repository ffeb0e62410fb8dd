package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Connecting, as a list of named steps: name, tcp, tls, registered (Hello),
// assigned (OpenSession), login. Each returns an *Error of its stage.

// connect takes the steps as far as TLS and Hello, all within ctx; again with
// our former certificate where the HSM does not know the one that we have.
func connect(ctx context.Context, config *Config, passed func(Stage, string)) (*link, error) {
	l, err := connectAs(ctx, config, config.Certificate, passed)
	if object.CodeOf(err) != ErrNotRegistered || len(config.FormerCertificate.Certificate) == 0 {
		return l, err
	}
	l, formerErr := connectAs(ctx, config, config.FormerCertificate, func(stage Stage, text string) {
		if stage == StageRegistered {
			passed(stage, text+"; by our former certificate, since the HSM does not know the new one yet")
		}
	})
	if formerErr != nil {
		return nil, err // what is to be done is to register the new one
	}
	return l, nil
}

func connectAs(ctx context.Context, config *Config, us tls.Certificate, passed func(Stage, string)) (*link, error) {
	raw, err := reach(ctx, config, passed)
	if err != nil {
		return nil, err
	}

	// From here on the connection's deadline and, on cancellation, its end
	// bound what follows.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	l, err := handshake(ctx, config, us, raw, passed)
	if !stop() && err == nil {
		l.close(ctx.Err())
		return nil, stageError(StageRegistered, ctx.Err())
	}
	if err != nil {
		raw.Close()
		if ctx.Err() != nil {
			return nil, withCause(err, ctx.Err())
		}
		return nil, err
	}
	return l, nil
}

// reach takes the steps as far as a connection: by name and TCP, or on this
// machine by a unix socket. What is spoken on it is the same.
func reach(ctx context.Context, config *Config, passed func(Stage, string)) (net.Conn, error) {
	if path, local := socketPath(config.Address); local {
		passed(StageName, path)
		raw, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, &Error{Stage: StageTCP, Err: err, Fix: "check that the program runs that serves this socket (moongate-p11), and that it runs as this user"}
		}
		passed(StageTCP, "the socket "+path)
		return raw, nil
	}
	addresses, port, err := resolve(ctx, config)
	if err != nil {
		return nil, stageError(StageName, err)
	}
	passed(StageName, fmt.Sprint(addresses))

	raw, err := dialTCP(ctx, config, addresses, port)
	if err != nil {
		return nil, stageError(StageTCP, err)
	}
	passed(StageTCP, fmt.Sprintf("%v to %v", raw.LocalAddr(), raw.RemoteAddr()))
	return raw, nil
}

// withCause names the context's end as the reason, keeping the stage.
func withCause(err, cause error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Stage: e.Stage, Err: fmt.Errorf("%w: %w", cause, e.Err), Fix: e.Fix}
	}
	return fmt.Errorf("%w: %w", cause, err)
}

func resolve(ctx context.Context, config *Config) ([]netip.Addr, string, error) {
	host, port, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, "", err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, port, nil
	}
	list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	return list, port, err
}

// dialTCP tries the addresses in turn, those that the local address can reach.
func dialTCP(ctx context.Context, config *Config, addresses []netip.Addr, port string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if config.LocalAddress.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(config.LocalAddress, 0))
	}
	var failures []error
	for _, ip := range addresses {
		ip = ip.Unmap()
		if config.LocalAddress.IsValid() && ip.Is4() != config.LocalAddress.Unmap().Is4() {
			failures = append(failures, fmt.Errorf("%v cannot be reached from %v", ip, config.LocalAddress))
			continue
		}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// tlsConfig is that of docs/wire.md: TLS 1.3 alone, no resumption, the server
// pinned.
func tlsConfig(config *Config, us tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{wire.ALPN},
		Certificates:           []tls.Certificate{us},
		SessionTicketsDisabled: true,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		// Records as long as they come: many requests share one.
		DynamicRecordSizingDisabled: true,
		// The chain and the name say nothing here: the certificate itself is
		// compared, on every connection.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return checkPin(config.ServerCertificates, state.PeerCertificates)
		},
	}
}

func checkPin(pinned, shown []*x509.Certificate) error {
	if len(shown) == 0 {
		return errors.New("the server shows no certificate")
	}
	var ders [][]byte
	for _, pin := range pinned {
		if bytes.Equal(pin.Raw, shown[0].Raw) {
			return nil
		}
		ders = append(ders, pin.Raw)
	}
	return &PinError{Pinned: fingerprints(ders), Seen: Fingerprint(shown[0].Raw)}
}

func handshake(ctx context.Context, config *Config, us tls.Certificate, raw net.Conn, passed func(Stage, string)) (*link, error) {
	conn := tls.Client(raw, tlsConfig(config, us))
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the server ended the connection; it may be over its limit of connections")
		}
		return nil, stageError(StageTLS, err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != wire.ALPN {
		return nil, stageError(StageTLS, fmt.Errorf("the server does not speak %s", wire.ALPN))
	}
	passed(StageTLS, "the pinned certificate, SHA-256 "+Fingerprint(state.PeerCertificates[0].Raw))

	frames := wire.NewReader(conn, wire.MaxFrame)
	hello, err := sayHello(conn, frames, config.Software)
	if err != nil {
		return nil, stageError(StageRegistered, err)
	}
	passed(StageRegistered, fmt.Sprintf("HSM %s, %s, protocol %d", hello.Serial, hello.Software, hello.Version))
	return newLink(conn, frames, hello), nil
}

// sayHello is the first exchange: versions, and whether the HSM knows us.
func sayHello(conn net.Conn, frames *wire.Reader, software string) (wire.HelloAnswer, error) {
	out := wire.BeginRequest(nil, wire.Request{ID: 1, Op: wire.OpHello})
	out = (&wire.HelloRequest{Min: wire.Version, Max: wire.Version, Software: software}).Append(out)
	wire.End(out, 0)
	if _, err := conn.Write(out); err != nil {
		return wire.HelloAnswer{}, fmt.Errorf("sending Hello: %w", err)
	}
	frame, err := frames.Next()
	if err != nil {
		return wire.HelloAnswer{}, fmt.Errorf("reading the answer to Hello: %w", err)
	}
	head, body, err := wire.ParseAnswer(frame)
	if err != nil {
		return wire.HelloAnswer{}, err
	}
	if head.ID != 1 {
		return wire.HelloAnswer{}, fmt.Errorf("an answer to request %d, which is not in flight", head.ID)
	}
	if head.Code != object.OK {
		return wire.HelloAnswer{}, refusal(head.Code, body)
	}
	var hello wire.HelloAnswer
	if err := hello.Decode(body); err != nil {
		return wire.HelloAnswer{}, err
	}
	if hello.Version != wire.Version {
		return wire.HelloAnswer{}, object.Errorf(ErrVersion, "the HSM speaks protocol version %d, we speak %d", hello.Version, wire.Version)
	}
	return hello, nil
}

// openSession opens a session on the configured partition.
func openSession(p patience, l *link, config *Config) (*session, error) {
	body, err := l.roundTrip(p, wire.OpOpenSession, newOperation(), func(b []byte, _ uint32) []byte {
		return (&wire.OpenSessionRequest{Partition: config.Partition}).Append(b)
	})
	if err != nil {
		return nil, stageError(StageAssigned, err)
	}
	var opened wire.OpenSessionAnswer
	if err := opened.Decode(body); err != nil {
		return nil, stageError(StageAssigned, err)
	}
	return &session{id: opened.Session, info: opened.Partition}, nil
}

// login logs a session in. The password's wiping is the caller's.
func login(p patience, l *link, s *session, role Role, password []byte) error {
	if len(password) == 0 || len(password) > wire.MaxPassword {
		return stageError(StageLogin, object.Errorf(ErrPINLength, "the password should have 1 to %d bytes", wire.MaxPassword))
	}
	_, err := l.roundTrip(p, wire.OpLogin, newOperation(), func(b []byte, _ uint32) []byte {
		return (&wire.PasswordRequest{Session: s.id, Role: role, Password: password}).Append(b)
	})
	if err != nil {
		return stageError(StageLogin, err)
	}
	return nil
}

// closeSession gives a session back; that it is gone already does not matter.
func closeSession(p patience, l *link, s *session) {
	l.roundTrip(p, wire.OpCloseSession, newOperation(), func(b []byte, _ uint32) []byte {
		return (&wire.SessionRequest{Session: s.id}).Append(b)
	})
}
