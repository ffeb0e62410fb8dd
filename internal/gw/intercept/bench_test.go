package intercept

import (
	"crypto/tls"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"moongate/internal/gw/config"
)

// bodies gets answers of 1 MiB over one kept connection.
func bodies(b *testing.B, client *http.Client, url string) {
	b.SetBytes(1 << 20)
	before, n := cpuTime(b), 0
	defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/op") }()
	for b.Loop() {
		n++
		response, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, response.Body); n != 1<<20 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// cpuTime is what this process has used, client and server included: it says
// more than the clock does on a machine that others use too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkBodies(b *testing.B) {
	body := make([]byte, 1<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) })
	w := newWorld(b, options{snapshot: config.Snapshot{Exclusions: []config.Exclusion{{Pattern: "raw.test", Excluded: true}}}})
	port := serveHTTPS(b, handler, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(b, "deep.test", "raw.test", "127.0.0.1")}})
	b.Run("direct", func(b *testing.B) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.public.pool}}
		defer transport.CloseIdleConnections()
		bodies(b, &http.Client{Transport: transport}, "https://127.0.0.1:"+port)
	})
	b.Run("decrypt", func(b *testing.B) {
		bodies(b, w.client("http/1.1"), "https://deep.test:"+port)
	})
	b.Run("no-decrypt", func(b *testing.B) {
		client := w.client("http/1.1")
		client.Transport.(*http.Transport).TLSClientConfig.RootCAs = w.public.pool
		bodies(b, client, "https://raw.test:"+port)
	})
}

func BenchmarkHandshake(b *testing.B) {
	w := newWorld(b, options{})
	port := listenTLS(b, &tls.Config{Certificates: []tls.Certificate{w.public.leaf(b, "a.test")}}, echo)
	cfg := &tls.Config{ServerName: "a.test", RootCAs: w.certifier.trust.pool}
	for b.Loop() {
		client, err := w.handshake("a.test:"+port, cfg)
		if err != nil {
			b.Fatal(err)
		}
		client.Close()
		w.records.next(b)
	}
}
