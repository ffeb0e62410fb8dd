package logstore

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"moongate/internal/syslog"
)

// receiver is a syslog server: TCP or TLS with octet counting, or UDP.
type receiver struct {
	addr   string
	config *tls.Config // nil for TCP

	mu       sync.Mutex
	messages []string          // guarded by mu
	conns    map[net.Conn]bool // guarded by mu
	listener net.Listener      // guarded by mu; nil for UDP
	done     sync.WaitGroup
}

func newReceiver(t *testing.T, config *tls.Config) *receiver {
	t.Helper()
	r := &receiver{addr: "127.0.0.1:0", config: config, conns: map[net.Conn]bool{}}
	r.up(t)
	t.Cleanup(r.down)
	return r
}

func (r *receiver) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.listener, r.addr = l, l.Addr().String()
	r.mu.Unlock()
	r.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r.config != nil {
				conn = tls.Server(conn, r.config)
			}
			r.mu.Lock()
			r.conns[conn] = true
			r.mu.Unlock()
			r.done.Go(func() { r.serve(conn) })
		}
	})
}

func (r *receiver) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var size int
		if _, err := fmt.Fscanf(in, "%d ", &size); err != nil || size > syslog.MaxMessage {
			return
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		r.take(b)
	}
}

func (r *receiver) take(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, string(b))
}

func (r *receiver) down() {
	r.mu.Lock()
	r.listener.Close()
	for conn := range r.conns {
		conn.Close()
	}
	clear(r.conns)
	r.mu.Unlock()
	r.done.Wait()
}

func newUDPReceiver(t *testing.T) *receiver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{addr: pc.LocalAddr().String()}
	r.done.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			r.take(b[:n])
		}
	})
	t.Cleanup(func() { pc.Close(); r.done.Wait() })
	return r
}

// until waits for a message that holds all of the texts.
func (r *receiver) until(t *testing.T, texts ...string) string {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		if m := r.find(texts...); m != "" {
			return m
		}
		if time.Now().After(limit) {
			t.Fatalf("no message with %q", texts)
		}
	}
}

func (r *receiver) find(texts ...string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
next:
	for _, m := range r.messages {
		for _, text := range texts {
			if !strings.Contains(m, text) {
				continue next
			}
		}
		return m
	}
	return ""
}

// localhost is a certificate for localhost, and the pool that it leads to.
func localhost(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// TestForward: entries of each log reach the servers of the rules that choose
// them, by each transport, and no others.
func TestForward(t *testing.T) {
	t.Parallel()
	config, pool := localhost(t)
	secure, plain, packets := newReceiver(t, config), newReceiver(t, nil), newUDPReceiver(t)
	s := openStore(t, Options{Hostname: "gw.example"})
	err := s.SetForwarding([]Server{
		{Name: "secure", Address: secure.addr, Transport: syslog.TLS, ServerName: "localhost", Roots: pool, Facility: 16},
		{Name: "plain", Address: plain.addr, Transport: syslog.TCP},
		{Name: "packets", Address: packets.addr, Transport: syslog.UDP},
	}, []Forward{
		{Name: "blocked", Log: Decryption, Filter: "( action eq block )", Servers: []string{"secure", "packets"}},
		{Name: "again", Log: Decryption, Filter: "( rule eq 'no' )", Servers: []string{"secure"}},
		{Name: "flows", Log: Traffic, Servers: []string{"plain"}},
		{Name: "grave", Log: System, Filter: "severity geq high", Servers: []string{"plain", "packets"}},
		{Name: "changes", Log: Config, Servers: []string{"secure"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	blocked := record("blocked")
	blocked.Action, blocked.Rule, blocked.FailureStage = "block", "no", "policy"
	s.Write(blocked)
	s.Write(record("fine"))
	s.System(Event{Severity: Low, EventID: "small"})
	s.System(Event{Severity: Critical, EventID: "grave", Description: "It burns."})
	if err := s.Config(Change{Admin: "alice", Command: "commit"}); err != nil {
		t.Fatal(err)
	}
	m := secure.until(t, " gw.example moongate ", ` DECRYPTION [decryption@32473 seqno="1" type="DECRYPTION"`, `action="block"`)
	if !strings.HasPrefix(m, "<132>1 ") { // local0, warning
		t.Errorf("%s", m)
	}
	r := decode(t, []byte(m[strings.Index(m, `{"seqno"`):]))
	if r.ID != "blocked" || r.ServerLeg.Certificate.Subject != "CN=a" {
		t.Errorf("%+v", r)
	}
	packets.until(t, `sessionid="blocked"`)
	plain.until(t, "TRAFFIC [traffic@32473", `sessionid="blocked"`)
	plain.until(t, `sessionid="fine"`)
	m = plain.until(t, `SYSTEM [system@32473`, `eventid="grave"`)
	if !strings.HasPrefix(m, "<10>1 ") || !json.Valid([]byte(m[strings.Index(m, "{"):])) { // user, critical
		t.Errorf("%s", m)
	}
	packets.until(t, `eventid="grave"`)
	secure.until(t, "CONFIG [config@32473", `admin="alice"`)
	for _, x := range []struct {
		r    *receiver
		text string
	}{{secure, "fine"}, {packets, "fine"}, {plain, "small"}, {packets, "small"}, {secure, "grave"}, {plain, "alice"}} {
		if m := x.r.find(x.text); m != "" {
			t.Errorf("not to be sent: %s", m)
		}
	}
	secure.mu.Lock()
	if n := len(secure.messages); n != 2 { // the flow once, though two rules choose it
		t.Errorf("%d messages by TLS", n)
	}
	secure.mu.Unlock()
}

// TestForwardOutage: a server that goes away gets what came meanwhile, and the
// system log tells of both; what is too much is dropped and counted.
func TestForwardOutage(t *testing.T) {
	t.Parallel()
	server := newReceiver(t, nil)
	s := openStore(t, Options{})
	s.forwarding.most = 200
	servers := []Server{{Name: "collector", Address: server.addr, Transport: syslog.TCP}}
	rules := []Forward{{Name: "flows", Log: Traffic, Servers: []string{"collector"}}}
	if err := s.SetForwarding(servers, rules); err != nil {
		t.Fatal(err)
	}
	s.Write(record("before"))
	server.until(t, `sessionid="before"`)
	server.down()
	until(t, s, Query{Log: System, Filter: "eventid eq syslog-server-down and object eq collector"}, 1)
	for n := range 300 {
		for len(s.traffic.queue) > 1000 {
			time.Sleep(time.Millisecond)
		}
		s.Write(record(fmt.Sprint("away", n)))
	}
	until(t, s, Query{Log: System, Filter: "eventid eq syslog-messages-dropped"}, 1)
	// The same server with other rules keeps what waits.
	if err := s.SetForwarding(servers, append(rules, Forward{Name: "x", Log: System, Servers: []string{"collector"}})); err != nil {
		t.Fatal(err)
	}
	server.up(t)
	server.until(t, `sessionid="away0"`)
	server.until(t, fmt.Sprintf(`sessionid="away%d"`, 190))
	until(t, s, Query{Log: System, Filter: "eventid eq syslog-server-up"}, 1)
	st := s.Forwarding()[0]
	if st.Dropped == 0 || !st.Connected || st.Server != "collector" {
		t.Errorf("%+v", st)
	}
}

func TestForwardingRefused(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{})
	good := Server{Name: "a", Address: "127.0.0.1:1", Transport: syslog.UDP}
	for want, c := range map[string]struct {
		servers []Server
		rules   []Forward
	}{
		"there are two of that name":       {[]Server{good, good}, nil},
		`there is no syslog server "b"`:    {[]Server{good}, []Forward{{Name: "x", Log: Traffic, Servers: []string{"b"}}}},
		`log forwarding "x": filter, at 1`: {[]Server{good}, []Forward{{Name: "x", Log: Traffic, Filter: "no eq 1"}}},
		`log "y": expected`:                {nil, []Forward{{Name: "x", Log: "y"}}},
		`syslog server "c"`:                {[]Server{{Name: "c", Address: "nowhere"}}, nil},
		"use TLS or leave them out":        {[]Server{{Name: "c", Address: "a:1", Transport: syslog.TCP, ServerName: "a"}}, nil},
	} {
		if err := s.SetForwarding(c.servers, c.rules); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}
