package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/ops"
)

// Codes of success, beside those of mgmt.
const (
	codeNone mgmt.Code = 0  // no code attribute
	codeRead mgmt.Code = 19 // success, with or without data
	codeDone mgmt.Code = 20 // command succeeded
)

// answer is a response before it is written.
type answer struct {
	httpStatus int // 0 is 200
	status     string
	code       mgmt.Code
	id         string // of an action within a multi-config
	body       []*ops.Element

	// A file instead of XML.
	file     []byte
	fileName string
	retry    int // seconds, of Retry-After
	err      error
}

func (a *answer) as(httpStatus int) *answer { a.httpStatus = httpStatus; return a }

func success(code mgmt.Code, body ...*ops.Element) *answer {
	return &answer{status: "success", code: code, body: body}
}

// succeeded is the answer to set, edit, delete and their like.
func succeeded() *answer { return success(codeDone, ops.T("msg", "command succeeded")) }

// failure is an error of a request's parameters or credentials.
func failure(code mgmt.Code, format string, args ...any) *answer {
	return &answer{status: "error", code: code,
		body: []*ops.Element{ops.E("result", ops.T("msg", fmt.Sprintf(format, args...)))}}
}

func missing(name, where string) *answer {
	return failure(mgmt.CodeBadParameter, "Parameter %q is required in %s", name, where)
}

// failed is the answer to a request that mgmt or the grammar refused.
func failed(err error) *answer {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = &mgmt.Error{Code: mgmt.CodeTimeout, Lines: []string{"the request ended before its answer"}}
	}
	var e *mgmt.Error
	if !errors.As(err, &e) {
		// What is not meant for people is told in the gateway's own log.
		a := failed(&mgmt.Error{Code: mgmt.CodeNotPossible, Lines: []string{"an internal error, see the gateway's messages"}})
		a.err = err
		return a
	}
	if e.Code == mgmt.CodeBadParameter || e.Code == mgmt.CodeForbidden {
		a := failure(e.Code, "%s", e.Error())
		if e.Code == mgmt.CodeForbidden {
			a.httpStatus = http.StatusForbidden
		}
		return a
	}
	msg := ops.E("msg")
	for _, line := range e.Lines {
		msg.Add(ops.Line(line))
	}
	return &answer{status: "error", code: e.Code, body: []*ops.Element{msg}}
}

// element is the <response>.
func (a *answer) element() *ops.Element {
	e := ops.E("response").With("status", a.status)
	if a.code != codeNone {
		e.With("code", strconv.Itoa(int(a.code)))
	}
	if a.id != "" {
		e.With("id", a.id)
	}
	return e.Add(a.body...)
}

// send writes the answer. The log has the outcome and never a parameter: keys,
// passwords and private keys are among those.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, a *answer) {
	header := w.Header()
	status := a.httpStatus
	if status == 0 {
		status = http.StatusOK
	}
	if a.err != nil {
		h.log.Error("API request", "from", peer(r), "err", a.err)
	}
	h.log.Debug("API request", "from", peer(r), "method", r.Method, "status", status, "result", a.status, "code", int(a.code))
	var content []byte
	if a.fileName != "" {
		content = a.file
		header.Set("Content-Type", "application/octet-stream")
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": a.fileName}))
	} else {
		var b bytes.Buffer
		a.element().Append(&b)
		content = b.Bytes()
		header.Set("Content-Type", "application/xml; charset=UTF-8")
	}
	if a.retry > 0 {
		header.Set("Retry-After", strconv.Itoa(a.retry))
	}
	header.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(status)
	w.Write(content) // who went away gets no answer
}

// shown quotes a wrong value for an error text.
func shown(s string) string {
	const most = 64
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "…"
}
