package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// TestTwoAdministrators: who presses OK last undoes nothing of the other's
// without being told.
func TestTwoAdministrators(t *testing.T) {
	t.Parallel()
	const rule, profile, module = rulesPath + "/entry[@name='one']", profilesPath + "/entry[@name='one']", modulePath + "/module"
	w := newWorld(t, rule+"/action", "no-decrypt", profile+"/ssl-protocol-settings/min-version", "tls1-2")
	for path, value := range map[string]string{module: "/lib/a.so", modulePath + "/token": "a"} {
		e, err := config.SetEdit(path, value)
		must(t, err)
		must(t, w.Change(t.Context(), as("second"), e))
	}
	mine := w.login("admin")
	for edit, other := range map[string][2]string{
		rulesPage + "/edit/one":             {rule + "/description", "mind the gap"},
		profilesPage + "/edit/one":          {profile + "/ssl-protocol-settings/min-version", "tls1-3"},
		hsmPage + "/provider":               {module, "/lib/b.so"},
		managementPage + "/edit":            {settingPath + "/management/https-port", "4444"},
		servicesPage + "/route":             {hsmRoutePath + "/source/address", "127.0.0.1"},
		administratorsPage + "/edit/reader": {usersPath + "/entry[@name='reader']/phash", ""},
	} {
		_, page := mine.get(edit)
		form := formOn(t, page, edit)
		e := config.Edit{Op: config.OpDelete, Path: other[0]}
		if other[1] != "" {
			var err error
			e, err = config.SetEdit(other[0], other[1])
			must(t, err)
		}
		must(t, w.Change(t.Context(), as("second"), e))
		res, body := mine.post(edit, form...)
		if res.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body, "Somebody else has changed") {
			t.Errorf("%s: %d\n%s", edit, res.StatusCode, body)
		}
		if res, body := mine.post(edit, formOn(t, body, edit)...); res.StatusCode != http.StatusSeeOther {
			t.Errorf("%s, pressed again: %d\n%s", edit, res.StatusCode, body)
		}
	}
	mine.says("an act that is none", http.StatusNotFound, "no act")(mine.get(hsmPage + "/group/zzz"))
	for _, gone := range []string{rulesPage, profilesPage, administratorsPage} {
		mine.says("a form of nothing", http.StatusNotFound, "There is no")(mine.get(gone + "/edit/gone"))
		mine.says("OK to nothing", http.StatusNotFound, "There is no")(mine.post(gone+"/edit/gone", "name", "gone", "type", "ssl-forward-proxy", "action", "decrypt", "role", "superuser"))
	}
}

// TestLongLists: a list's buttons come back to where they were, a long name is
// cloned, and the page of ten thousand changes stays one that can be loaded.
func TestLongLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("device")
	long := strings.Repeat("x", maxRuleName)
	rules := []*config.Node{namedEntry(long, leaf("action", "decrypt"))}
	for i := range 10_000 {
		rules = append(rules, namedEntry(fmt.Sprintf("rule %d", i), leaf("action", "decrypt"), memberList("source", []string{"192.0.2.1"})))
	}
	must(t, w.Change(t.Context(), as("device"), config.Edit{Op: config.OpSet, Path: rulesParent, Elements: []*config.Node{element("rules", rules...)}}))
	for _, path := range []string{"/commit", configurationPage + "?from=running&to=candidate", rulesPage, "/commit/pending"} {
		res, body := b.get(path)
		if res.StatusCode != http.StatusOK || len(body) > 512<<10 {
			t.Errorf("%s: %d, %d bytes", path, res.StatusCode, len(body))
		}
	}
	b.says("the difference", http.StatusOK, "lines more")(b.get("/commit"))
	from := rulesPage + "?filter=rule&from=200"
	_, body := b.get(from)
	at := "/act/rule%20250?filter=rule&amp;from=200"
	if !strings.Contains(body, at) {
		t.Fatalf("the page lacks %s\n%s", at, body)
	}
	for _, act := range []string{"up", "disable", "clone"} {
		res, body := b.post(rulesPage+"/act/rule%20250?filter=rule&from=200", "act", act)
		if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != from {
			t.Errorf("%s: %d to %s\n%s", act, res.StatusCode, res.Header.Get("Location"), body)
		}
	}
	res, body := b.post(rulesPage+"/act/"+long, "act", "clone")
	if _, page := b.get(rulesPage); res.StatusCode != http.StatusSeeOther || strings.Contains(page, `class="notice bad"`) {
		t.Errorf("cloning a long name: %d\n%s\n%s", res.StatusCode, body, page)
	}
	nodes, err := w.Get(t.Context(), as("device"), mgmt.Candidate, rulesPath+"/"+config.EntryStep(long[:maxRuleName-2]+"-1"))
	if must(t, err); len(nodes) != 1 {
		t.Error("the clone is not there")
	}
}
