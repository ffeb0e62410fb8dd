package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestBodiesAtATime: large bodies of strangers, each of which waits for its end,
// cannot take more than their share, small ones go on, and what ends is free
// again.
func TestBodiesAtATime(t *testing.T) {
	t.Parallel()
	h := New(Options{})
	post := func(from string, body io.Reader) *answer {
		r := httptest.NewRequest(http.MethodPost, "/api/", body)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = from
		_, refused := h.read(httptest.NewRecorder(), r)
		return refused
	}
	large := func() string { return "a=" + strings.Repeat("b", MaxBody-2) }
	const stranger = "192.0.2.1:1"
	var open []*io.PipeWriter
	ended := make(chan *answer, 64)
	for range maxBodiesFrom / (MaxBody - freeBody) {
		in, out := io.Pipe()
		open = append(open, out)
		go func() { ended <- post(stranger, in) }()
		if _, err := out.Write([]byte(large())); err != nil {
			t.Fatal(err)
		}
	}
	// A pipe's write ends when its bytes are read, a moment before they are counted.
	for want := len(open) * (MaxBody - freeBody); ; time.Sleep(time.Millisecond) {
		h.bodies.mu.Lock()
		total := h.bodies.total
		h.bodies.mu.Unlock()
		if total == want {
			break
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d bytes are counted, want %d", total, want)
		}
	}
	if refused := post(stranger, strings.NewReader(large())); refused == nil || refused.httpStatus != http.StatusServiceUnavailable {
		t.Errorf("one more large body of the same source: %+v", refused)
	}
	if refused := post(stranger, strings.NewReader("a=b")); refused != nil {
		t.Errorf("a small body beside them: %+v", refused)
	}
	if refused := post("192.0.2.2:1", strings.NewReader(large())); refused != nil {
		t.Errorf("a large body from elsewhere: %+v", refused)
	}
	for _, out := range open {
		out.Close()
		if refused := <-ended; refused != nil {
			t.Errorf("a body that ended: %+v", refused)
		}
	}
	if refused := post(stranger, bytes.NewReader([]byte(large()))); refused != nil {
		t.Errorf("a large body when the others have ended: %+v", refused)
	}
	if h.bodies.total != 0 || len(h.bodies.bySource) != 0 {
		t.Errorf("%d bytes are counted, of %d sources", h.bodies.total, len(h.bodies.bySource))
	}
	if s := h.bodies.share(netip.MustParseAddr("::1")); !s.take(freeBody) || s.taken != 0 {
		t.Error("what is free is counted")
	}
}

// TestOtherOrigins: a browser that another site's page has send a request says
// so by one of two headers.
func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{
		"": true, "https://gw.example:4443": true, "https://evil.example": false, "http://gw.example:4443": false, "null": false, "https://gw.example": false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/?type=version", nil)
		r.Host = "gw.example:4443"
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if _, refused := New(Options{}).read(httptest.NewRecorder(), r); (refused == nil) != want {
			t.Errorf("origin %q: %+v", origin, refused)
		}
	}
}
