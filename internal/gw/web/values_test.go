package web

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"moongate/internal/gw/mgmt"
)

// beside checks that a page says something beside a field, and that the field
// still has what was typed.
func beside(t *testing.T, body, field, typed string, wants ...string) {
	t.Helper()
	m := regexp.MustCompile(`(?s)<p class="wrong" id="e-` + regexp.QuoteMeta(field) + `"[^>]*>(.*?)</p>`).FindStringSubmatch(body)
	if m == nil {
		t.Errorf("nothing is said beside %s\n%s", field, body)
		return
	}
	for _, want := range wants {
		if !strings.Contains(m[1], want) {
			t.Errorf("beside %s it says %q, want %q", field, m[1], want)
		}
	}
	if typed != "" && !strings.Contains(body, `value="`+typed+`"`) {
		t.Errorf("%s: what was typed, %q, is lost", field, typed)
	}
}

// TestBadValues are the administrator's guide's own limits: each is told beside
// its field, and nothing that was typed is lost.
func TestBadValues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("admin")
	provider := hsmPage + "/provider"
	long := strings.Repeat("x", 32)
	servers := func(n int, more ...string) []string {
		form := []string{"provider", "safenet-network", "servers", fmt.Sprint(n), "client-version", "automatic"}
		for i := range n {
			form = append(form, row("server-name", i), fmt.Sprintf("hsm%d", i), row("server-address", i), fmt.Sprintf("192.0.2.%d", i+1))
		}
		return append(form, more...)
	}
	send := func(form []string) string {
		t.Helper()
		res, body := b.post(provider, form...)
		if res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d\n%s", form, res.StatusCode, body)
		}
		return body
	}
	beside(t, send([]string{"provider", "safenet-network", "servers", "1", "server-name-0", long, "server-address-0", "192.0.2.1"}), "server-name-0", long, "32 characters", "at most 31")
	beside(t, send([]string{"provider", "safenet-network", "servers", "1", "server-name-0", "hsm", "server-address-0", "not an address"}), "server-address-0", "not an address", "not an address")
	beside(t, send(servers(1, "port-0", "70000")), "port-0", "70000", "70000")
	beside(t, send(servers(2, "ha", "yes", "auto-recovery-retry", "501", "ha-group-name", "group")), "auto-recovery-retry", "501", "501", "0 to 500")
	beside(t, send(servers(2, "ha", "yes", "auto-recovery-retry", "0", "ha-group-name", long)), "ha-group-name", long, "at most 31")
	beside(t, send(servers(17, "ha", "yes", "auto-recovery-retry", "0", "ha-group-name", "group")), "servers", "192.0.2.17", "17 servers", "at most 16")
	beside(t, send(servers(1, "ha", "yes", "auto-recovery-retry", "0", "ha-group-name", "group")), "ha", "", "2 to 16")
	if _, body := b.get("/commit"); !strings.Contains(body, "Nothing to commit") {
		t.Error("something was changed")
	}

	masterKey := masterKeyPage + "/edit"
	for _, test := range []struct {
		field, typed string
		form         []string
		want         string
	}{
		{"lifetime", "731", []string{"lifetime", "731", "reminder", "1"}, "1 to 730"},
		{"reminder", "366", []string{"lifetime", "730", "reminder", "366"}, "1 to 365"},
		{"reminder", "20", []string{"lifetime", "10", "reminder", "20"}, "at most the life time of 10"},
		{"new", "", []string{"new", "short", "confirm", "short", "lifetime", "10", "reminder", "1"}, "5 characters, expected 16"},
		{"confirm", "", []string{"new", "0123456789abcdef", "confirm", "0123456789abcdeX", "lifetime", "10", "reminder", "1"}, "not the same"},
	} {
		res, body := b.post(masterKey, test.form...)
		if res.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%q: %d", test.form, res.StatusCode)
		}
		beside(t, body, test.field, test.typed, test.want)
		if strings.Contains(body, "0123456789abcde") {
			t.Error("a secret is in the page again")
		}
	}

	// What is no CA's, or has expired, is no forward-trust certificate.
	must(t, w.GenerateCertificate(t.Context(), as("admin"), mgmt.GenerateRequest{Name: "leaf", CommonName: "leaf.example", Algorithm: "ECDSA"}))
	res, body := b.post(certificatesPage+"/show/leaf", "forward-trust", "yes")
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a leaf as a forward CA: %d", res.StatusCode)
	}
	beside(t, body, "forward-trust", "", "no CA", "cmu selfSign")
	res, body = b.upload(certificatesPage+"/import", "file", "x.pem", []byte("no certificate"), "name", "x", "format", "pem")
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a file that is no certificate: %d", res.StatusCode)
	}
	beside(t, body, "file", "", "PEM")
}

// TestAddServers: Add and Delete change the form, and keep what was typed.
func TestAddServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("admin")
	provider := hsmPage + "/provider"
	_, body := b.post(provider, "provider", "safenet-network", "servers", "1", "server-name-0", "one", "server-address-0", "192.0.2.1", "act", "add")
	if !strings.Contains(body, `name="server-name-1"`) || !strings.Contains(body, `value="192.0.2.1"`) {
		t.Fatalf("after Add:\n%s", body)
	}
	_, body = b.post(provider, "provider", "safenet-network", "servers", "2", "server-name-0", "one", "server-address-0", "192.0.2.1", "server-name-1", "two", "server-address-1", "192.0.2.2", "act", "delete-0")
	if strings.Contains(body, `name="server-name-1"`) || !strings.Contains(body, `value="two"`) {
		t.Fatalf("after Delete:\n%s", body)
	}
	res, _ := b.post(provider, "provider", "safenet-network", "servers", "2", "server-name-0", "one", "server-address-0", "192.0.2.1", "server-name-1", "two", "server-address-1", "192.0.2.2",
		"ha", "yes", "auto-recovery-retry", "3", "ha-group-name", "group", "client-version", "automatic")
	if res.StatusCode != http.StatusSeeOther {
		t.Fatalf("OK: %d", res.StatusCode)
	}
	b.says("the page afterwards", 200, "Server one", "Server two", "192.0.2.2, port 1792", "group", "Commit to use it")(b.get(hsmPage))
	_, body = b.get("/commit/pending")
	if !strings.Contains(body, "Commit (") {
		t.Errorf("the pending changes: %s", body)
	}
}
