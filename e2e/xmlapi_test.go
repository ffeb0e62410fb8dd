package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"moongate/e2e/world"
	"moongate/internal/gw/daemon"
)

// tour reads a page of documentation: its shell lines, and what it says that
// they print. An ellipsis in that stands for anything.
func tour(t *testing.T, path string) (script, printed string) {
	t.Helper()
	page, err := os.ReadFile(path)
	must(t, err)
	for _, block := range regexp.MustCompile("(?ms)^```(sh|xml|text)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		if block[1] == "sh" {
			script += block[2]
		} else {
			printed += block[2]
		}
	}
	if script == "" || printed == "" {
		t.Fatalf("%s has no lines to run", path)
	}
	return script, printed
}

// TestXMLAPITour runs docs/xml-api.md, with curl, as it is written.
func TestXMLAPITour(t *testing.T) {
	t.Parallel()
	s := start(t, newCA(t), world.GatewaySettings{NoECDSA: true})
	script, printed := tour(t, filepath.Join("..", "docs", "xml-api.md"))
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GW=https://"+s.gateway.Web, "CA="+daemon.In(s.gateway.Dir).WebCertificate(), "PASSWORD="+s.gateway.Admin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compareTour(t, string(out), printed)
}

// compareTour compares what a tour printed with what its page says.
func compareTour(t *testing.T, out, printed string) {
	t.Helper()
	// Programs end their lines as they like; a blank line says nothing.
	got := regexp.MustCompile(`[ \t]*\n+`).ReplaceAllString(strings.TrimSpace(out), "\n")
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(strings.TrimSpace(printed), "\n")
	if len(gotLines) != len(wantLines) {
		t.Errorf("%d lines were printed, the page has %d\n%s", len(gotLines), len(wantLines), out)
	}
	for i := range min(len(gotLines), len(wantLines)) {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(wantLines[i]), "…", ".*") + "$"
		if !regexp.MustCompile(pattern).MatchString(gotLines[i]) {
			t.Errorf("line %d\nprinted  %s\nthe page %s", i+1, gotLines[i], wantLines[i])
		}
	}
}
