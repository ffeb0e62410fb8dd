package api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// commit does type=commit. Its command is <commit> with any of
//
//	<description>text</description>
//	<force/>                    also where nothing changed
//	<confirmed>5</confirmed>    go back after so many minutes, unless confirmed
//	<confirm/>                  confirm a commit that waits for it
func (h *Handler) commit(ctx context.Context, c mgmt.Caller, req *request) *answer {
	if action := req.get("action"); action != "" {
		return notPossible("action=" + shown(action) + " of type=commit is not supported: this gateway manages itself alone, leave it out")
	}
	request, confirm, err := parseCommit(req.get("cmd"))
	if err != nil {
		return failed(err)
	}
	if confirm {
		if err := h.m.ConfirmCommit(ctx, c); err != nil {
			return failed(err)
		}
		return success(codeRead, ops.E("msg", ops.T("line", "The commit is confirmed.")))
	}
	job, err := h.m.Commit(ctx, c, request)
	switch {
	case errors.Is(err, mgmt.ErrNoChanges):
		return success(codeRead, ops.T("msg", "There are no changes to commit."))
	case err != nil:
		return failed(err)
	}
	return enqueued("Commit", job)
}

func notPossible(text string) *answer {
	return failed(&mgmt.Error{Code: mgmt.CodeNotPossible, Lines: []string{text}})
}

// parseCommit reads a commit's command; confirm says that it confirms another.
func parseCommit(cmd string) (req mgmt.CommitRequest, confirm bool, err error) {
	if cmd == "" {
		return req, false, &mgmt.Error{Code: mgmt.CodeBadParameter, Lines: []string{`Parameter "cmd" is required in type=commit, expected <commit></commit>`}}
	}
	nodes, err := config.ParseFragment([]byte(ops.WithoutDeclaration(cmd)))
	if err != nil {
		return req, false, malformed("the commit command cannot be read: %s", err)
	}
	if len(nodes) != 1 || nodes[0].Name != "commit" || nodes[0].Text != "" {
		return req, false, malformed("the commit command is not <commit>…</commit>")
	}
	for _, n := range nodes[0].Children {
		switch n.Name {
		case "description":
			req.Description = n.Text
		case "force":
			req.Force = true
			if len(n.Children) > 0 {
				return req, false, partial
			}
		case "confirmed":
			minutes, err := strconv.Atoi(n.Text)
			if err != nil || minutes < 1 || minutes > 7*24*60 {
				return req, false, &mgmt.Error{Code: mgmt.CodeInvalidCommand, Lines: []string{
					"commit -> confirmed: got " + shown(n.Text) + ", expected minutes from 1 to 10080"}}
			}
			req.Confirm = time.Duration(minutes) * time.Minute
		case "confirm":
			confirm = true
		case "partial":
			return req, false, partial
		default:
			return req, false, &mgmt.Error{Code: mgmt.CodeInvalidCommand, Lines: []string{
				"commit -> " + n.Name + " is unexpected, expected description, force, confirmed or confirm"}}
		}
	}
	if confirm && len(nodes[0].Children) > 1 {
		return req, false, &mgmt.Error{Code: mgmt.CodeInvalidCommand, Lines: []string{"commit -> confirm stands alone"}}
	}
	return req, confirm, nil
}

// partial is the refusal of a commit of some changes alone: what is committed
// is the candidate as it is.
var partial = &mgmt.Error{Code: mgmt.CodeNotPossible, Lines: []string{
	"commit -> partial is not supported: a commit takes the whole candidate configuration, of all administrators"}}
