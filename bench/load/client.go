package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"moongate/bench/origin"
)

// timeout bounds a dial, a handshake, and each request with its answer.
const timeout = 10 * time.Second

// client opens connections as a job says.
type client struct {
	proxy, target string
	config        *tls.Config // no session cache: every handshake is a full one
	path          string
	wantBody      []byte // nil for the small page, which depends on the name
	lastSession   atomic.Pointer[tls.ConnectionState]
}

func newClient(job Job) (*client, error) {
	if job.Body < 0 || job.Body > origin.MaxBody {
		return nil, fmt.Errorf("a body of %d bytes: out of range", job.Body)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(job.Roots) {
		return nil, errors.New("the job has no root certificate")
	}
	c := &client{
		proxy:  job.Proxy,
		target: job.Target,
		config: &tls.Config{
			RootCAs:                roots,
			NextProtos:             []string{"http/1.1"},
			MinVersion:             tls.VersionTLS12,
			SessionTicketsDisabled: true,
		},
		path: "/",
	}
	if job.Classic {
		c.config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	}
	if job.Body > 0 {
		c.path = fmt.Sprintf("/bytes/%d", job.Body)
		c.wantBody = make([]byte, job.Body)
		origin.Fill(c.wantBody)
	}
	return c, nil
}

// conn is one open connection, used by one worker.
type conn struct {
	tls      *tls.Conn
	reader   *bufio.Reader
	request  []byte
	wantBody []byte
	body     []byte // as long as wantBody
}

// open dials, asks the proxy for the target when there is one, and completes a
// full handshake whose chain leads to the job's roots.
func (c *client) open(ctx context.Context, name string) (*conn, error) {
	address := c.target
	if c.proxy != "" {
		address = c.proxy
	}
	dialer := net.Dialer{Timeout: timeout}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secured, err := c.secure(raw, name)
	if err != nil {
		raw.Close()
		return nil, err
	}
	body := c.wantBody
	if body == nil {
		body = origin.Page(name)
	}
	// As a browser asks on a port that is not HTTPS's own (RFC 9110, section
	// 7.2). Squid would look elsewhere for a Host without it.
	_, port, err := net.SplitHostPort(c.target)
	if err != nil {
		return nil, err
	}
	host := net.JoinHostPort(name, port)
	return &conn{
		tls:      secured,
		reader:   bufio.NewReaderSize(secured, 32<<10),
		request:  []byte("GET " + c.path + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\n\r\n"),
		wantBody: body,
		body:     make([]byte, len(body)),
	}, nil
}

func (c *client) secure(raw net.Conn, name string) (*tls.Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if c.proxy != "" {
		if err := connect(raw, c.target); err != nil {
			return nil, fmt.Errorf("asking the proxy to connect: %w", err)
		}
	}
	config := c.config.Clone()
	config.ServerName = name
	secured := tls.Client(raw, config)
	if err := secured.Handshake(); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	state := secured.ConnectionState()
	if state.DidResume {
		return nil, errors.New("the handshake was resumed")
	}
	c.lastSession.Store(&state)
	return secured, nil
}

// connect asks for a tunnel (RFC 9110, section 9.3.6) and reads the answer to
// its blank line. In TLS the client speaks first, so that nothing can follow
// the blank line yet.
func connect(raw net.Conn, target string) error {
	if _, err := fmt.Fprintf(raw, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return err
	}
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) > 8<<10 {
			return errors.New("an endless answer")
		}
		var chunk [512]byte
		n, err := raw.Read(chunk[:])
		if err != nil {
			return err
		}
		head = append(head, chunk[:n]...)
	}
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	return nil
}

// ask sends the request and checks the answer.
func (c *conn) ask() error {
	if err := c.tls.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.tls.Write(c.request); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", response.Status)
	}
	if _, err := io.ReadFull(response.Body, c.body); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if n, err := response.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("body longer than %d bytes", len(c.body))
	}
	if !bytes.Equal(c.body, c.wantBody) {
		return fmt.Errorf("wrong body of %d bytes, beginning %.40q", len(c.body), c.body)
	}
	return nil
}

func (c *conn) close() { c.tls.Close() }

// session names what the last handshake negotiated.
func (c *client) session() string {
	state := c.lastSession.Load()
	if state == nil {
		return ""
	}
	return fmt.Sprintf("%s, %v, %v leaf", tls.VersionName(state.Version), state.CurveID,
		state.PeerCertificates[0].PublicKeyAlgorithm)
}
