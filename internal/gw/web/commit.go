package web

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/revision"
)

// Commit: what is pending, the difference, how far a commit is.

func commitRoutes() []route {
	return []route{
		{"GET /commit/pending", pendingPart},
		{"GET /commit", commitPage},
		{"POST /commit", commitNow},
		{"POST /commit/revert", revertNow},
		{"POST /commit/confirm", confirmNow},
		{"POST /commit/validate", validateNow},
		{"POST /commit/lock", lockNow},
		{"GET /job/{id}", jobPage},
		{"GET /job/{id}/state", jobPart},
	}
}

// maxChanges bounds the changes that are shown one by one.
const maxChanges = 200

// pending counts what a commit would change.
func (v *visit) pending() int {
	changes, err := v.m().Diff(v.ctx(), v.who())
	if err != nil {
		return 0
	}
	return len(changes)
}

func pendingPart(v *visit) error {
	confirm, err := v.m().PendingConfirm(v.ctx(), v.who())
	if err != nil {
		return err
	}
	return v.part(0, pendingView(v.pending(), v.may(admin.OpCommit), confirm, v.h.now()))
}

// commitData is what the page shows.
type commitData struct {
	Changes   []config.Change
	More      int
	Text      string // the difference, as show config diff prints it; its beginning
	MoreLines int    // that the difference has
	Locks     []revision.Lock
	Confirm   *revision.Confirm
	Now       time.Time
	May       bool
	MayLock   bool
	Me        string
	Token     string
	Form      *Form
}

func (v *visit) showCommit(status int, f *Form) error {
	changes, err := v.m().Diff(v.ctx(), v.who())
	if err != nil {
		return err
	}
	d := commitData{Changes: changes, Form: f, Token: v.s.token, May: v.may(admin.OpCommit), MayLock: v.may(admin.OpLock), Me: v.who().Name, Now: v.h.now()}
	if len(changes) > maxChanges {
		d.Changes, d.More = changes[:maxChanges], len(changes)-maxChanges
	}
	if len(changes) > 0 {
		text, err := v.m().DiffText(v.ctx(), v.who(), mgmt.Running, mgmt.Candidate)
		if err != nil {
			return err
		}
		d.Text, d.MoreLines = firstLines(text)
	}
	if d.Locks, err = v.m().Locks(v.ctx(), v.who()); err != nil {
		return err
	}
	if d.Confirm, err = v.m().PendingConfirm(v.ctx(), v.who()); err != nil {
		return err
	}
	return v.page(Page{Title: "Commit", Path: "/commit", Status: status}, commitView(d))
}

func commitPage(v *visit) error { return v.showCommit(0, blank()) }

// maxConfirmMinutes is a week.
const maxConfirmMinutes = 7 * 24 * 60

func commitNow(v *visit) error {
	f := v.form
	req := mgmt.CommitRequest{Description: f.Text("description")}
	if f.Checked("confirmed") {
		req.Confirm = time.Duration(f.Number("minutes", 1, maxConfirmMinutes)) * time.Minute
	}
	if f.OK() {
		id, err := v.m().Commit(v.ctx(), v.who(), req)
		if err == nil {
			return v.redirect("/job/" + strconv.Itoa(id))
		}
		f.Add(words(err))
	}
	return v.showCommit(http.StatusUnprocessableEntity, f)
}

func validateNow(v *visit) error {
	id, err := v.m().Validate(v.ctx(), v.who())
	if err != nil {
		return v.sorry("/commit", err)
	}
	return v.redirect("/job/" + strconv.Itoa(id))
}

func revertNow(v *visit) error {
	if err := v.m().Revert(v.ctx(), v.who()); err != nil {
		return v.sorry("/commit", err)
	}
	return v.done("/commit", "The changes that were not committed are thrown away.")
}

func confirmNow(v *visit) error {
	if err := v.m().ConfirmCommit(v.ctx(), v.who()); err != nil {
		return v.sorry("/commit", err)
	}
	return v.done("/commit", "The commit is confirmed.")
}

// lockNow takes or releases a lock.
func lockNow(v *visit) error {
	kind := revision.LockKind(v.form.Text("kind"))
	if kind != revision.LockConfig && kind != revision.LockCommit {
		return missing(v)
	}
	var err error
	said := "The lock is yours."
	if v.form.Text("act") == "release" {
		said = "The lock is released."
		err = v.m().Unlock(v.ctx(), v.who(), kind, v.form.Text("owner"))
	} else {
		err = v.m().Lock(v.ctx(), v.who(), kind, v.form.Text("comment"))
	}
	if err != nil {
		return v.sorry("/commit", err)
	}
	return v.done("/commit", said)
}

func (v *visit) job() (jobs.Job, error) {
	id, err := strconv.Atoi(v.r.PathValue("id"))
	if err != nil {
		return jobs.Job{}, &mgmt.Error{Code: mgmt.CodeNotFound, Lines: []string{fmt.Sprintf("job %q: expected a number", v.r.PathValue("id"))}}
	}
	return v.m().Job(v.ctx(), v.who(), id)
}

func jobPage(v *visit) error {
	job, err := v.job()
	if err != nil {
		return err
	}
	return v.page(Page{Title: fmt.Sprintf("%s, job %d", job.Type, job.ID), Path: "/monitor/jobs"}, jobView(job))
}

func jobPart(v *visit) error {
	job, err := v.job()
	if err != nil {
		return err
	}
	return v.part(0, jobView(job))
}

// placeOf is the page on which what a path names is changed; "" for none.
func placeOf(path string) string {
	for _, p := range []struct{ below, page string }{
		{hsmPath, hsmPage + "/provider"},
		{systemPath + "/route", "/device/setup/services"},
		{config.SharedPath + "/certificate", "/device/certificates"},
		{config.SharedPath + "/ssl-decrypt", "/device/certificates"},
		{"/config/mgt-config", "/device/administrators"},
		{config.VsysPath + "/rulebase/decryption", "/policies/decryption"},
		{config.VsysPath + "/profiles/decryption", "/objects/decryption-profile"},
		{config.DevicePath + "/deviceconfig", "/device/setup/management"},
	} {
		if len(path) >= len(p.below) && path[:len(p.below)] == p.below {
			return p.page
		}
	}
	return ""
}
