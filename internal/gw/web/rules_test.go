package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// TestRulePages makes, changes, moves, clones, disables and deletes rules.
func TestRulePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("device")
	ok := func(res *http.Response, body string) {
		t.Helper()
		if res.StatusCode != http.StatusSeeOther {
			t.Fatalf("%d\n%s", res.StatusCode, body)
		}
	}
	names := func() string {
		t.Helper()
		nodes, err := w.Get(t.Context(), as("device"), mgmt.Candidate, rulesPath)
		must(t, err)
		var list []string
		for _, e := range (tree{nodes[0]}).entries() {
			name := e.name()
			if e.text("disabled") == "yes" {
				name += "(off)"
			}
			list = append(list, name)
		}
		return strings.Join(list, " ")
	}
	for _, name := range []string{"one", "two"} {
		ok(b.post(rulesPage+"/add", "name", name, "type", "ssl-forward-proxy", "action", "decrypt", "source", "10.0.0.0/8\n192.0.2.1", "log-success", "yes", "log-fail", "yes"))
	}
	ok(b.post(rulesPage+"/act/two", "act", "up"))
	ok(b.post(rulesPage+"/act/two", "act", "clone"))
	ok(b.post(rulesPage+"/act/one", "act", "disable"))
	if got := names(); got != "two one(off) two-1" && got != "two two-1 one(off)" {
		t.Errorf("the rules are %s", got)
	}
	ok(b.post(rulesPage+"/act/two-1", "act", "delete"))
	_, body := b.get(rulesPage + "/edit/two")
	if !strings.Contains(body, "10.0.0.0/8\n192.0.2.1") {
		t.Errorf("the rule's form:\n%s", body)
	}
	ok(b.post(rulesPage+"/edit/two", "name", "zwei", "type", "ssl-forward-proxy", "action", "no-decrypt", "destination-host", "*.bank.example", "log-success", "yes", "log-fail", "yes"))
	if got := names(); got != "zwei one(off)" {
		t.Errorf("the rules are %s", got)
	}
	b.says("the list", 200, "zwei", "*.bank.example", "no-decrypt", "disabled")(b.get(rulesPage))
	res, body := b.post(rulesPage+"/edit/zwei", "name", "zwei", "type", "ssl-forward-proxy", "action", "decrypt", "source", "10.0.0.0/99")
	if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "10.0.0.0/99") {
		t.Errorf("a source that is none: %d", res.StatusCode)
	}
	beside(t, body, "source", "", "10.0.0.0/99")
	ok(b.post(profilesPage+"/add", "name", "strict", "ssl-forward-proxy/block-expired-certificate", "yes", "ssl-forward-proxy/block-unsupported-version", "yes", "ssl-forward-proxy/block-if-hsm-unavailable", "yes",
		"ssl-inbound-proxy/block-unsupported-version", "yes", "ssl-inbound-proxy/block-if-hsm-unavailable", "yes", "ssl-protocol-settings/min-version", "tls1-3", "ssl-protocol-settings/keyxchg-algo-ecdhe", "yes"))
	nodes, err := w.Get(t.Context(), as("device"), mgmt.Candidate, profilesPath+"/entry[@name='strict']")
	must(t, err)
	if p := (tree{nodes[0]}); p.text("ssl-forward-proxy", "block-expired-certificate") != "yes" || p.text("ssl-protocol-settings", "min-version") != "tls1-3" || p.at("ssl-inbound-proxy").there() {
		t.Errorf("the profile is %s", config.Encode(p.node))
	}
}

// TestManyRules: a page of ten thousand rules is answered in good time. The
// bound is a multiple of what is measured, so that a busy machine passes.
func TestManyRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rules := element("rules")
	for i := range 10_000 {
		rules.Children = append(rules.Children, namedEntry(fmt.Sprintf("rule-%d", i), leaf("action", "decrypt"), memberList("source", []string{fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)})))
	}
	must(t, w.Change(t.Context(), as("admin"), config.Edit{Op: config.OpSet, Path: rulesParent, Elements: []*config.Node{rules}}))
	b := w.login("admin")
	best := time.Hour
	for range 5 {
		began := time.Now()
		res, body := b.get(rulesPage + "?from=5000")
		best = min(best, time.Since(began))
		if res.StatusCode != 200 || !strings.Contains(body, "rule-5000") || !strings.Contains(body, "of 10000") || strings.Contains(body, "rule-5100<") {
			t.Fatalf("the page: %d", res.StatusCode)
		}
		if len(body) > 300<<10 {
			t.Errorf("the page has %d bytes", len(body))
		}
	}
	t.Logf("a page of 10,000 rules: %v", best)
	if best > 2*time.Second {
		t.Errorf("a page of 10,000 rules took %v", best)
	}
}
