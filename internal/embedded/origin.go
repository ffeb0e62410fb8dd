package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxOriginBytes bounds what /bytes/N answers.
const maxOriginBytes = 1 << 30

// origin is the demonstration server: an HTTPS site with a chain of its own,
// so that the first request needs no network. Its CA is kept in the data
// directory, since the gateway's configuration names it as trusted; its
// certificate is made anew at each start.
type origin struct {
	server   *http.Server
	listener net.Listener
}

func newOrigin(listen string, ca *authority) (*origin, error) {
	cert, err := ca.issue()
	if err != nil {
		return nil, fmt.Errorf("making the demonstration origin's certificate: %w", err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listening for the demonstration origin: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", originPage)
	mux.HandleFunc("GET /bytes/{n}", originBytes)
	mux.HandleFunc("POST /upload", originUpload)
	return &origin{
		server: &http.Server{
			Handler: mux, ReadHeaderTimeout: 10 * time.Second,
			TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		},
		listener: l,
	}, nil
}

// run serves until ctx is done.
func (o *origin) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { o.server.Close() })
	defer stop()
	if err := o.server.ServeTLS(o.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("demonstration origin: %w", err)
	}
	return nil
}

func originPage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!doctype html>
<title>Moongate demonstration</title>
<h1>It works</h1>
<p>This page came from the demonstration origin, over %s, as %s.</p>
<p>If you came through the gateway, the certificate that you see was signed in the HSM.</p>
`, r.Proto, tls.VersionName(r.TLS.Version))
}

func originBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxOriginBytes {
		http.Error(w, fmt.Sprintf("expected a number from 0 to %d", maxOriginBytes), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.CopyN(w, zeros{}, n) // a client that leaves is no concern here
}

func originUpload(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxOriginBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, n)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
