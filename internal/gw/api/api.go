// Package api serves a gateway's XML API over HTTPS: requests become calls of
// mgmt, its answers XML.
//
// The API is that of the firewalls whose configuration paths the gateway has,
// so that their clients and tools work: parameters in the query or in a form,
// answers in a <response> whose status, code and child orders those clients
// look at. docs/xml-api.md is a tour.
//
// Errors of the API come with HTTP status 200 and a code in the response, as
// its clients expect. Only what stands before it has a status of its own: 403
// for a credential, 405 for a method, 413 for a size, 429 for too many failed
// logins.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"moongate/internal/gw/mgmt"
)

// Options say what a Handler serves.
type Options struct {
	Manager *mgmt.Manager
	Logger  *slog.Logger
	Now     func() time.Time // nil for time.Now
}

// Handler serves the paths /api and /api/. It is safe for concurrent use.
type Handler struct {
	m      *mgmt.Manager
	log    *slog.Logger
	doors  *doors
	bodies *bodies
}

// Paths are those that a Handler is to be mounted on. A redirect from one to
// the other would lose the body of a POST.
var Paths = []string{"/api", "/api/"}

// New makes a Handler.
func New(opts Options) *Handler {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Handler{m: opts.Manager, log: opts.Logger, doors: newDoors(opts.Now), bodies: newBodies()}
}

// MaxBody bounds a request's body, in bytes.
const MaxBody = 5 << 20

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.URL.Path != "/api" && r.URL.Path != "/api/" {
		h.send(w, r, failure(mgmt.CodeBadParameter, "there is nothing at this path, expected /api/").as(http.StatusNotFound))
		return
	}
	req, answer := h.read(w, r)
	if answer == nil {
		answer = h.answer(r.Context(), req)
	}
	h.send(w, r, answer)
}

// secure sets the headers that keep a browser from doing anything with an
// answer, and anybody from keeping it.
func secure(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
}

// answer lets the caller in and does what the request's type says.
func (h *Handler) answer(ctx context.Context, req *request) *answer {
	kind := req.get("type")
	if kind == "" {
		return missing("type", "every request")
	}
	handle, known := kinds[kind]
	if !known {
		return failure(mgmt.CodeBadParameter, "type is %s, expected one of keygen, op, config, commit, import, export, log, version", shown(kind))
	}
	caller, refused := h.enter(ctx, req)
	if refused != nil {
		return refused
	}
	if refused := h.here(ctx, caller, req); refused != nil {
		return refused
	}
	return handle(h, ctx, caller, req)
}

// kinds are the values of type.
var kinds = map[string]func(*Handler, context.Context, mgmt.Caller, *request) *answer{
	"keygen":  (*Handler).keygen,
	"op":      (*Handler).op,
	"config":  (*Handler).config,
	"commit":  (*Handler).commit,
	"import":  (*Handler).importFile,
	"export":  (*Handler).exportFile,
	"log":     (*Handler).logs,
	"version": (*Handler).version,
	"user-id": unsupported("user-id", "rules go by address, host name and service"),
	"report":  unsupported("report", "type=log asks the logs"),
}

func unsupported(kind, instead string) func(*Handler, context.Context, mgmt.Caller, *request) *answer {
	return func(*Handler, context.Context, mgmt.Caller, *request) *answer {
		return failed(&mgmt.Error{Code: mgmt.CodeNotPossible, Lines: []string{"type=" + kind + " is not supported: " + instead}})
	}
}

// here refuses a request for another device than this one, or for a virtual
// system that there is not.
func (h *Handler) here(ctx context.Context, c mgmt.Caller, req *request) *answer {
	if target := req.get("target"); target != "" {
		if info, err := h.m.SystemInfo(ctx, c); err != nil || info.Serial != target {
			return failure(mgmt.CodeBadParameter, "Parameter \"target\" names another device, got %s: this gateway manages itself alone, leave it out", shown(target))
		}
	}
	switch vsys := req.get("vsys"); vsys {
	case "", "vsys1", "shared", "all":
		return nil
	default:
		return failure(mgmt.CodeBadParameter, "Parameter \"vsys\" is %s, expected vsys1 or shared", shown(vsys))
	}
}

// peer is the address that a request came from.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
