package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// TestHeaders: every answer says that it is framed by nobody, asks no other
// host for anything, and is not kept.
func TestHeaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("admin")
	for _, path := range []string{"/login", "/device/setup/hsm", "/nowhere", "/assets/nowhere", "/commit/pending"} {
		res, _ := b.get(path)
		policy := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy %q lacks %q", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

// TestOtherSites: a form that does not come from a page of this session changes
// nothing, whatever the browser was made to send.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("admin")
	form := func(token string) string {
		return url.Values{"token": {token}, "kind": {"config"}, "act": {"take"}}.Encode()
	}
	for name, change := range map[string]struct {
		token  string
		header [2]string
	}{
		"no token":                {"", [2]string{}},
		"another token":           {strings.Repeat("A", 26), [2]string{}},
		"another site":            {b.token, [2]string{"Sec-Fetch-Site", "cross-site"}},
		"another site's origin":   {b.token, [2]string{"Origin", "https://evil.example"}},
		"a page of another port":  {b.token, [2]string{"Sec-Fetch-Site", "same-site"}},
		"a sandboxed page's null": {b.token, [2]string{"Origin", "null"}},
	} {
		req := b.request(http.MethodPost, "/commit/lock", strings.NewReader(form(change.token)))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if change.header[0] != "" {
			req.Header.Set(change.header[0], change.header[1])
		}
		if res, body := b.do(req); res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d\n%s", name, res.StatusCode, body)
		}
	}
	if _, body := b.get("/commit"); !strings.Contains(body, "Nobody holds a lock") {
		t.Error("a lock was taken")
	}
	if res, body := b.post("/commit/lock", "kind", "config", "act", "take"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("one's own form: %d\n%s", res.StatusCode, body)
	}
	// A request that only looks must change nothing: what changes is POST alone.
	for _, path := range []string{"/logout", "/commit/revert", "/commit/confirm", hsmPage + "/reset"} {
		if res, _ := b.get(path); res.StatusCode == http.StatusOK || res.StatusCode == http.StatusSeeOther {
			t.Errorf("GET %s answers %d", path, res.StatusCode)
		}
	}
}

// TestSessions: a session begins with a name of its own, ends, and ages.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// A name that somebody planted in the browser opens nothing, and is not taken.
	b := w.browser()
	at, err := url.Parse(w.server.URL)
	must(t, err)
	planted := strings.Repeat("B", 26)
	b.http.Jar.SetCookies(at, []*http.Cookie{{Name: cookieName, Value: planted, Path: "/", Secure: true}})
	if res, _ := b.get("/commit"); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/login?next=") {
		t.Errorf("a planted session: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	res, _ := b.post("/login", "user", "admin", "password", "a password of theirs", "next", "/commit")
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "/commit" {
		t.Fatalf("logging in: %d %s", res.StatusCode, res.Header.Get("Location"))
	}
	cookie := res.Cookies()[0]
	if cookie.Value == planted || len(cookie.Value) < 26 || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("the cookie is %+v", cookie)
	}
	// A second login ends the first session.
	first := w.login("admin")
	firstCookies := first.http.Jar.Cookies(at)
	if res, _ := first.post("/login", "user", "reader", "password", "a password of theirs"); res.StatusCode != http.StatusSeeOther {
		t.Fatal("logging in anew")
	}
	thief := w.browser()
	thief.http.Jar.SetCookies(at, firstCookies)
	if res, _ := thief.get("/commit"); res.StatusCode != http.StatusSeeOther {
		t.Errorf("the session before the second login is open: %d", res.StatusCode)
	}
	// Log out.
	out := w.login("admin")
	kept := out.http.Jar.Cookies(at)
	if res, _ := out.post("/logout"); res.StatusCode != http.StatusSeeOther {
		t.Error("logging out")
	}
	out.http.Jar.SetCookies(at, kept)
	if res, _ := out.get("/commit"); res.StatusCode != http.StatusSeeOther {
		t.Error("after the log-out the session is open")
	}
	// One administrator's many sessions push out his own, and nobody else's.
	other := w.login("second")
	for range maxOwn + 1 {
		name, _ := w.web.sessions.begin(as("device"), w.Enter(as("device")))
		if name == "" {
			t.Fatal("no session")
		}
	}
	own := 0
	for _, s := range w.web.sessions.open {
		if s.caller.Name == "device" {
			own++
		}
	}
	if res, _ := other.get("/commit"); res.StatusCode != http.StatusOK || own != maxOwn {
		t.Errorf("after %d sessions of one administrator he has %d, another's answers %d", maxOwn+1, own, res.StatusCode)
	}
	// Idle: what a page asks for by itself does not count.
	idle := w.login("admin")
	for range 4 {
		w.Advance(20 * time.Minute)
		req := idle.request(http.MethodGet, "/commit/pending", nil)
		req.Header.Set("X-Live", "1")
		idle.do(req)
	}
	if res, _ := idle.get("/commit"); res.StatusCode != http.StatusSeeOther {
		t.Error("an idle session is open after 80 minutes")
	}
	busy := w.login("admin")
	for range 100 {
		w.Advance(10 * time.Minute)
		busy.get("/commit/pending")
	}
	if res, _ := busy.get("/commit"); res.StatusCode != http.StatusSeeOther {
		t.Error("a busy session is open after 16 hours")
	}
	// A password that is changed ends the sessions that were opened by the old one.
	stale := w.login("device")
	must(t, w.SetPassword(t.Context(), as("device"), "device", []byte("another password")))
	id, err := w.Commit(t.Context(), as("admin"), mgmt.CommitRequest{})
	must(t, err)
	_, err = w.WaitJob(t.Context(), as("admin"), id, nil)
	must(t, err)
	if res, _ := stale.get("/commit"); res.StatusCode != http.StatusSeeOther || !strings.HasPrefix(res.Header.Get("Location"), "/login") {
		t.Errorf("after the password was changed the session answers %d", res.StatusCode)
	}
	// Wrong passwords, and where a login may lead.
	for next, want := range map[string]string{"https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "/commit?x=1": "/commit?x=1", "javascript:alert(1)": "/", "": "/"} {
		if got := here(next); got != want {
			t.Errorf("after a login to %q the browser goes to %q, want %q", next, got, want)
		}
	}
	w.browser().says("a wrong password", http.StatusForbidden, "Invalid Credential")(w.browser().post("/login", "user", "admin", "password", "wrong"))
}

// TestXSS: whatever an administrator, a file, a log or a client brings is text.
func TestXSS(t *testing.T) {
	t.Parallel()
	evil := `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	w := newWorld(t)
	b := w.login("admin")
	check := func(what, body string) {
		t.Helper()
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || strings.Contains(body, `"'><`) {
			t.Errorf("%s: it came through as HTML\n%s", what, body)
		}
	}
	for _, path := range []string{
		"/login?next=" + url.QueryEscape(evil), "/monitor/decryption?filter=" + url.QueryEscape(evil), "/policies/decryption?filter=" + url.QueryEscape(evil),
		"/policies/test?host=" + url.QueryEscape(evil), "/device/certificates/show/" + url.PathEscape(evil), "/monitor/sessions?filter=" + url.QueryEscape(evil),
		"/device/setup/hsm/server/" + url.PathEscape(evil), "/job/" + url.PathEscape(evil), "/device/configuration?from=" + url.QueryEscape(evil) + "&to=running",
		"/device/setup/hsm/authenticate?server=" + url.QueryEscape(evil), "/device/setup/hsm/group/" + url.PathEscape(evil),
	} {
		_, body := b.get(path)
		check(path, body)
	}
	_, body := b.post("/login", "user", evil, "password", "x")
	check("the name of a login", body)
	for _, form := range [][]string{
		{hsmPage + "/provider", "provider", "safenet-network", "servers", "1", "server-name-0", evil, "server-address-0", evil},
		{administratorsPage + "/add", "name", evil, "role", "superreader"}, {profilesPage + "/add", "name", evil},
		{rulesPage + "/add", "name", evil, "type", "ssl-forward-proxy", "action", "decrypt", "source", evil},
		{"/commit", "description", evil},
	} {
		_, body := b.post(form[0], form[1:]...)
		check(form[0], body)
	}
	// What is stored is shown as text, too: descriptions, comments, logs.
	must(t, w.Change(t.Context(), as("admin"), config.Edit{Op: config.OpSet, Path: rulesPath, Elements: []*config.Node{
		namedEntry("one", leaf("action", "decrypt"), leaf("description", evil))}}))
	b.post("/commit/lock", "kind", "commit", "act", "take", "comment", evil)
	for _, path := range []string{"/commit", rulesPage, rulesPage + "/edit/one", "/monitor/config", "/monitor/system"} {
		_, body := b.get(path)
		check(path, body)
	}
}

// TestTraversal: no path leads out of the assets.
func TestTraversal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/assets/../web.go", "/assets/..%2f..%2fweb.go", "/assets/%2e%2e/%2e%2e/etc/passwd", "/assets//etc/passwd", "/assets/"} {
		res, body := w.browser().get(path)
		if strings.Contains(body, "package web") || strings.Contains(body, "root:") {
			t.Errorf("%s answers %d\n%.200s", path, res.StatusCode, body)
		}
	}
	if res, body := w.browser().get("/assets/style.css"); res.StatusCode != 200 || !strings.Contains(body, "--paper") {
		t.Errorf("the style: %d", res.StatusCode)
	}
}

// TestRoles: a reader sees no button that would be refused, and what he sends
// all the same is refused.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	admin, reader := w.login("admin"), w.login("reader")
	for path, button := range map[string]string{
		hsmPage: ">Edit<", certificatesPage: ">Import<", rulesPage: ">Add<", profilesPage: ">Add<", administratorsPage: ">Add<", masterKeyPage: ">Edit<",
		servicesPage: ">Service Route Configuration</a>", managementPage: ">Edit<", configurationPage: ">Import<",
	} {
		if _, body := admin.get(path); !strings.Contains(body, button) {
			t.Errorf("%s: an administrator does not see %s", path, button)
		}
		if res, body := reader.get(path); res.StatusCode != 200 || strings.Contains(body, button) {
			t.Errorf("%s: a reader sees %s (%d)", path, button, res.StatusCode)
		}
	}
	for path, form := range map[string][]string{
		hsmPage + "/provider": {"provider", "none"}, rulesPage + "/add": {"name", "r", "type", "ssl-forward-proxy", "action", "decrypt"},
		"/commit": {"description", "x"}, "/commit/revert": nil, administratorsPage + "/add": {"name", "x", "role", "superuser"},
		masterKeyPage + "/edit": {"new", "0123456789abcdef", "confirm", "0123456789abcdef", "lifetime", "10", "reminder", "1"},
		hsmPage + "/partition":  {"password", "a password of it"}, configurationPage + "/load": {"version", "1"},
	} {
		res, body := reader.post(path, form...)
		if res.StatusCode == http.StatusSeeOther {
			_, body = reader.get(res.Header.Get("Location"))
		}
		if !strings.Contains(body, "superreader may not") {
			t.Errorf("a reader's %s: %d\n%s", path, res.StatusCode, body)
		}
	}
}
