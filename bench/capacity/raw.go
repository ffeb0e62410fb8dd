package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// connection speaks the client protocol one request at a time, with as many
// sessions as it likes; the Go client has one.
type connection struct {
	raw    net.Conn
	frames *wire.Reader
	id     uint64
}

// dial connects as a registered client and says Hello. The server's
// certificate must be the pinned one.
func dial(ctx context.Context, address string, own tls.Certificate, pinned []byte) (*connection, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{wire.ALPN}, Certificates: []tls.Certificate{own},
		InsecureSkipVerify: true, // pinned instead
		VerifyConnection: func(s tls.ConnectionState) error {
			if !slices.Equal(s.PeerCertificates[0].Raw, pinned) {
				return errors.New("another server")
			}
			return nil
		},
	}
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &connection{raw: raw, frames: wire.NewReader(raw, wire.MaxFrame)}
	hello := &wire.HelloRequest{Min: wire.Version, Max: wire.Version, Software: "capacity"}
	if _, err := c.do(wire.OpHello, hello.Append(nil)); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

func (c *connection) do(op wire.Op, body []byte) ([]byte, error) {
	c.id++
	out := append(wire.BeginRequest(nil, wire.Request{ID: c.id, Op: op}), body...)
	wire.End(out, 0)
	if _, err := c.raw.Write(out); err != nil {
		return nil, err
	}
	frame, err := c.frames.Next()
	if err != nil {
		return nil, err
	}
	head, answer, err := wire.ParseAnswer(frame)
	if err != nil {
		return nil, err
	}
	if head.Code != object.OK {
		refusal, err := wire.DecodeRefusal(head.Code, answer)
		return nil, errors.Join(err, refusal)
	}
	return answer, nil
}

// session opens a session and logs it in.
func (c *connection) session(role object.Role, password string) (uint32, error) {
	body, err := c.do(wire.OpOpenSession, (&wire.OpenSessionRequest{}).Append(nil))
	if err != nil {
		return 0, fmt.Errorf("opening a session: %w", err)
	}
	var opened wire.OpenSessionAnswer
	if err := opened.Decode(body); err != nil {
		return 0, err
	}
	_, err = c.do(wire.OpLogin, (&wire.PasswordRequest{Session: opened.Session, Role: role, Password: []byte(password)}).Append(nil))
	if err != nil {
		return 0, fmt.Errorf("logging in: %w", err)
	}
	return opened.Session, nil
}

// sign signs a digest with a P-256 key.
func (c *connection) sign(session uint32, key object.ID) error {
	digest := make([]byte, 32)
	request := &wire.UseRequest{Session: session, ID: key, Mechanism: object.Mechanism{Type: object.MechECDSA, Hash: object.HashSHA256}, Data: digest}
	_, err := c.do(wire.OpSign, request.Append(nil))
	return err
}
