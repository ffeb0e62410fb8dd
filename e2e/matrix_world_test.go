package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/api"
	gatewaycli "moongate/internal/gw/cli"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/mgmt/mgmttest"
	"moongate/internal/sshd"
)

// matrixWorld is a gateway's management behind the real handler of its API and
// the real server of its command line.
type matrixWorld struct {
	*mgmttest.World
	t       *testing.T
	api     *httptest.Server
	ssh     string
	clients map[string]*ssh.Client
	keys    map[string]string
	hosts   int // how many host names were set
}

// Paths of the configuration that the cells change.
const (
	systemPath = config.DevicePath + "/deviceconfig/system"
	rulesPath  = config.VsysPath + "/rulebase/decryption/rules"
	rulePath   = rulesPath + "/entry[@name='one']"
	usersPath  = "/config/mgt-config/users"
)

func newMatrixWorld(t *testing.T) *matrixWorld {
	t.Helper()
	w := &matrixWorld{World: mgmttest.New(t), t: t, clients: map[string]*ssh.Client{}, keys: map[string]string{}}
	logger := slog.New(slog.DiscardHandler)
	handler := api.New(api.Options{Manager: w.Manager, Logger: logger, Now: w.Now})
	mux := http.NewServeMux()
	for _, path := range api.Paths {
		mux.Handle(path, handler)
	}
	w.api = httptest.NewTLSServer(mux)
	t.Cleanup(w.api.Close)

	door, err := gatewaycli.New(gatewaycli.Options{Manager: w.Manager, Logger: logger, Version: "1.2.3", Hostname: w.Hostname})
	must(t, err)
	hostKeys, err := sshd.HostKeys(t.TempDir())
	must(t, err)
	server, err := sshd.New(sshd.Options{HostKeys: hostKeys, Authenticator: door, Logger: logger})
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w.ssh = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		for _, c := range w.clients {
			c.Close()
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.furnish()
	return w
}

// console is the caller that arranges what a cell needs.
var console = mgmt.AtConsole()

// furnish commits what the cells look at: a CA with a key in software, two
// rules, a host name.
func (w *matrixWorld) furnish() {
	w.t.Helper()
	must(w.t, w.GenerateCertificate(w.t.Context(), console, mgmt.GenerateRequest{
		Name: "ca", CommonName: "ca", Algorithm: "ECDSA", Bits: 256, CA: true, Days: 30}))
	w.edit("gw",
		rulePath+"/action", "no-decrypt", rulePath+"/type/ssl-forward-proxy", "",
		rulesPath+"/entry[@name='two']/action", "no-decrypt", rulesPath+"/entry[@name='two']/type/ssl-forward-proxy", "")
	w.commit()
}

// edit sets the host name, and other paths, in the candidate.
func (w *matrixWorld) edit(host string, more ...string) {
	w.t.Helper()
	more = append(more, systemPath+"/hostname", host)
	for i := 0; i+1 < len(more); i += 2 {
		var values []string
		if more[i+1] != "" {
			values = []string{more[i+1]}
		}
		e, err := config.SetEdit(more[i], values...)
		must(w.t, err)
		must(w.t, w.Change(w.t.Context(), console, e))
	}
}

// another gives the candidate a host name that it never had.
func (w *matrixWorld) another() {
	w.hosts++
	w.edit(fmt.Sprintf("gw-%d", w.hosts))
}

func (w *matrixWorld) commit() {
	w.t.Helper()
	id, err := w.Commit(w.t.Context(), console, mgmt.CommitRequest{})
	must(w.t, err)
	w.job(id)
}

func (w *matrixWorld) job(id int) {
	w.t.Helper()
	_, err := w.WaitJob(w.t.Context(), console, id, nil)
	must(w.t, err)
}

// logQuery is a finished query of a log by somebody, who may fetch what it
// found. Who has not come in names any.
func (w *matrixWorld) logQuery(who visitor) string {
	w.t.Helper()
	if who.role == "" {
		return "1"
	}
	_, answer := w.send(who, []string{"type", "log", "log-type", "config"}, nil)
	job := jobID.FindStringSubmatch(answer)
	if job == nil {
		w.t.Fatalf("no query of a log was begun: %s", answer)
	}
	return job[1]
}

// reset ends what an earlier cell left: changes, locks, a commit that waits.
func (w *matrixWorld) reset() {
	w.t.Helper()
	ctx := w.t.Context()
	locks, err := w.Locks(ctx, console)
	must(w.t, err)
	for _, l := range locks {
		must(w.t, w.Unlock(ctx, console, l.Kind, l.Admin))
	}
	if waits, err := w.PendingConfirm(ctx, console); err != nil || waits != nil {
		must(w.t, err)
		must(w.t, w.ConfirmCommit(ctx, console))
	}
	if changes, err := w.Diff(ctx, console); err != nil || len(changes) > 0 {
		must(w.t, err)
		must(w.t, w.Revert(ctx, console))
	}
}

// state is everything that an administrator can change by an operation, except
// API keys, figures and the master key.
func (w *matrixWorld) state() string {
	w.t.Helper()
	ctx := w.t.Context()
	candidate, err := w.ExportConfig(ctx, console, mgmt.Candidate)
	must(w.t, err)
	versions, err := w.Versions(ctx, console)
	must(w.t, err)
	locks, err := w.Locks(ctx, console)
	must(w.t, err)
	waits, err := w.PendingConfirm(ctx, console)
	must(w.t, err)
	return fmt.Sprint(string(candidate), len(versions), locks, waits)
}

// key is an API key of an account, made without the work of a password.
func (w *matrixWorld) key(name string) string {
	w.t.Helper()
	if w.keys[name] == "" {
		key, err := w.KeyGen(w.t.Context(), mgmt.Caller{Identity: admin.Identity{Name: name, Role: mgmttest.People[name]}, Via: mgmt.API})
		must(w.t, err)
		w.keys[name] = key
	}
	return w.keys[name]
}

// send sends a request to the API as somebody. Each failure to log in is
// forgiven before the next one.
func (w *matrixWorld) send(who visitor, params []string, file []byte) (int, string) {
	w.t.Helper()
	w.Advance(time.Minute)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	plain := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		value := params[i+1]
		switch {
		case value == "{log}":
			value = w.logQuery(who)
		case value == "{user}":
			value = who.account
		case value == "{password}" && who.role == "":
			value = who.credential
		case value == "{password}":
			value = mgmttest.Password
		}
		if value == "" {
			continue
		}
		plain.Set(params[i], value)
		must(w.t, form.WriteField(params[i], value))
	}
	content, kind := io.Reader(strings.NewReader(plain.Encode())), "application/x-www-form-urlencoded"
	if file != nil {
		part, err := form.CreateFormFile("file", "file")
		must(w.t, err)
		part.Write(file) // to memory
		form.Close()     // to memory
		content, kind = &body, form.FormDataContentType()
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.api.URL+"/api/", content)
	must(w.t, err)
	r.Header.Set("Content-Type", kind)
	switch {
	case who.role != "":
		r.Header.Set("X-PAN-KEY", w.key(who.account))
	case who.credential != "":
		r.Header.Set("X-PAN-KEY", who.credential)
	}
	resp, err := w.api.Client().Do(r)
	must(w.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(w.t, err)
	if job := jobID.FindSubmatch(answer); job != nil {
		id, err := strconv.Atoi(string(job[1]))
		must(w.t, err)
		w.job(id)
	}
	return resp.StatusCode, string(answer)
}

var jobID = regexp.MustCompile(`enqueued with jobid (\d+)`)

// dial logs in to the command line.
func (w *matrixWorld) dial(who visitor) (*ssh.Client, error) {
	c := &ssh.ClientConfig{User: who.account, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second}
	switch {
	case who.role != "":
		c.Auth = []ssh.AuthMethod{ssh.Password(mgmttest.Password)}
	case who.credential != "": // some key; passwords are work
		_, key, err := ed25519.GenerateKey(rand.Reader)
		must(w.t, err)
		signer, err := ssh.NewSignerFromKey(key)
		must(w.t, err)
		c.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	}
	return ssh.Dial("tcp", w.ssh, c)
}

// types gives the command line a script and returns what it prints.
func (w *matrixWorld) types(who visitor, lines []string) string {
	w.t.Helper()
	c := w.clients[who.account]
	if c == nil {
		var err error
		c, err = w.dial(who)
		must(w.t, err)
		w.clients[who.account] = c
	}
	s, err := c.NewSession()
	must(w.t, err)
	defer s.Close()
	s.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var out bytes.Buffer
	s.Stdout = &out
	must(w.t, s.Shell())
	if err := s.Wait(); err != nil {
		if _, ended := err.(*ssh.ExitError); !ended {
			w.t.Fatalf("%q: %v", lines, err)
		}
	}
	return out.String()
}
