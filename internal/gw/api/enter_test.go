package api

import (
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/mgmt/mgmttest"
)

const forbidden = `<response status="error" code="403"><result><msg>Invalid Credential</msg></result></response>`

// TestCredentials has every way in, and every way to be kept out.
func TestCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, body := w.do(w.request("type", "keygen", "user", "admin", "password", mgmttest.Password))
	found := regexp.MustCompile(`^<response status="success"><result><key>([^<]{20,})</key></result></response>$`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("keygen: %s", body)
	}
	key := found[1]
	version := func(change func(*http.Request)) (int, string) {
		r := w.request("type", "version")
		change(r)
		resp, body := w.do(r)
		return resp.StatusCode, body
	}
	in := map[string]func(*http.Request){
		"header": func(r *http.Request) { r.Header.Set("X-PAN-KEY", key) },
		"form": func(r *http.Request) {
			*r = *w.request("type", "version", "key", key)
		},
		"query": func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0
			r.URL.RawQuery = url.Values{"type": {"version"}, "key": {key}}.Encode()
		},
		"basic": func(r *http.Request) { r.SetBasicAuth("admin", mgmttest.Password) },
	}
	for name, change := range in {
		status, body := version(change)
		if status != http.StatusOK || !strings.HasPrefix(body, `<response status="success"><result><sw-version>11.1.0</sw-version>`) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	out := map[string]func(*http.Request){
		"nothing":        func(*http.Request) {},
		"a wrong key":    func(r *http.Request) { r.Header.Set("X-PAN-KEY", key[:len(key)-1]+"x") },
		"an empty key":   func(r *http.Request) { r.Header.Set("X-PAN-KEY", "") },
		"a wrong user":   func(r *http.Request) { r.SetBasicAuth("nobody", mgmttest.Password) },
		"no password":    func(r *http.Request) { r.SetBasicAuth("admin", "") },
		"wrong password": func(r *http.Request) { r.SetBasicAuth("admin", "wrong") },
		"wrong keygen":   func(r *http.Request) { *r = *w.request("type", "keygen", "user", "second", "password", "wrong") },
		"keygen by key": func(r *http.Request) {
			*r = *w.request("type", "keygen", "key", key)
		},
	}
	for name, change := range out {
		status, body := version(change)
		if status != http.StatusForbidden || body != forbidden {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if strings.Contains(w.log.String(), key) || strings.Contains(w.log.String(), mgmttest.Password) || !strings.Contains(w.log.String(), "API request") {
		t.Errorf("the log holds a credential, or nothing:\n%s", w.log)
	}
}

// TestManyFailures: who fails too often waits, and others do not.
func TestManyFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key("admin")
	var resp *http.Response
	var body string
	for range 4 * maxFailures { // some are forgiven meanwhile
		r := w.request("type", "version")
		r.Header.Set("X-PAN-KEY", "wrong")
		if resp, body = w.do(r); resp.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "Too many failed logins") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	w.Advance(2 * forgiven)
	r := w.request("type", "version")
	r.Header.Set("X-PAN-KEY", key)
	if resp, body := w.do(r); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d %s", resp.StatusCode, body)
	}
}

func TestDoors(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDoors(func() time.Time { return now })
	bad, near, far := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:1::1")
	for range maxFailures {
		if _, free := d.knock(bad); !free {
			t.Fatal("shut too early")
		}
		d.failed(bad)
	}
	for addr, want := range map[netip.Addr]bool{bad: false, near: false, far: true, netip.MustParseAddr("192.0.2.1"): true} {
		if _, free := d.knock(addr); free != want {
			t.Errorf("%s: %v, want %v", addr, free, want)
		}
	}
	now = now.Add(forgiven)
	if _, free := d.knock(bad); !free {
		t.Error("nothing is forgiven")
	}
}

// TestRoles: a reader reads, a device administrator changes no administrator.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.want("reader gets", w.as("reader", "type", "config", "action", "get", "xpath", rulesPath), `<response status="success" code="7"><result/></response>`)
	denied := `<response status="error" code="15"><msg><line>`
	for what, send := range map[string][]string{
		"reader sets":              {"reader", "type", "config", "action", "set", "xpath", hostnamePath, "element", "<hostname>x</hostname>"},
		"reader commits":           {"reader", "type", "commit", "cmd", "<commit/>"},
		"reader imports":           {"reader", "type", "op", "cmd", "<request><certificate><revoke><certificate-name>x</certificate-name></revoke></certificate></request>"},
		"reader clears":            {"reader", "type", "op", "cmd", "<clear><session><all/></session></clear>"},
		"device admin's accounts":  {"device", "type", "config", "action", "delete", "xpath", "/config/mgt-config/users/entry[@name='second']"},
		"device admin's master":    {"device", "type", "op", "cmd", "<request><master-key><new-master-key>0123456789abcdef</new-master-key><lifetime>24</lifetime></master-key></request>"},
		"device admin's passwords": {"device", "type", "op", "cmd", "<set><password><password>0123456789abcdef</password><admin>second</admin></password></set>"},
	} {
		if got := w.as(send[0], send[1:]...); !strings.HasPrefix(got, denied) {
			t.Errorf("%s: %s", what, got)
		}
	}
	got := w.as("admin", "type", "config", "action", "get", "xpath", "/config/mgt-config/users")
	if strings.Contains(got, "argon2") || !strings.Contains(got, "********") {
		t.Errorf("hashes are shown: %s", got)
	}
}
