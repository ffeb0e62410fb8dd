package api

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	commit := func(cmd string) string { return w.as("admin", "type", "commit", "cmd", cmd) }
	const none = `<response status="success" code="19"><msg>There are no changes to commit.</msg></response>`
	w.want("no changes", commit("<commit></commit>"), none)
	w.set("first")
	got := commit("<commit><description>the first</description></commit>")
	enqueued := regexp.MustCompile(`^<response status="success" code="19"><result><msg><line>Commit job enqueued with jobid (\d+)</line></msg><job>(\d+)</job></result></response>$`)
	found := enqueued.FindStringSubmatch(got)
	if found == nil || found[1] != found[2] {
		t.Fatalf("commit: %s", got)
	}
	job := w.finished(found[1])
	if !strings.Contains(job, "<result>OK</result>") || !strings.Contains(job, "<progress>100</progress>") ||
		!strings.Contains(job, "<description>the first</description>") || !strings.Contains(job, "<line>Configuration committed successfully</line>") {
		t.Errorf("job: %s", job)
	}
	order := []string{"tenq", "tdeq", "id", "user", "type", "status", "queued", "stoppable", "result", "tfin", "description", "positionInQ", "progress", "warnings", "details"}
	if got := children(t, job, "job"); !slices.Equal(got, order) {
		t.Errorf("children of a job\n got %v\nwant %v", got, order)
	}
	w.want("running", w.as("admin", "type", "config", "action", "show", "xpath", hostnamePath),
		`<response status="success"><result><hostname>first</hostname></result></response>`)
	w.want("no changes any more", commit("<commit/>"), none)
	if got := commit("<commit><force></force></commit>"); !enqueued.MatchString(got) {
		t.Errorf("force: %s", got)
	}
}

func TestCommitRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("first")
	for _, test := range []struct{ cmd, code, says string }{
		{"", "400", "cmd"},
		{"<commit-all/>", "18", "not &lt;commit|not <commit"},
		{"commit", "18", ""},
		{"<commit><partial><admin><member>admin</member></admin></partial></commit>", "14", "partial"},
		{"<commit><force><partial/></force></commit>", "14", "partial"},
		{"<commit><confirmed>0</confirmed></commit>", "17", "minutes"},
		{"<commit><confirmed>soon</confirmed></commit>", "17", "minutes"},
		{"<commit><confirm/><force/></commit>", "17", "alone"},
		{"<commit><wait/></commit>", "17", "wait"},
		{"<commit><confirm/></commit>", "14", ""},
	} {
		got := w.as("admin", "type", "commit", "cmd", test.cmd)
		if !strings.HasPrefix(got, `<response status="error" code="`+test.code+`">`) || !regexp.MustCompile(test.says).MatchString(got) {
			t.Errorf("%s: got %s, want code %s and %q in it", test.cmd, got, test.code, test.says)
		}
	}
	if got := w.as("admin", "type", "commit", "action", "all", "cmd", "<commit-all/>"); !strings.Contains(got, `code="14"`) {
		t.Errorf("action=all: %s", got)
	}
}

// TestCommitConfirmed: what is not confirmed goes back; what is confirmed stays.
func TestCommitConfirmed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	go w.Run(t.Context()) // ends with the test
	w.set("first")
	if got := w.as("admin", "type", "commit", "cmd", "<commit><confirmed>5</confirmed></commit>"); !strings.Contains(got, "enqueued") {
		t.Fatalf("confirmed: %s", got)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(w.as("admin", "type", "op", "cmd", "<show><commit><pending-confirm/></commit></show>"), "<pending>yes</pending>") {
		if time.Now().After(deadline) {
			t.Fatal("the commit does not wait to be confirmed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.want("confirm", w.as("admin", "type", "commit", "cmd", "<commit><confirm></confirm></commit>"),
		`<response status="success" code="19"><msg><line>The commit is confirmed.</line></msg></response>`)
	w.want("pending", w.as("admin", "type", "op", "cmd", "<show><commit><pending-confirm/></commit></show>"),
		`<response status="success"><result><pending>no</pending></result></response>`)
}
