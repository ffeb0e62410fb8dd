package intercept

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// TestHSMAway: what is cached goes on, what is new fails where the client can
// be told best, and service resumes by itself.
func TestHSMAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "old.test", "new.test", "127.0.0.1")}}, echo)
	visit := func(host, sni string) error {
		client, err := w.handshake(host+":"+port, &tls.Config{ServerName: sni})
		client.Close()
		return err
	}
	if err := visit("old.test", ""); err != nil {
		t.Fatal(err)
	}
	fine(t, w.records.next(t))

	w.certifier.away.Store(hsmAway())
	if err := visit("old.test", ""); err != nil {
		t.Errorf("a cached host: %v", err)
	}
	fine(t, w.records.next(t))
	_, response := w.tunnel("new.test:" + port)
	refusal(t, w, response, http.StatusServiceUnavailable, "proxy_internal_error", flow.StageHSM, errAway.Error())
	// Where the host is cached and the name in the hello is not, it is too
	// late for HTTP.
	if err := visit("old.test", "new.test"); alertOf(err) != flow.AlertInternalError {
		t.Errorf("got %v, want alert %d", err, flow.AlertInternalError)
	}
	failed(t, w.records.next(t), flow.StageHSM, errAway.Error())

	w.certifier.away.Store(nil)
	if err := visit("new.test", ""); err != nil {
		t.Errorf("the HSM is back: %v", err)
	}
	fine(t, w.records.next(t))
}

func TestClientRefusesCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "trust.test")}}, echo)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, err := w.handshake("trust.test:"+port, &tls.Config{RootCAs: w.public.pool, MaxVersion: version})
		if err == nil {
			t.Fatal("the client accepted what it does not trust")
		}
		client.Close()
		// crypto/tls sends bad_certificate; OpenSSL sends unknown_ca.
		failed(t, w.records.next(t), flow.StageClientTLS, `is the CA certificate "forward-trust" installed there`)
	}
}

func TestClientFailures(t *testing.T) {
	t.Parallel()
	var meter flow.Meter
	for alert, cause := range map[uint8]string{
		48: `client refused the certificate (unknown CA): is the CA certificate "ca" installed there?`,
		42: `client refused the certificate (bad certificate): is the CA`,
		46: `client refused the certificate (unknown certificate): is the CA`,
		45: "client refused the certificate (expired): do its clock and ours agree?",
		70: "client ended the handshake (protocol version not supported)",
	} {
		if f := clientFailure(alertError(t, alert), &meter, "ca"); f.Stage != flow.StageClientTLS || !strings.HasPrefix(f.Err.Error(), cause) {
			t.Errorf("alert %d: got %v, want %q", alert, f, cause)
		}
	}
	// A key's failure is told as what it was, not as what crypto/tls made of it.
	meter.Fail(hsmAway())
	if f := clientFailure(alertError(t, 48), &meter, "ca"); f.Stage != flow.StageHSM {
		t.Errorf("got %v", f)
	}
}

// alertError is what crypto/tls returns when the other side sends an alert.
func alertError(t *testing.T, alert uint8) error {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		go io.Copy(io.Discard, client)
		client.Write([]byte{recordAlert, 3, 3, 0, 2, levelFatal, alert})
	}()
	err := tls.Server(server, &tls.Config{}).Handshake()
	if got, ok := remoteAlert(err); !ok || got != alert {
		t.Fatalf("remoteAlert(%v) = %d, %t", err, got, ok)
	}
	return err
}

// TestServerFailures: the client hears what the server said.
func TestServerFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{TLSTimeout: 2 * time.Second}})
	leaf := w.public.leaf(t, "fail.test")
	tests := []struct {
		name  string
		port  string
		alert uint8
		cause string
	}{
		{"the server's alert", listen(t, func(conn net.Conn) {
			io.ReadFull(conn, make([]byte, 5))
			conn.Write([]byte{recordAlert, 3, 3, 0, 2, levelFatal, alertUnrecognizedName})
			io.Copy(io.Discard, conn)
		}), alertUnrecognizedName, "ended the handshake: tls: unrecognized name"},
		{"an older version", listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, echo),
			alertProtocolVersion, "protocol version not supported"},
		{"no TLS", listen(t, func(conn net.Conn) {
			io.ReadFull(conn, make([]byte, 5))
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, conn)
		}), flow.AlertHandshakeFailure, "first record does not look like a TLS handshake"},
		{"closing", listen(t, func(conn net.Conn) { io.ReadFull(conn, make([]byte, 5)) }), flow.AlertHandshakeFailure, "closed the connection during the handshake"},
		{"silence", listen(t, func(conn net.Conn) { io.Copy(io.Discard, conn) }), flow.AlertInternalError, "did not finish the handshake in time"},
		{"a client certificate", listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequestClientCert}, echo),
			flow.AlertHandshakeFailure, "exclusion list"},
		{"a client certificate in TLS 1.2", listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, echo),
			flow.AlertHandshakeFailure, "exclusion list"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := w.handshake("fail.test:"+test.port, nil)
			if got := alertOf(err); got != test.alert {
				t.Errorf("the client got alert %d (%v), want %d", got, err, test.alert)
			}
			r := w.records.next(t)
			failed(t, r, flow.StageServerTLS, test.cause)
			if r.Action != "decrypt" || r.Server != "127.0.0.1:"+test.port {
				t.Errorf("record: %+v", r)
			}
		})
	}
}

// TestNoHello are tunnels that do not begin with a ClientHello.
func TestNoHello(t *testing.T) {
	t.Parallel()
	snapshot := config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}
	patient := newWorld(t, options{snapshot: snapshot})
	hasty := newWorld(t, options{snapshot: snapshot, limits: Limits{HelloTimeout: 300 * time.Millisecond}})
	heard := make(chan []byte, 100)
	port := listen(t, func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		heard <- b
	})
	record := func(kind byte, body string) string {
		return string([]byte{kind, 3, 1, byte(len(body) >> 8), byte(len(body))}) + body
	}
	endless := record(recordHandshake, "\x01\x00\xff\xff"+strings.Repeat("x", 10))
	for len(endless) < maxHello+10 {
		endless += record(recordHandshake, "xx")
	}
	dotted := captureHello(t, "dotted.test")
	dotted = bytes.Replace(dotted, []byte("dotted.test"), []byte("dotted!test"), 1)
	tests := []struct {
		name, send string
		end        bool
		alert      uint8
		cause      string
	}{
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", false, 0, "not TLS"},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, 0, "not TLS"},
		{"SSLv2", "\x80\x2e\x01\x00\x02", false, 0, "not TLS"},
		{"application data", record(0x17, "hello"), false, 0, "not TLS"},
		{"nothing", "", false, 0, "no whole ClientHello within 300ms (0 bytes came)"},
		{"a part", string(captureHello(t, "x.test")[:50]), false, 0, "no whole ClientHello within 300ms (50 bytes came)"},
		{"an end", "", true, 0, "closed the connection before"},
		{"a part and an end", string(captureHello(t, "x.test")[:50]), true, 0, "within its ClientHello, after 50 bytes"},
		{"garbage in a record", record(recordHandshake, "\x67\x00\x00\x01x"), true, 10, "reading the ClientHello"},
		{"a ServerHello", record(recordHandshake, "\x02\x00\x00\x02\x03\x03"), false, 0, "reading the ClientHello"},
		{"an endless message", endless, false, 0, "ClientHello"},
		{"a name that is none", string(dotted), false, alertUnrecognizedName, `the server name "dotted!test"`},
	}
	for _, test := range tests {
		for _, host := range []string{"deep.test", "raw.test"} {
			t.Run(test.name+" to "+host, func(t *testing.T) {
				w := patient
				if strings.Contains(test.cause, "within 300ms") {
					w = hasty
				}
				conn := w.open(host + ":" + port)
				go func() {
					io.WriteString(conn, test.send)
					if test.end {
						conn.(*net.TCPConn).CloseWrite()
					}
				}()
				answer, _ := io.ReadAll(conn)
				if test.alert != 0 && (len(answer) != 7 || answer[0] != recordAlert || answer[6] != test.alert) {
					t.Errorf("the client got %x, want alert %d", answer, test.alert)
				}
				failed(t, w.records.next(t), flow.StageHello, test.cause)
				if b := <-heard; len(b) != 0 {
					t.Errorf("the server heard %q", b)
				}
			})
		}
	}
}

// TestEarlyData: early data is refused by name where it would have to be
// understood, and passes where nothing has to be.
func TestEarlyData(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}})
	heard := make(chan []byte, 2)
	port := listen(t, func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		heard <- b
	})
	for _, host := range []string{"deep.test", "raw.test"} {
		sent := withExtension(captureHello(t, host), extensionEarlyData)
		conn := w.open(host + ":" + port)
		conn.Write(sent)
		conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		r := w.records.next(t)
		got := <-heard
		if host == "raw.test" {
			fine(t, r)
			if !bytes.Equal(got, sent) {
				t.Errorf("the server heard %x", got)
			}
			continue
		}
		failed(t, r, flow.StageHello, "early data (0-RTT)")
		if len(answer) != 7 || answer[6] != alertUnsupportedExtension || len(got) != 0 {
			t.Errorf("the client got %x, the server %x", answer, got)
		}
	}
}

// withExtension adds an empty extension to a ClientHello in one record.
func withExtension(record []byte, id uint16) []byte {
	out := append(bytes.Clone(record), byte(id>>8), byte(id), 0, 0)
	longer := func(at, size int) {
		n := 4
		for i := at + size - 1; i >= at; i-- {
			n += int(out[i])
			out[i] = byte(n)
			n >>= 8
		}
	}
	longer(3, 2)                               // the record
	longer(6, 3)                               // the message
	at := 5 + 4 + 2 + 32                       // behind the random
	at += 1 + int(out[at])                     // the session id
	at += 2 + int(out[at])<<8 + int(out[at+1]) // the cipher suites
	at += 1 + int(out[at])                     // the compression methods
	longer(at, 2)                              // the extensions
	return out
}

// TestOldClient: the profile's lowest version holds for the client, who is told
// before the server is bothered.
func TestOldClient(t *testing.T) {
	t.Parallel()
	modern := config.DefaultProfile()
	modern.Name, modern.MinVersion = "modern", config.TLS13
	w := newWorld(t, options{snapshot: config.Snapshot{Rules: []config.Rule{{Name: "r", Action: config.Decrypt, Type: config.ForwardProxy, Profile: modern}}}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "modern.test")}}, echo)
	_, err := w.handshake("modern.test:"+port, &tls.Config{MaxVersion: tls.VersionTLS12})
	if got := alertOf(err); got != alertProtocolVersion {
		t.Errorf("got %v, want alert %d", err, alertProtocolVersion)
	}
	failed(t, w.records.next(t), flow.StagePolicy, `client offers at most TLS 1.2, profile "modern" asks for TLS 1.3`)
	client, err := w.handshake("modern.test:"+port, nil)
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	fine(t, w.records.next(t))
}

// TestHighestVersion: a profile's highest version holds on both legs, whatever
// the certifier's configuration says.
func TestHighestVersion(t *testing.T) {
	t.Parallel()
	old := config.DefaultProfile()
	old.Name, old.MaxVersion, old.RSAKeyExchange = "old", config.TLS12, true
	w := newWorld(t, options{snapshot: config.Snapshot{Rules: []config.Rule{{Name: "r", Action: config.Decrypt, Type: config.ForwardProxy, Profile: old}}}})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "old.test")}}, echo)
	for range 2 {
		client, err := w.handshake("old.test:"+port, nil)
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
		r := w.records.next(t)
		if r.ClientLeg.Version != "TLS 1.2" || r.ServerLeg.Version != "TLS 1.2" {
			t.Errorf("got %s, %s", r.ClientLeg.Version, r.ServerLeg.Version)
		}
	}
}

// TestClientLeaves ends the client's connection at each stage of a flow. Each
// leaves one record, and nothing else.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{TLSTimeout: 2 * time.Second}})
	leaf := w.public.leaf(t, "leave.test")
	working := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf}}, echo)
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	slow := listen(t, func(conn net.Conn) {
		arrived <- struct{}{}
		<-release
		if server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{leaf}}); server.Handshake() == nil {
			echo(server)
		}
	})
	reset := func(conn net.Conn) {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	hello := captureHello(t, "leave.test")
	stages := []struct {
		name  string
		leave func() *flow.Record
		stage flow.Stage
	}{
		{"after the answer", func() *flow.Record { reset(w.open("leave.test:" + working)); return w.records.next(t) }, flow.StageHello},
		{"within the hello", func() *flow.Record {
			conn := w.open("leave.test:" + working)
			conn.Write(hello[:100])
			reset(conn)
			return w.records.next(t)
		}, flow.StageHello},
		{"while the server is asked", func() *flow.Record {
			conn := w.open("leave.test:" + slow)
			conn.Write(hello)
			<-arrived
			reset(conn)
			close(release)
			return w.records.next(t)
		}, flow.StageClientTLS},
		{"when shown a certificate", func() *flow.Record {
			conn := w.open("leave.test:" + working)
			conn.Write(hello)
			io.ReadFull(conn, make([]byte, 100))
			reset(conn)
			return w.records.next(t)
		}, flow.StageClientTLS},
		{"in the relay", func() *flow.Record {
			client, err := w.handshake("leave.test:"+working, nil)
			if err != nil {
				t.Fatal(err)
			}
			client.Write([]byte("x"))
			io.ReadFull(client, make([]byte, 1))
			reset(client.NetConn())
			return w.records.next(t)
		}, flow.StageRelay},
	}
	for _, s := range stages {
		t.Run(s.name, func(t *testing.T) { failed(t, s.leave(), s.stage, "") })
	}

	// While the name is looked up, or the connection made.
	conn := w.dial()
	fmt.Fprintf(conn, "CONNECT silent.test:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	for deadline := time.Now().Add(patience); w.proxy.Stats().Active == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	reset(conn)
	failed(t, w.records.next(t), flow.StageResolve, "the client closed the connection")

	w.stop()
	if n := len(w.records); n != 0 {
		t.Errorf("%d records more than connections", n)
	}
}
