package e2e

import (
	"strings"
	"testing"
	"time"

	"moongate/e2e/world"
)

// unconfirmed is a gateway whose commit waits to be confirmed.
type unconfirmed struct {
	name     string
	gateway  *world.Gateway
	api      *xmlAPI
	deadline time.Time
	want     string // the host name after that
}

// TestCommitConfirmed: a commit that nobody confirms is gone back on when its
// time is over, whatever became of the process meanwhile; one that was confirmed
// stays. All wait in the same minute.
func TestCommitConfirmed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	commit := func(name, want string) *unconfirmed {
		t.Helper()
		u := &unconfirmed{name: name, gateway: world.T(t).Managed(), want: want}
		u.api = newXMLAPI(t, u.gateway)
		must(t, u.api.set(ctx, systemPath, "<hostname>before</hostname>"))
		must(t, u.api.commit(ctx, ""))
		must(t, u.api.set(ctx, systemPath, "<hostname>after</hostname>"))
		must(t, u.api.commit(ctx, "<confirmed>1</confirmed>"))
		u.deadline = time.Now().Add(time.Minute)
		u.waits(t)
		return u
	}
	nobody := commit("nobody confirms", "before")
	killed := commit("killed before its time", "before")
	killed.gateway.Process().Kill9()
	must(t, killed.gateway.Start(ctx))
	killed.waits(t)
	down := commit("down when its time comes", "before")
	down.gateway.Process().Kill9()
	confirmed := commit("confirmed", "after")
	_, err := confirmed.api.ask(ctx, "type", "commit", "cmd", "<commit><confirm></confirm></commit>")
	must(t, err)
	confirmed.gateway.Process().Kill9() // it is on the disk
	must(t, confirmed.gateway.Start(ctx))

	time.Sleep(time.Until(nobody.deadline.Add(-10 * time.Second)))
	nobody.waits(t)
	killed.waits(t)
	time.Sleep(time.Until(confirmed.deadline.Add(2 * time.Second))) // the last of them
	must(t, down.gateway.Start(ctx))
	for _, u := range []*unconfirmed{nobody, killed, down, confirmed} {
		u.over(t)
	}
}

// waits checks that the commit is in force and waits to be confirmed.
func (u *unconfirmed) waits(t *testing.T) {
	t.Helper()
	answer, err := u.api.op(t.Context(), "<show><commit><pending-confirm></pending-confirm></commit></show>")
	if err != nil || !strings.Contains(answer, "<pending>yes</pending>") {
		t.Errorf("%s: no commit waits: %s, %v", u.name, answer, err)
	}
	if got, err := u.api.hostname(t.Context(), "show"); err != nil || got != "after" {
		t.Errorf("%s: while it waits the host name is %q, %v", u.name, got, err)
	}
}

// over checks what is so after the time to confirm.
func (u *unconfirmed) over(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		got, err := u.api.hostname(ctx, "show")
		if err == nil && got == u.want {
			break
		}
		if time.Now().After(limit) {
			t.Errorf("%s: the host name is %q %v after the time to confirm, %v; want %q", u.name, got, time.Since(u.deadline), err, u.want)
			return
		}
	}
	answer, err := u.api.op(ctx, "<show><commit><pending-confirm></pending-confirm></commit></show>")
	if err != nil || !strings.Contains(answer, "<pending>no</pending>") {
		t.Errorf("%s: a commit still waits: %s, %v", u.name, answer, err)
	}
	versions, err := u.api.op(ctx, "<show><config><versions></versions></config></show>")
	if back := strings.Contains(versions, "was not confirmed"); err != nil || back != (u.want == "before") {
		t.Errorf("%s: the versions: %s, %v", u.name, versions, err)
	}
	// What was not confirmed is still there to be mended.
	if got, err := u.api.hostname(ctx, "get"); err != nil || got != "after" {
		t.Errorf("%s: the candidate has the host name %q, %v, want what was committed", u.name, got, err)
	}
}
