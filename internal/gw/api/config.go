package api

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// config does type=config.
func (h *Handler) config(ctx context.Context, c mgmt.Caller, req *request) *answer {
	action := req.get("action")
	switch action {
	case "":
		return missing("action", "type=config")
	case "get", "show":
		return h.readConfig(ctx, c, action, req.get("xpath"))
	case "multi-config":
		return h.multi(ctx, c, req.get("element"), req.get("strict-transactional") == "yes")
	}
	edit, refused := editOf(action, req.get, req.get("element"))
	if refused != nil {
		return refused
	}
	if err := h.m.Change(ctx, c, edit); err != nil {
		return changeFailed(edit.Op, err)
	}
	return succeeded()
}

// readConfig answers get, of the candidate, and show, of the running
// configuration.
func (h *Handler) readConfig(ctx context.Context, c mgmt.Caller, action, xpath string) *answer {
	if xpath == "" {
		return missing("xpath", "action="+action)
	}
	which := mgmt.Candidate
	if action == "show" {
		which = mgmt.Running
	}
	nodes, err := h.m.Get(ctx, c, which, xpath)
	switch {
	case err != nil:
		return failed(err)
	case len(nodes) == 0 && action == "show":
		return &answer{status: "error", body: []*ops.Element{ops.E("msg", ops.T("line", "No such node"))}}
	case len(nodes) == 0:
		return success(mgmt.CodeNotPresent, ops.E("result"))
	}
	result := ops.E("result", ops.Nodes(nodes)...)
	if action == "show" {
		return success(codeNone, result)
	}
	count := strconv.Itoa(len(nodes))
	return success(codeRead, result.With("total-count", count).With("count", count))
}

// changes are the actions that change the candidate, with the parameters that
// each needs besides xpath; clone may say its source in from.
var changes = map[string]struct {
	op    config.Op
	needs []string
}{
	"set":    {config.OpSet, []string{"element"}},
	"edit":   {config.OpEdit, []string{"element"}},
	"delete": {config.OpDelete, nil},
	"rename": {config.OpRename, []string{"newname"}},
	"move":   {config.OpMove, []string{"where"}},
	"clone":  {config.OpClone, []string{"newname"}},
}

// editOf makes an edit of an action with its parameters and its element.
func editOf(action string, get func(string) string, element string) (config.Edit, *answer) {
	known, ok := changes[action]
	if !ok {
		return config.Edit{}, failure(mgmt.CodeBadParameter,
			"action is %s, expected one of get, show, set, edit, delete, rename, move, clone, multi-config", shown(action))
	}
	for _, name := range append([]string{"xpath"}, known.needs...) {
		if get(name) == "" && (name != "element" || element == "") {
			return config.Edit{}, missing(name, "action="+action)
		}
	}
	e := config.Edit{Op: known.op, Path: get("xpath"), NewName: get("newname"), Where: get("where"), Dst: get("dst")}
	switch known.op {
	case config.OpClone:
		// The source of a clone is named by from, its list by xpath.
		if from := get("from"); from != "" {
			e.Path = from
		}
	case config.OpMove:
		switch e.Where {
		case config.Top, config.Bottom:
		case config.Before, config.After:
			if e.Dst == "" {
				return e, missing("dst", "where="+e.Where)
			}
		default:
			return e, failure(mgmt.CodeBadParameter, "Parameter \"where\" is %s, expected top, bottom, before or after", shown(e.Where))
		}
	case config.OpSet, config.OpEdit:
		nodes, err := config.ParseFragment([]byte(ops.WithoutDeclaration(element)))
		if err != nil {
			return e, notXML(err)
		}
		if len(nodes) == 0 {
			return e, missing("element", "action="+action)
		}
		e.Elements = nodes
	}
	return e, nil
}

// notXML is the answer to an element that cannot be read.
func notXML(err error) *answer {
	var problems config.Problems
	lines := []string{err.Error()}
	if errors.As(err, &problems) {
		lines = lines[:0]
		for _, p := range problems {
			lines = append(lines, p.Text)
		}
	}
	return failed(&mgmt.Error{Code: mgmt.CodeInvalidObject, Lines: lines})
}

// changeFailed is the answer to an edit that was refused. To delete what is not
// there has a success's status, and a code that says so.
func changeFailed(op config.Op, err error) *answer {
	if op == config.OpDelete && mgmt.CodeOf(err) == mgmt.CodeNotPresent {
		return success(mgmt.CodeNotPresent, ops.T("msg", "Object doesn't exist"))
	}
	return failed(err)
}

// multi does action=multi-config: edits in their order. With strict, all are
// made or none; without, those before the first that is refused.
func (h *Handler) multi(ctx context.Context, c mgmt.Caller, element string, strict bool) *answer {
	if element == "" {
		return missing("element", "action=multi-config")
	}
	steps, err := parseMulti(ops.WithoutDeclaration(element))
	if err != nil {
		return failed(err)
	}
	edits := make([]config.Edit, 0, len(steps))
	var refused *answer
	for _, s := range steps {
		e, wrong := editOf(s.action, s.get, s.element)
		if wrong != nil {
			refused = wrong
			break
		}
		edits = append(edits, e)
	}
	if strict && refused != nil {
		return multiAnswer(steps, 0, len(edits), refused)
	}
	if len(edits) > 0 {
		err := h.m.Change(ctx, c, edits...)
		var e *mgmt.Error
		switch {
		case err == nil:
		case errors.As(err, &e) && (e.Edit > 0 || len(edits) == 1):
			at := max(e.Edit, 1) - 1
			refused = changeFailed(edits[at].Op, err)
			edits = edits[:at]
			if strict {
				return multiAnswer(steps, 0, at, refused)
			}
			if at > 0 {
				if err := h.m.Change(ctx, c, edits...); err != nil {
					return failed(err) // another administrator was quicker
				}
			}
		default:
			return failed(err)
		}
	}
	return multiAnswer(steps, len(edits), len(edits), refused)
}

// multiAnswer has a response for each of the steps that were done, and one for
// the step that was refused.
func multiAnswer(steps []multiStep, done, at int, refused *answer) *answer {
	all := success(codeDone)
	for _, s := range steps[:done] {
		one := succeeded()
		one.id = s.id
		all.body = append(all.body, one.element())
	}
	if refused != nil {
		refused.id = steps[at].id
		all.status, all.code = "error", refused.code
		all.body = append(all.body, inner(refused).element())
	}
	return all
}

// inner is a refusal as it stands within a multi-config: its message directly
// below the response.
func inner(a *answer) *answer {
	if len(a.body) == 1 && a.body[0].Name == "result" {
		var text bytes.Buffer
		for _, msg := range a.body[0].Children {
			text.WriteString(msg.Text)
		}
		a.body = []*ops.Element{ops.E("msg", ops.Line(text.String()))}
	}
	a.status = "error"
	return a
}
