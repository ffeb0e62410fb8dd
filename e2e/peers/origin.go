package peers

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/coder/websocket"
)

// Origin is an HTTPS server that tells what it saw: GET / answers the protocol
// and TLS version, GET /bytes/N sends N pseudo-random bytes, POST /sha256
// answers the digest of the body, /echo is a WebSocket.
type Origin struct {
	Address string
	Port    int
}

// NewOrigin starts an Origin that ends with the test.
func NewOrigin(t *testing.T, cert tls.Certificate, change ...func(*tls.Config)) *Origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return NewOriginOn(t, l, cert, change...)
}

// NewOriginOn is NewOrigin on a listener.
func NewOriginOn(t *testing.T, l net.Listener, cert tls.Certificate, change ...func(*tls.Config)) *Origin {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s\n", r.Proto, tls.VersionName(r.TLS.Version), r.TLS.ServerName)
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, NewPattern(), n)
	})
	mux.HandleFunc("POST /sha256", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, hex.EncodeToString(sum.Sum(nil)))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, data); err != nil {
				return
			}
		}
	})
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, f := range change {
		f(s.TLS)
	}
	s.EnableHTTP2 = true
	s.Listener.Close()
	s.Listener = l
	s.StartTLS()
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	return &Origin{Address: address, Port: Port(t, address)}
}

// Pattern is an endless stream of bytes that do not repeat soon and are cheap:
// the same from the start for every reader, however it is cut up.
type Pattern struct {
	state uint64
	left  int // bytes of state that were not given out
}

// NewPattern begins the stream.
func NewPattern() *Pattern { return &Pattern{state: 0x9e3779b97f4a7c15} }

func (p *Pattern) Read(b []byte) (int, error) {
	for i := range b {
		if p.left == 0 { // xorshift64
			p.state ^= p.state << 13
			p.state ^= p.state >> 7
			p.state ^= p.state << 17
			p.left = 8
		}
		p.left--
		b[i] = byte(p.state >> (8 * p.left))
	}
	return len(b), nil
}
