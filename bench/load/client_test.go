package load

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"moongate/bench/origin"
	"moongate/bench/testca"
)

const testName = "a" + origin.Domain

// startServer serves over TLS as the test says, and returns a job for it.
func startServer(t *testing.T, handler http.HandlerFunc) Job {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := testca.New("test CA", key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(key.Public(), testName)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		}))
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return Job{
		Target: listener.Addr().String(), Roots: ca.PEM(), Workers: 2, Measure: 30 * time.Millisecond,
		Names: origin.Names{Pattern: testName, Count: 1},
	}
}

func TestEveryAnswerIsChecked(t *testing.T) {
	t.Parallel()
	page := origin.Page(testName)
	for _, test := range []struct {
		name   string
		status int
		body   []byte
		want   string // in the error; "" for none
	}{
		{"right", 200, page, ""},
		{"another status", 503, page, "503"},
		{"a body of another name", 200, origin.Page("b" + origin.Domain), "wrong body"},
		{"a short body", 200, page[1:], "body"},
		{"a long body", 200, append(page, '.'), "longer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			job := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				w.Write(test.body)
			})
			result, err := work(t.Context(), job)
			switch {
			case test.want == "" && (err != nil || result.Done == 0):
				t.Errorf("%d answers, error %v", result.Done, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// One wrong answer among right ones is enough.
func TestKeptConnectionsAreCheckedToo(t *testing.T) {
	t.Parallel()
	const size = 1000
	body := make([]byte, size)
	origin.Fill(body)
	requests := 0 // one worker, one connection: one at a time
	job := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests == 5 {
			w.Write(make([]byte, size))
			return
		}
		w.Write(body)
	})
	job.Workers, job.Keep, job.Body = 1, true, size
	if _, err := work(t.Context(), job); err == nil || !strings.Contains(err.Error(), "wrong body") {
		t.Errorf("error %v, want a wrong body", err)
	}
}
