package web

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/mgmt/mgmttest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is the web UI over HTTPS before a management of real parts.
type world struct {
	*mgmttest.World
	t      *testing.T
	server *httptest.Server
	web    *Handler
}

func newWorld(t *testing.T, values ...string) *world {
	t.Helper()
	m := mgmttest.New(t, values...)
	h, err := New(Options{Manager: m.Manager, Logger: slog.New(slog.DiscardHandler), Version: "1.2.3", Now: m.Now})
	must(t, err)
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return &world{m, t, s, h}
}

// browser is a client with its cookies. It follows no redirection.
type browser struct {
	w    *world
	http *http.Client
	// token is that of the last page.
	token string
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	must(w.t, err)
	return &browser{w: w, http: &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// login is a browser of somebody who has logged in.
func (w *world) login(name string) *browser {
	w.t.Helper()
	b := w.browser()
	res, body := b.post("/login", "user", name, "password", mgmttest.Password)
	if res.StatusCode != http.StatusSeeOther {
		w.t.Fatalf("logging %s in: %d\n%s", name, res.StatusCode, body)
	}
	b.get("/commit")
	return b
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)

func (b *browser) do(req *http.Request) (*http.Response, string) {
	b.w.t.Helper()
	res, err := b.http.Do(req)
	must(b.w.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(b.w.t, err)
	if m := tokenField.FindSubmatch(body); m != nil {
		b.token = string(m[1])
	}
	return res, string(body)
}

func (b *browser) request(method, path string, body io.Reader) *http.Request {
	b.w.t.Helper()
	req, err := http.NewRequestWithContext(b.w.t.Context(), method, b.w.server.URL+path, body)
	must(b.w.t, err)
	return req
}

func (b *browser) get(path string) (*http.Response, string) {
	b.w.t.Helper()
	return b.do(b.request(http.MethodGet, path, nil))
}

// post sends a form of names and values, with the token.
func (b *browser) post(path string, pairs ...string) (*http.Response, string) {
	b.w.t.Helper()
	form := url.Values{}
	if b.token != "" {
		form.Set("token", b.token)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req := b.request(http.MethodPost, path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.do(req)
}

// upload is post with a file.
func (b *browser) upload(path, field, name string, content []byte, pairs ...string) (*http.Response, string) {
	b.w.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	must(b.w.t, form.WriteField("token", b.token))
	for i := 0; i+1 < len(pairs); i += 2 {
		must(b.w.t, form.WriteField(pairs[i], pairs[i+1]))
	}
	part, err := form.CreateFormFile(field, name)
	must(b.w.t, err)
	_, err = part.Write(content)
	must(b.w.t, err)
	must(b.w.t, form.Close())
	req := b.request(http.MethodPost, path, &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	return b.do(req)
}

// says checks an answer's status and what its page holds.
func (b *browser) says(what string, status int, wants ...string) func(*http.Response, string) {
	b.w.t.Helper()
	return func(res *http.Response, body string) {
		b.w.t.Helper()
		if res.StatusCode != status {
			b.w.t.Errorf("%s: %d, want %d\n%s", what, res.StatusCode, status, body)
			return
		}
		for _, want := range wants {
			if !strings.Contains(body, want) {
				b.w.t.Errorf("%s: the page lacks %q\n%s", what, want, body)
			}
		}
	}
}

// as is somebody who came in.
func as(name string) mgmt.Caller {
	return mgmt.Caller{Identity: admin.Identity{Name: name, Role: mgmttest.People[name]}, Via: mgmt.Web}
}
