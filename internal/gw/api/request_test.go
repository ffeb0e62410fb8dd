package api

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPaths: both paths take a POST without a redirect, others nothing.
func TestPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, want := range map[string]int{"/api": 200, "/api/": 200, "/api/x": 404, "/": 404, "//api": 307} {
		r := w.request("type", "version", "key", w.key("admin"))
		r.URL.Path = path
		resp, body := w.do(r)
		if resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	resp, _ := w.do(w.request("type", "version"))
	for name, want := range map[string]string{
		"Content-Type": "application/xml; charset=UTF-8", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestBadRequests: what is refused before anybody is let in.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		status int
		says   string
	}{
		{"method", func(r *http.Request) { r.Method = http.MethodPut }, 405, "GET or POST"},
		{"another site", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "other sites"},
		{"type of body", func(r *http.Request) { r.Header.Set("Content-Type", "application/json") }, 200, "application/json"},
		{"no type of body", func(r *http.Request) { r.Header.Del("Content-Type") }, 200, "Content-Type"},
		{"twice", func(r *http.Request) { r.URL.RawQuery = "type=op" }, 200, "given twice"},
		{"not UTF-8", func(r *http.Request) { r.URL.RawQuery = "a=%ff" }, 200, "no UTF-8"},
		{"too many", func(r *http.Request) { r.URL.RawQuery = strings.Repeat("x", 100) + "=1" }, 200, "longer than"},
		{"too large", func(r *http.Request) {
			body := "type=version&cmd=" + strings.Repeat("x", MaxBody)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		}, 413, "larger than"},
		{"too large a file", func(r *http.Request) { *r = *w.upload(bytes.Repeat([]byte("x"), MaxBody), "type", "import") }, 413, "larger than"},
		{"half a file", func(r *http.Request) {
			r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		}, 400, "no complete form"},
		{"unknown type", func(r *http.Request) { *r = *w.request("type", "reboot") }, 200, "reboot"},
	} {
		r := w.request("type", "version")
		test.change(r)
		resp, body := w.do(r)
		if resp.StatusCode != test.status || !strings.HasPrefix(body, `<response status="error" code="`) || !strings.Contains(body, test.says) {
			t.Errorf("%s: %d %s, want %d and %q in it", test.name, resp.StatusCode, body, test.status, test.says)
		}
	}
}

// FuzzRequest: whatever body comes, it is taken apart or refused, within bounds.
func FuzzRequest(f *testing.F) {
	f.Add("application/x-www-form-urlencoded", "type=op&cmd=%3Cshow%2F%3E", "key=x")
	f.Add("multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"type\"\r\n\r\nimport\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ndata\r\n--x--\r\n", "")
	h := New(Options{})
	f.Fuzz(func(t *testing.T, kind, body, query string) {
		r := httptest.NewRequest(http.MethodPost, "/api/", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", kind)
		req, refused := h.read(httptest.NewRecorder(), r)
		if refused == nil && (len(req.params) > maxParams || len(req.file) > len(body)) {
			t.Errorf("%d parameters, %d bytes of a file", len(req.params), len(req.file))
		}
	})
}
