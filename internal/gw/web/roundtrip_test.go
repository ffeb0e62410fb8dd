package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// formOn is what a browser would send of the form with that action, nothing
// being typed: the fields as the page has them.
func formOn(t *testing.T, page, action string) []string {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	must(t, err)
	var form *html.Node
	for n := range root.Descendants() {
		if n.Data == "form" && attr(n, "action") == action {
			form = n
		}
	}
	if form == nil {
		t.Fatalf("the page has no form to %s\n%s", action, page)
	}
	var pairs []string
	for n := range form.Descendants() {
		name := attr(n, "name")
		switch {
		case n.Type != html.ElementNode || name == "" || name == "token":
		case n.Data == "input" && slices.Contains([]string{"checkbox", "radio"}, attr(n, "type")):
			if has(n, "checked") {
				pairs = append(pairs, name, attr(n, "value"))
			}
		case n.Data == "input":
			pairs = append(pairs, name, attr(n, "value"))
		case n.Data == "textarea":
			text := ""
			if n.FirstChild != nil {
				text = n.FirstChild.Data
			}
			pairs = append(pairs, name, text)
		case n.Data == "select":
			value, first := "", true
			for o := range n.Descendants() {
				if o.Data == "option" && (first || has(o, "selected")) {
					value, first = attr(o, "value"), false
				}
			}
			pairs = append(pairs, name, value)
		}
	}
	return pairs
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// TestFormsKeep: who opens a form and presses OK changes nothing, whatever the
// configuration has there: not what the form does not show, either.
func TestFormsKeep(t *testing.T) {
	t.Parallel()
	const (
		rule    = rulesPath + "/entry[@name='a rule']"
		profile = profilesPath + "/entry[@name='a profile']"
	)
	network := []string{
		networkPath + "/hsm-server/entry[@name='a&b']/server-address", "192.0.2.1", networkPath + "/hsm-server/entry[@name='a&b']/ssh-port", "22",
		networkPath + "/hsm-server/entry[@name=\"it's%2f\"]/server-address", "hsm.example", networkPath + "/hsm-server/entry[@name=\"it's%2f\"]/port", "1793",
		networkPath + "/ha/auto-recovery-retry", "7", networkPath + "/ha/ha-group-name", "a group", hsmPath + "/client-version", "1",
	}
	for name, c := range map[string]struct {
		edit   string
		values []string
	}{
		"network HSMs": {hsmPage + "/provider", network},
		"a token": {hsmPage + "/provider", []string{
			modulePath + "/module", "/usr/lib/luna.so", modulePath + "/token", "a token", modulePath + "/user-type", "crypto-user"}},
		"a rule": {rulesPage + "/edit/a%20rule", []string{
			rule + "/action", "no-decrypt", rule + "/type/ssl-inbound-inspection", "", rule + "/source", "192.0.2.0/24|2001:db8::/32", rule + "/destination", "192.0.2.1",
			rule + "/destination-host", "*.example", rule + "/service", "application-default", rule + "/negate-source", "yes", rule + "/negate-destination", "yes",
			rule + "/disabled", "yes", rule + "/log-success", "no", rule + "/log-fail", "no", rule + "/description", "<b>\"it's\" & so",
			rule + "/from", "any", rule + "/to", "any", rule + "/source-user", "any", rule + "/category", "any", rule + "/profile", "a profile", profile, ""}},
		"a profile": {profilesPage + "/edit/a%20profile", []string{
			profile + "/ssl-forward-proxy/block-expired-certificate", "yes", profile + "/ssl-forward-proxy/block-if-hsm-unavailable", "no",
			profile + "/ssl-inbound-proxy/block-unsupported-version", "no", profile + "/ssl-protocol-settings/min-version", "tls1-3",
			profile + "/ssl-protocol-settings/keyxchg-algo-ecdhe", "no", profile + "/ssl-protocol-settings/keyxchg-algo-rsa", "yes"}},
		"management": {managementPage + "/edit", []string{
			settingPath + "/management/listen-address", "127.0.0.2", settingPath + "/management/https-port", "4444", settingPath + "/management/client-page", "yes",
			settingPath + "/management/api/key/lifetime", "3", settingPath + "/management/admin-lockout/failed-attempts", "4",
			settingPath + "/management/quota-settings/log-expiration-period/system", "9", systemPath + "/hostname", "gate"}},
		"the service route": {servicesPage + "/route", []string{hsmRoutePath + "/source/interface", "lo", hsmRoutePath + "/source/address", "127.0.0.1"}},
		"an administrator":  {administratorsPage + "/edit/device", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.login("admin")
			for i := 0; i+1 < len(c.values); i += 2 {
				var values []string
				if c.values[i+1] != "" {
					values = strings.Split(c.values[i+1], "|")
				}
				e, err := config.SetEdit(c.values[i], values...)
				must(t, err)
				must(t, w.Change(t.Context(), as("admin"), e))
			}
			whole := func() *config.Node {
				nodes, err := w.Get(t.Context(), as("admin"), mgmt.Candidate, "/config")
				must(t, err)
				return nodes[0]
			}
			before := whole()
			_, page := b.get(c.edit)
			res, body := b.post(c.edit, formOn(t, page, c.edit)...)
			if res.StatusCode != http.StatusSeeOther {
				t.Fatalf("%d\n%s", res.StatusCode, body)
			}
			for _, change := range config.Diff(before, whole()) {
				t.Errorf("%s %s: was %q, is %q", change.Kind, change.Path, change.Before, change.After)
			}
		})
	}
}
