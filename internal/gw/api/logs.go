package api

import (
	"context"
	"strconv"

	"moongate/internal/gw/logstore"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

const (
	defaultLogs = 20
	maxLogs     = 5000
)

// logs does type=log: a query is a job, whose result is fetched by its number.
func (h *Handler) logs(ctx context.Context, c mgmt.Caller, req *request) *answer {
	switch action := req.get("action"); action {
	case "":
		return h.startLogs(ctx, c, req)
	case "get":
		return h.foundLogs(ctx, c, req)
	case "finish":
		return success(codeRead, ops.E("result", ops.E("msg", ops.T("line", "job finished"))))
	default:
		return failure(mgmt.CodeBadParameter, "action of type=log is %s, expected none, get or finish", shown(action))
	}
}

func (h *Handler) startLogs(ctx context.Context, c mgmt.Caller, req *request) *answer {
	if req.get("log-type") == "" {
		return missing("log-type", "type=log")
	}
	log, err := logstore.ParseLog(req.get("log-type"))
	if err != nil {
		return failure(mgmt.CodeBadParameter, "Parameter \"log-type\": %s", err)
	}
	q := logstore.Query{Log: log, Filter: req.get("query")}
	var refused *answer
	if q.Limit, refused = number(req, "nlogs", defaultLogs, 1, maxLogs); refused != nil {
		return refused
	}
	if q.Skip, refused = number(req, "skip", 0, 0, 1_000_000_000); refused != nil {
		return refused
	}
	switch dir := req.get("dir"); dir {
	case "", "backward":
	case "forward":
		q.Oldest = true
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"dir\" is %s, expected backward or forward", shown(dir))
	}
	job, err := h.m.StartLogQuery(ctx, c, q)
	if err != nil {
		return failed(err)
	}
	return enqueued("query", job)
}

func number(req *request, name string, absent, least, most int) (int, *answer) {
	text := req.get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, failure(mgmt.CodeBadParameter, "Parameter %q is %s, expected a number from %d to %d", name, shown(text), least, most)
	}
	return n, nil
}

// foundLogs answers with what a query found. Children are in the order in which
// clients expect them.
func (h *Handler) foundLogs(ctx context.Context, c mgmt.Caller, req *request) *answer {
	if req.get("job-id") == "" {
		return missing("job-id", "action=get")
	}
	id, refused := number(req, "job-id", 0, 1, 1<<31-1)
	if refused != nil {
		return refused
	}
	entries, job, err := h.m.LogQueryResult(ctx, c, id)
	if err != nil {
		return failed(err)
	}
	count := strconv.Itoa(len(entries))
	progress := strconv.Itoa(job.Progress)
	clock := ops.Clock
	logs := ops.E("logs", ops.LogEntries(entries)...).With("count", count).With("progress", progress)
	return success(codeNone, ops.E("result",
		ops.E("job", ops.T("tenq", clock(job.Enqueued)), ops.T("tdeq", clock(job.Started)), ops.T("tlast", clock(job.Finished)),
			ops.T("status", string(job.Status)), ops.T("id", strconv.Itoa(job.ID)), ops.T("cached-logs", count)),
		ops.E("log", logs),
		ops.E("meta", ops.E("devices", ops.Entry("localhost.localdomain",
			ops.T("hostname", "localhost.localdomain"),
			ops.E("vsys", ops.Entry("vsys1", ops.T("display-name", "vsys1"))))))))
}
