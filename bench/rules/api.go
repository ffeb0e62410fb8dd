package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"time"

	"moongate/e2e/world"
	"moongate/internal/gw/daemon"
)

// api is a client of a gateway's XML API with an administrator's key.
type api struct {
	url  string
	key  string
	http *http.Client
}

// newAPI makes a key for the account admin. It trusts the certificate that the
// gateway made for itself.
func newAPI(ctx context.Context, g *world.Gateway) (*api, error) {
	own, err := os.ReadFile(daemon.In(g.Dir).WebCertificate())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(own) {
		return nil, errors.New("the gateway's own certificate is none")
	}
	a := &api{url: "https://" + g.Web + "/api/", http: &http.Client{
		Timeout: 5 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}}
	answer, err := a.ask(ctx, "type", "keygen", "user", "admin", "password", g.Admin)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	a.key = between(answer, "<key>", "</key>")
	if a.key == "" {
		return nil, errors.New("making a key: the answer has none")
	}
	return a, nil
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, there := strings.Cut(rest, after)
	if !there {
		return ""
	}
	return found
}

// ask sends parameters, each name with its value, as a multipart form, which
// leaves the elements as they are and so has room for the most rules. It
// returns an answer that is no error.
func (a *api) ask(ctx context.Context, params ...string) (string, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(params); i += 2 {
		if err := form.WriteField(params[i], params[i+1]); err != nil {
			return "", err
		}
	}
	if err := form.Close(); err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, &body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	if a.key != "" {
		request.Header.Set("X-PAN-KEY", a.key)
	}
	response, err := a.http.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(answer), `<response status="success"`) {
		return "", fmt.Errorf("refused: %.500s", answer)
	}
	return string(answer), nil
}

// change is one request that changes the candidate; action is set, edit or
// multi-config, which has its paths in the element.
func (a *api) change(ctx context.Context, action, xpath, element string) error {
	_, err := a.ask(ctx, "type", "config", "action", action, "xpath", xpath, "element", element, "strict-transactional", "yes")
	if err != nil {
		return fmt.Errorf("%s: %w", strings.TrimSpace(action+" "+xpath), err)
	}
	return nil
}

// commit commits and waits for the job's end.
func (a *api) commit(ctx context.Context) error {
	answer, err := a.ask(ctx, "type", "commit", "cmd", "<commit></commit>")
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	job := between(answer, "<job>", "</job>")
	if job == "" {
		return fmt.Errorf("commit: no job in %.500s", answer)
	}
	for {
		answer, err := a.ask(ctx, "type", "op", "cmd", "<show><jobs><id>"+job+"</id></jobs></show>")
		switch {
		case err != nil:
			return fmt.Errorf("commit: %w", err)
		case !strings.Contains(answer, "<status>FIN</status>"):
		case !strings.Contains(answer, "<result>OK</result>"):
			return fmt.Errorf("commit: %.500s", answer)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// poll is the time between two questions about a job, and so the most by which
// its time is overstated, beside what a question takes.
const poll = 5 * time.Millisecond

func (a *api) close() { a.http.CloseIdleConnections() }
