package httpd

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestServe: a request that is under way is answered, one that does not end is
// cut off, and then Serve returns.
func TestServe(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan string, 2), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		arrived <- "short"
		<-release
		_, _ = io.WriteString(w, "whole")
	})
	mux.HandleFunc("/endless", func(_ http.ResponseWriter, r *http.Request) {
		arrived <- "endless"
		<-r.Context().Done()
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}) }()

	answers := map[string]chan string{"short": make(chan string, 1), "endless": make(chan string, 1)}
	for path, got := range answers {
		go func() {
			res, err := http.Get("http://" + l.Addr().String() + "/" + path)
			if err != nil {
				got <- "cut off"
				return
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			got <- string(body)
		}()
	}
	<-arrived
	<-arrived
	stop()
	close(release)
	if got := <-answers["short"]; got != "whole" {
		t.Errorf("a request under way got %q", got)
	}
	if got := <-answers["endless"]; got != "cut off" {
		t.Errorf("a request without end got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, &http.Server{ReadHeaderTimeout: time.Second}); err == nil {
		t.Error("a closed listener was served")
	}
}
