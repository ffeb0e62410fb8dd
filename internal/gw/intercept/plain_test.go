package intercept

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"moongate/internal/gw/flow"
)

// TestPlainHeaders: what is hop-by-hop stays with its hop, all else passes as
// it is.
func TestPlainHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	got := make(chan *http.Request, 1)
	port := serveHTTPS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Clone(r.Context())
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "server's")
		w.Header().Set("X-End", "server's")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
	}), nil)
	conn := w.dial()
	fmt.Fprintf(conn, "GET http://Plain.test:%s/a%%2Fb?q=1;2&%%zz HTTP/1.1\r\nHost: evil.test\r\nProxy-Connection: keep-alive\r\n"+
		"Proxy-Authorization: Basic c2VjcmV0\r\nConnection: close, X-Hop\r\nX-Hop: client's\r\nX-End: client's\r\n"+
		"X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nTE: gzip\r\nKeep-Alive: 5\r\nVia: 1.0 before\r\n\r\n", port)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusTeapot || string(body) != "short and stout" {
		t.Errorf("got %s, %q", response.Status, body)
	}
	if response.Header.Get("X-Hop") != "" || response.Header.Get("X-End") != "server's" || response.Header.Get("Via") != "1.1 moongate" {
		t.Errorf("the client got %v", response.Header)
	}
	r := <-got
	if r.RequestURI != "/a%2Fb?q=1;2&%zz" || r.Host != "Plain.test:"+port {
		t.Errorf("the server got %q for %q", r.RequestURI, r.Host)
	}
	want := http.Header{
		"X-End": {"client's"}, "X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"}, "Via": {"1.0 before", "1.1 moongate"},
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	record := w.records.next(t)
	fine(t, record)
	if record.Action != "plain" || record.Target != "plain.test:"+port || record.Server != "127.0.0.1:"+port || record.BytesDown != int64(len(body)) ||
		record.Reason != "plain HTTP" || record.Verdict != flow.Unverified {
		t.Errorf("record: %+v", record)
	}
}

// TestPlainKeepAlive: requests on one connection are flows of their own, and
// connections to the server are used again, until the runtime changes.
func TestPlainKeepAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	from := make(chan string, 10)
	port := serveHTTPS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { from <- r.RemoteAddr }), nil)
	client := w.client("http/1.1")
	get := func() string {
		t.Helper()
		response, err := client.Get("http://keep.test:" + port)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		fine(t, w.records.next(t))
		return <-from
	}
	first := get()
	if second := get(); second != first {
		t.Errorf("two connections to the server, %s and %s", first, second)
	}
	next := *w.runtime.Load()
	w.runtime.Store(&next)
	if third := get(); third == first {
		t.Error("a connection outlived the rules that it was checked by")
	}
}

// TestPlainBreaksOff: an answer that breaks off at the server breaks off at the
// client.
func TestPlainBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	port := listen(t, func(conn net.Conn) {
		http.ReadRequest(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
	})
	client := w.client("http/1.1")
	response, err := client.Get("http://break.test:" + port)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != "only this" {
		t.Errorf("got %q, %v", body, err)
	}
	failed(t, w.records.next(t), flow.StageRelay, "reading the server's answer: unexpected EOF")

	port = listen(t, func(conn net.Conn) { http.ReadRequest(bufio.NewReader(conn)) })
	response, err = client.Get("http://break.test:" + port)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusBadGateway || !strings.Contains(response.Header.Get("Proxy-Status"), "error=connection_terminated") {
		t.Errorf("got %s, %s", response.Status, response.Header.Get("Proxy-Status"))
	}
	failed(t, w.records.next(t), flow.StageRelay, "EOF")
	client.CloseIdleConnections()
}

// TestPlainClientLeaves: the server hears of it.
func TestPlainClientLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	port := serveHTTPS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}), nil)
	conn := w.dial()
	fmt.Fprintf(conn, "GET http://leave.test:%s/ HTTP/1.1\r\nHost: x\r\n\r\n", port)
	<-began
	conn.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the server never heard that the client had gone")
	}
	failed(t, w.records.next(t), flow.StageRelay, "the client closed the connection")
}

// TestPlainStreams: an answer passes as it comes, not when it is complete.
func TestPlainStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	next := make(chan string)
	port := serveHTTPS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for word := range next {
			io.WriteString(w, word)
			w.(http.Flusher).Flush()
		}
	}), nil)
	client := w.client("http/1.1")
	go func() { next <- "one" }()
	response, err := client.Get("http://stream.test:" + port)
	if err != nil {
		t.Fatal(err)
	}
	for i, word := range []string{"one", "two"} {
		if i > 0 {
			next <- word
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != word {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	close(next)
	response.Body.Close()
	client.CloseIdleConnections()
	w.records.next(t)
}

// TestPlainUpgrades: WebSocket alone is a tunnel. Others (TLS above all, RFC
// 2817) would carry what nobody looks at under the name of plain HTTP; a field
// that is left out makes servers go on in HTTP/1.1 (RFC 9110, section 7.8).
func TestPlainUpgrades(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	got := make(chan string, 20)
	saw := func() string {
		t.Helper()
		select {
		case s := <-got:
			return s
		case <-time.After(patience):
			t.Fatal("the server saw nothing")
			return ""
		}
	}
	port := listen(t, func(conn net.Conn) {
		buffered := bufio.NewReader(conn)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			return
		}
		protocol := r.Header.Get("Upgrade")
		if got <- protocol; protocol == "" {
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		first := make([]byte, 4)
		n, _ := io.ReadFull(buffered, first)
		if got <- string(first[:n]); n > 0 {
			conn.Write(first[:n])
		}
	})
	ask := func(protocol, first string) string {
		t.Helper()
		conn := w.dial()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET http://up.test:%s/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", port, protocol)
		buffered := bufio.NewReader(conn)
		response, err := http.ReadResponse(buffered, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusSwitchingProtocols {
			conn.Close()
			return response.Status
		}
		io.WriteString(conn, first)
		answer := make([]byte, len(first))
		n, _ := io.ReadFull(buffered, answer)
		conn.Close()
		return string(answer[:n])
	}
	for _, protocol := range []string{"TLS/1.0", "h2c", "anything", "websocket, TLS/1.2"} {
		if status := ask(protocol, "tls?"); status != "204 No Content" {
			t.Errorf("%s: the client got %q", protocol, status)
		}
		if asked := saw(); asked != "" {
			t.Fatalf("%s: the server was asked for %q", protocol, asked)
		}
		fine(t, w.records.next(t))
	}

	if echo := ask("WebSocket", "ping"); echo != "ping" {
		t.Errorf("WebSocket: the client got %q", echo)
	}
	if protocol, first := saw(), saw(); protocol != "WebSocket" || first != "ping" {
		t.Errorf("WebSocket: the server got %q, %q", protocol, first)
	}
	if r := w.records.next(t); r.Reason != "plain HTTP, upgraded to WebSocket" {
		t.Errorf("record: %+v", r)
	}

	// TLS all the same, by a client and a server that know of each other.
	if echo := ask("websocket", "\x16\x03\x01\x00"); echo != "" {
		t.Errorf("TLS: the client got %q", echo)
	}
	if saw(); saw() != "" {
		t.Error("TLS: the server got a ClientHello")
	}
	failed(t, w.records.next(t), flow.StageRelay, "TLS within a connection that was upgraded to WebSocket")
}

// TestRecordsHoldNoURL: a request that is refused leaves neither its user's
// name, path and query in the record, nor a record of any size.
func TestRecordsHoldNoURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for _, request := range []string{
		"GET http://user:secret@plain.test/secret?token=secret",
		"GET https://plain.test/secret?token=secret",
		"GET http://0/" + strings.Repeat("secret", 9000),
		"GET http://" + strings.Repeat("secret", 9000) + "/",
		"CONNECT " + strings.Repeat("a", 9000) + ".secret:443",
	} {
		conn := w.dial()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", request)
		io.Copy(io.Discard, conn)
		r := w.records.next(t)
		if len(r.Target) > 300 || len(r.FailureCause) > 2000 || strings.Contains(r.Target, ":secret") || strings.Contains(r.Target, "/") {
			t.Errorf("%.60s: target %.100q (%d bytes), cause of %d bytes", request, r.Target, len(r.Target), len(r.FailureCause))
		}
	}
}
