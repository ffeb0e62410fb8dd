package web

import (
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/mgmt"
)

// TestClientPage: it is not there until it is switched on, and then gives the
// CAs and a PAC file to everybody.
func TestClientPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	anybody := w.browser()
	for _, path := range []string{clientsPage, clientsPage + "/proxy.pac", clientsPage + "/forward-trust-ecdsa.crt"} {
		if res, _ := anybody.get(path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s before it is switched on: %d", path, res.StatusCode)
		}
	}
	must(t, w.GenerateCertificate(ctx, as("admin"), mgmt.GenerateRequest{Name: "ca", CommonName: "The CA <b>", Algorithm: "ECDSA", CA: true}))
	for path, value := range map[string]string{
		decryptPath + "/forward-trust-certificate/ecdsa": "ca", settingPath + "/management/client-page": "yes",
	} {
		edit, err := config.SetEdit(path, value)
		must(t, err)
		must(t, w.Change(ctx, as("admin"), edit))
	}
	id, err := w.Commit(ctx, as("admin"), mgmt.CommitRequest{})
	must(t, err)
	job, err := w.WaitJob(ctx, as("admin"), id, nil)
	must(t, err)
	if job.Result != jobs.Succeeded {
		t.Fatalf("the commit: %+v", job)
	}
	_, body := anybody.get(clientsPage)
	if !strings.Contains(body, "ECDSA certificate authority") || strings.Contains(body, "The CA <b>") || strings.Contains(body, "/commit") {
		t.Errorf("the page:\n%s", body)
	}
	res, der := anybody.get(clientsPage + "/forward-trust-ecdsa.crt")
	cert, err := x509.ParseCertificate([]byte(der))
	if err != nil || cert.Subject.CommonName != "The CA <b>" || res.Header.Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("the CA: %v, %s", err, res.Header.Get("Content-Type"))
	}
	if res, text := anybody.get(clientsPage + "/forward-trust-ecdsa.pem"); res.StatusCode != 200 || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("the CA in PEM: %d", res.StatusCode)
	}
	if res, _ := anybody.get(clientsPage + "/ca.key"); res.StatusCode != http.StatusNotFound {
		t.Errorf("another file: %d", res.StatusCode)
	}
	if plainHost(`a"; alert(1); "`) || !plainHost("gw.example:8080") || !plainHost("[2001:db8::1]:8080") {
		t.Error("what may stand in a PAC file")
	}
}
