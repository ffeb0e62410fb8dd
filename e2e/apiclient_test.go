package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"moongate/e2e/world"
	"moongate/internal/gw/daemon"
)

// xmlAPI is a client of a gateway's XML API with an administrator's key.
type xmlAPI struct {
	address string
	key     string
	http    *http.Client
}

// newXMLAPI makes a key for the account admin. It trusts the certificate that
// the gateway made for itself.
func newXMLAPI(t *testing.T, g *world.Gateway) *xmlAPI {
	t.Helper()
	own, err := os.ReadFile(daemon.In(g.Dir).WebCertificate())
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(own) {
		t.Fatal("the gateway's own certificate is none")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, DialContext: g.Host.Dial}
	t.Cleanup(transport.CloseIdleConnections)
	a := &xmlAPI{address: g.Web, http: &http.Client{Timeout: 60 * time.Second, Transport: transport}}
	answer, err := a.ask(t.Context(), "type", "keygen", "user", "admin", "password", g.Admin)
	must(t, err)
	a.key = between(answer, "<key>", "</key>")
	if a.key == "" {
		t.Fatalf("no key in %s", answer)
	}
	return a
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, there := strings.Cut(rest, after)
	if !there {
		return ""
	}
	return found
}

// errRefused is of an answer that says error: the gateway has decided.
var errRefused = errors.New("refused")

// ask sends parameters, in turn, and returns the answer.
func (a *xmlAPI) ask(ctx context.Context, params ...string) (string, error) {
	form := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.address+"/api/", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a.key != "" {
		r.Header.Set("X-PAN-KEY", a.key)
	}
	resp, err := a.http.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if strings.Contains(string(body), `<response status="error"`) {
		return "", fmt.Errorf("%w: %s", errRefused, body)
	}
	return string(body), nil
}

func (a *xmlAPI) set(ctx context.Context, xpath, element string) error {
	_, err := a.ask(ctx, "type", "config", "action", "set", "xpath", xpath, "element", element)
	return err
}

func (a *xmlAPI) delete(ctx context.Context, xpath string) error {
	_, err := a.ask(ctx, "type", "config", "action", "delete", "xpath", xpath)
	return err
}

func (a *xmlAPI) op(ctx context.Context, cmd string) (string, error) {
	return a.ask(ctx, "type", "op", "cmd", cmd)
}

// commit commits and waits for the job; what is the content of its command.
func (a *xmlAPI) commit(ctx context.Context, what string) error {
	answer, err := a.ask(ctx, "type", "commit", "cmd", "<commit>"+what+"</commit>")
	if err != nil {
		return err
	}
	job := between(answer, "<job>", "</job>")
	if job == "" {
		return fmt.Errorf("%w: no job in %s", errRefused, answer)
	}
	for {
		answer, err := a.op(ctx, "<show><jobs><id>"+job+"</id></jobs></show>")
		switch {
		case err != nil:
			return err
		case strings.Contains(answer, "<status>FIN</status>"):
			if !strings.Contains(answer, "<result>OK</result>") {
				return fmt.Errorf("%w: %s", errRefused, answer)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// hostname is the host name of a configuration: action get is the candidate's,
// show the running one's.
func (a *xmlAPI) hostname(ctx context.Context, action string) (string, error) {
	answer, err := a.ask(ctx, "type", "config", "action", action, "xpath", systemPath)
	return firstOf(hostnameElement, answer), err
}

var hostnameElement = regexp.MustCompile(`<hostname[^>]*>([^<]*)</hostname>`)

func firstOf(pattern *regexp.Regexp, text string) string {
	if found := pattern.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}
