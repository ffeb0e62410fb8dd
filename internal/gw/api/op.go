package api

import (
	"context"
	"fmt"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// op does type=op: an operational command.
func (h *Handler) op(ctx context.Context, c mgmt.Caller, req *request) *answer {
	cmd := req.get("cmd")
	if cmd == "" {
		return missing("cmd", "type=op")
	}
	call, err := ops.ParseXML(cmd)
	if err != nil {
		return failed(err)
	}
	result, err := call.Run(ctx, h.m, c, nil)
	if err != nil {
		return failed(err)
	}
	if result.Job != 0 {
		return enqueued(call.JobName(), result.Job)
	}
	return success(codeNone, ops.E("result", result.Elements...))
}

// enqueued is the answer to what is done in a job.
func enqueued(what string, job int) *answer {
	id := fmt.Sprint(job)
	return success(codeRead, ops.E("result",
		ops.E("msg", ops.T("line", what+" job enqueued with jobid "+id)), ops.T("job", id)))
}

// version does type=version.
func (h *Handler) version(ctx context.Context, c mgmt.Caller, _ *request) *answer {
	elements, err := ops.VersionOf(ctx, h.m, c)
	if err != nil {
		return failed(err)
	}
	return success(codeNone, ops.E("result", elements...))
}
