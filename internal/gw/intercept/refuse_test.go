package intercept

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/policy"
)

// refusal checks the proxy's answer to a request, and its record.
func refusal(t *testing.T, w *world, response *http.Response, status int, kind string, stage flow.Stage, cause string) *flow.Record {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != status || !strings.Contains(string(body), cause) {
		t.Errorf("got %s, %q; want %d with %q", response.Status, body, status, cause)
	}
	if got := response.Header.Get("Proxy-Status"); !strings.HasPrefix(got, "moongate; error="+kind+"; details=\"") {
		t.Errorf("Proxy-Status: %s; want error %s", got, kind)
	}
	r := w.records.next(t)
	failed(t, r, stage, cause)
	return r
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 100)
	port := listen(t, func(net.Conn) { reached <- struct{}{} })
	number := netip.MustParseAddrPort("127.0.0.1:" + port).Port()
	w := newWorld(t, options{closed: true, rules: policy.DestinationRules{
		Reserved: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1792")},
		Allowed:  []config.AllowedDestination{{Host: "demo.test", Port: number}},
	}})
	w.dns.set("mapped.test", "::ffff:127.0.0.1")
	w.dns.set("six.test", "::1")
	w.dns.set("metadata.test", "169.254.169.254")
	w.dns.set("both.test", "::1", "127.0.0.1", "169.254.169.254")
	w.dns.set("any.test", "0.0.0.0")
	w.dns.set("hsm.test", "192.0.2.1")
	for target, cause := range map[string]string{
		"127.0.0.1:" + port:          "loopback",
		"127.9.9.9:" + port:          "loopback",
		"[::1]:" + port:              "loopback",
		"[::ffff:127.0.0.1]:" + port: "loopback",
		"[::ffff:7f00:1]:" + port:    "loopback",
		"[64:ff9b::7f00:1]:" + port:  "loopback",
		"localhost:" + port:          "loopback",
		"LOCALHOST.:" + port:         "loopback",
		"loop.test:" + port:          "loopback",
		"mapped.test:" + port:        "loopback",
		"six.test:" + port:           "loopback",
		"both.test:" + port:          "loopback",
		"0.0.0.0:" + port:            "unspecified",
		"[::]:" + port:               "unspecified",
		"any.test:" + port:           "unspecified",
		"169.254.169.254:80":         "link-local",
		"metadata.test:80":           "link-local",
		"[fe80::1]:443":              "link-local",
		"224.0.0.251:5353":           "multicast",
		"hsm.test:1792":              "management port",
	} {
		t.Run(target, func(t *testing.T) {
			_, response := w.tunnel(target)
			r := refusal(t, w, response, http.StatusForbidden, "destination_ip_prohibited", flow.StageDestination, cause)
			if r.Action != "block" {
				t.Errorf("action %q", r.Action)
			}
		})
		t.Run("http://"+target, func(t *testing.T) {
			client := w.client("http/1.1")
			response, err := client.Get("http://" + target + "/")
			if err != nil {
				t.Fatal(err)
			}
			refusal(t, w, response, http.StatusForbidden, "destination_ip_prohibited", flow.StageDestination, cause)
			client.CloseIdleConnections()
		})
	}
	if len(reached) != 0 {
		t.Errorf("%d connections reached what is refused", len(reached))
	}
	w.open("demo.test:" + port)
	<-reached
}

// TestRebinding: it is the address that is dialled that is checked, and names
// are resolved once.
func TestRebinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{closed: true})
	reached := make(chan struct{}, 1)
	port := listen(t, func(net.Conn) { reached <- struct{}{} })
	w.dns.set("rebind.test", "127.0.0.1", "192.0.2.77")
	next := *w.runtime.Load()
	next.Limits.DialTimeout = time.Second
	w.runtime.Store(&next)
	_, response := w.tunnel("rebind.test:" + port)
	refusal(t, w, response, http.StatusForbidden, "destination_ip_prohibited", flow.StageDestination, "loopback")
	if len(reached) != 0 {
		t.Error("the loopback address was reached")
	}
	w.dns.mu.Lock()
	defer w.dns.mu.Unlock()
	if n := w.dns.asked["rebind.test"]; n != 2 { // A and AAAA
		t.Errorf("the name was asked for %d times", n)
	}
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{limits: Limits{DialTimeout: 2 * time.Second}})
	w.dns.set("missing.test")
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	_, port, _ := net.SplitHostPort(closed.Addr().String())

	_, response := w.tunnel("missing.test:443")
	refusal(t, w, response, http.StatusBadGateway, "destination_not_found", flow.StageResolve, "no such host")
	_, response = w.tunnel("closed.test:" + port)
	refusal(t, w, response, http.StatusBadGateway, "connection_refused", flow.StageConnect, "connection refused")
	client := w.client("http/1.1")
	response, err = client.Get("http://closed.test:" + port)
	if err != nil {
		t.Fatal(err)
	}
	refusal(t, w, response, http.StatusBadGateway, "connection_refused", flow.StageConnect, "connection refused")
	client.CloseIdleConnections()

	// A listener whose queue is full does not answer.
	full := fullListener(t)
	_, response = w.tunnel("full.test:" + full)
	refusal(t, w, response, http.StatusGatewayTimeout, "connection_timeout", flow.StageConnect, "timeout")
	_, response = w.tunnel("silent.test:443")
	refusal(t, w, response, http.StatusGatewayTimeout, "dns_timeout", flow.StageResolve, "")
}

// fullListener returns the port of a listener that takes no more connections.
func fullListener(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	shrink(t, listener.(*net.TCPListener))
	for range 64 {
		d := net.Dialer{Timeout: 50 * time.Millisecond}
		conn, err := d.Dial("tcp", listener.Addr().String())
		if err != nil {
			_, port, _ := net.SplitHostPort(listener.Addr().String())
			return port
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("this system's listeners do not fill up")
	return ""
}

// TestOddRequests are requests that a proxy might read in another way than
// what is before or behind it.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	reached := make(chan struct{}, 100)
	port := listen(t, func(net.Conn) { reached <- struct{}{} })
	at := "127.0.0.1:" + port
	for name, request := range map[string]string{
		"no port":                 "CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"a path":                  "CONNECT /x HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a URL":                   "CONNECT http://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a user":                  "CONNECT u@" + at + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a decimal address":       "CONNECT 2130706433:" + port + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"content":                 "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 5\r\n\r\nhello",
		"empty content":           "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 0\r\n\r\n",
		"chunked content":         "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"both lengths":            "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":             "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"two hosts":               "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\nHost: x\r\n\r\n",
		"a space in the target":   "CONNECT " + at + " x HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a line in the target":    "CONNECT " + at + "\nX: HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a folded header":         "CONNECT " + at + " HTTP/1.1\r\nHost:\r\n " + at + "\r\n : x\r\n\r\n",
		"a space before a colon":  "CONNECT " + at + " HTTP/1.1\r\nHost : " + at + "\r\n\r\n",
		"origin form":             "GET / HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"asterisk form":           "OPTIONS * HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"https in absolute form":  "GET https://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"ftp in absolute form":    "GET ftp://" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"a user in absolute form": "GET http://u:p@" + at + "/ HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"no host":                 "GET http:///x HTTP/1.1\r\nHost: " + at + "\r\n\r\n",
		"smuggled by plain HTTP":  "POST http://" + at + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello",
		"no HTTP":                 "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"HTTP/2":                  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.dial()
			io.WriteString(conn, request)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode < 400 || response.StatusCode > 505 {
				t.Errorf("got %s", response.Status)
			}
			if name == "origin form" {
				if body, _ := io.ReadAll(io.LimitReader(response.Body, 30)); !strings.HasPrefix(string(body), "moongate: request: this is a ") {
					t.Errorf("got %q", body)
				}
			}
		})
	}
	if len(reached) != 0 {
		t.Errorf("%d of them reached the server", len(reached))
	}
}

// TestEarlyHello: a client that does not wait for the tunnel to be open loses
// nothing.
func TestEarlyHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	port := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(t, "early.test")}}, echo)
	for _, wait := range []int{0, 1, 100} { // bytes of the hello after the request
		conn := w.dial()
		below := &eager{Conn: conn, request: fmt.Sprintf("CONNECT early.test:%s HTTP/1.1\r\nHost: x\r\n\r\n", port), wait: wait}
		client := tls.Client(below, &tls.Config{ServerName: "early.test", RootCAs: w.certifier.trust.pool})
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		client.Close()
		fine(t, w.records.next(t))
	}
}

// eager sends a proxy request and a hello in one, less the last bytes, which
// come after the answer.
type eager struct {
	net.Conn
	request string
	wait    int
}

func (e *eager) Write(b []byte) (int, error) {
	if e.request == "" {
		return e.Conn.Write(b)
	}
	all := e.request + string(b)
	e.request = ""
	if _, err := io.WriteString(e.Conn, all[:len(all)-e.wait]); err != nil {
		return 0, err
	}
	if _, err := http.ReadResponse(bufio.NewReaderSize(oneByte{e.Conn}, 16), &http.Request{Method: http.MethodConnect}); err != nil {
		return 0, err
	}
	_, err := io.WriteString(e.Conn, all[len(all)-e.wait:])
	return len(b), err
}
