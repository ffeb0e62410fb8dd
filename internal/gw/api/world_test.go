package api

import (
	"bytes"
	"encoding/xml"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/mgmt/mgmttest"
)

const (
	rulesPath    = config.VsysPath + "/rulebase/decryption/rules"
	hostnamePath = config.DevicePath + "/deviceconfig/system/hostname"
	rulePath     = rulesPath + "/entry[@name='one']"
)

// world is a gateway's management behind the API, served over TLS.
type world struct {
	*mgmttest.World
	t      *testing.T
	server *httptest.Server
	keys   map[string]string
	log    *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: mgmttest.New(t), t: t, keys: map[string]string{}, log: &bytes.Buffer{}}
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h := New(Options{Manager: w.Manager, Logger: logger, Now: w.Now})
	mux := http.NewServeMux()
	for _, path := range Paths {
		mux.Handle(path, h)
	}
	w.server = httptest.NewTLSServer(mux)
	t.Cleanup(w.server.Close)
	return w
}

// do sends a request and returns its answer.
func (w *world) do(r *http.Request) (*http.Response, string) {
	w.t.Helper()
	client := *w.server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(body)
}

// request makes a POST of a form; params are names and values in turn.
func (w *world) request(params ...string) *http.Request {
	w.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+"/api/", strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// key is an API key of an administrator, made without the work of a password.
func (w *world) key(name string) string {
	w.t.Helper()
	if w.keys[name] == "" {
		caller := mgmt.Caller{Identity: admin.Identity{Name: name, Role: mgmttest.People[name]}, Via: mgmt.API}
		key, err := w.KeyGen(w.t.Context(), caller)
		if err != nil {
			w.t.Fatal(err)
		}
		w.keys[name] = key
	}
	return w.keys[name]
}

// as sends a request with an administrator's key and returns the body.
func (w *world) as(name string, params ...string) string {
	w.t.Helper()
	r := w.request(params...)
	r.Header.Set("X-PAN-KEY", w.key(name))
	_, body := w.do(r)
	return body
}

func (w *world) want(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

// set sets the host name, and expects success.
func (w *world) set(name string) {
	w.t.Helper()
	w.want("set", w.as("admin", "type", "config", "action", "set", "xpath", config.DevicePath+"/deviceconfig/system",
		"element", "<hostname>"+name+"</hostname>"), done)
}

const done = `<response status="success" code="20"><msg>command succeeded</msg></response>`

// commit commits and waits for the job; it returns the job's last answer.
func (w *world) commit() string {
	w.t.Helper()
	body := w.as("admin", "type", "commit", "cmd", "<commit></commit>")
	found := regexp.MustCompile(`<job>(\d+)</job>`).FindStringSubmatch(body)
	if found == nil {
		w.t.Fatalf("commit: %s", body)
	}
	return w.finished(found[1])
}

// finished polls a job until it is finished.
func (w *world) finished(id string) string {
	w.t.Helper()
	for range 500 {
		body := w.as("admin", "type", "op", "cmd", "<show><jobs><id>"+id+"</id></jobs></show>")
		if strings.Contains(body, "<status>FIN</status>") {
			return body
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("job %s does not end", id)
	return ""
}

// upload makes a multipart POST with a file.
func (w *world) upload(file []byte, params ...string) *http.Request {
	w.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for i := 0; i+1 < len(params); i += 2 {
		if err := form.WriteField(params[i], params[i+1]); err != nil {
			w.t.Fatal(err)
		}
	}
	if file != nil {
		part, err := form.CreateFormFile("file", "file.pem")
		if err != nil {
			w.t.Fatal(err)
		}
		part.Write(file) // to memory
	}
	form.Close() // to memory
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.URL+"/api/", &b)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r
}

// children lists the names of the children of the first element of a name.
func children(t *testing.T, body, of string) []string {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(body))
	depth, at := 0, -1
	var names []string
	for {
		token, err := dec.Token()
		if err != nil {
			t.Fatalf("%v in %s: no <%s>", err, body, of)
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			if at >= 0 && depth == at+1 {
				names = append(names, e.Name.Local)
			}
			if at < 0 && e.Name.Local == of {
				at = depth
			}
		case xml.EndElement:
			if depth == at {
				return names
			}
			depth--
		}
	}
}
