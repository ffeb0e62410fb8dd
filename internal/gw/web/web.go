package web

import (
	"embed"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
)

// Options say what a Handler is made of. All but Now are needed.
type Options struct {
	Manager *mgmt.Manager
	Logger  *slog.Logger
	Version string
	Now     func() time.Time // nil is time.Now
}

// Handler serves the web UI at "/". It is safe for concurrent use.
type Handler struct {
	m        *mgmt.Manager
	log      *slog.Logger
	version  string
	now      func() time.Time
	sessions *sessions
	mux      *http.ServeMux
	origins  *http.CrossOriginProtection
	figures  sampler
}

//go:embed assets
var embedded embed.FS

// route is a page, a part of one, or what a form is sent to.
type route struct {
	pattern string // of http.ServeMux, with its method
	serve   func(*visit) error
}

// New makes a Handler.
func New(o Options) (*Handler, error) {
	if o.Manager == nil || o.Logger == nil {
		return nil, errors.New("web: a manager and a logger are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &Handler{m: o.Manager, log: o.Logger, version: o.Version, now: o.Now, mux: http.NewServeMux(), origins: http.NewCrossOriginProtection()}
	h.sessions = newSessions(o.Now, o.Manager.IdleTimeout)
	assets, err := fs.Sub(embedded, "assets")
	if err != nil {
		return nil, err
	}
	h.mux.Handle("GET /assets/", http.StripPrefix("/assets/", cached(http.FileServerFS(assets))))
	h.mux.HandleFunc("GET /login", h.loginPage)
	h.mux.HandleFunc("POST /login", h.login)
	h.clientRoutes(h.mux)
	for _, r := range h.routes() {
		h.mux.HandleFunc(r.pattern, h.inside(r.serve))
	}
	return h, nil
}

// routes are those of all pages that need a login.
func (h *Handler) routes() []route {
	var all []route
	for _, part := range parts {
		all = append(all, part()...)
	}
	return append(all, route{"POST /logout", logout}, route{"GET /{$}", home}, route{"GET /", missing})
}

// parts are the files' own routes, in the menu's order.
var parts = []func() []route{
	dashboardRoutes, commitRoutes, monitorRoutes, policyRoutes, objectRoutes,
	setupRoutes, hsmRoutes, administratorRoutes, certificateRoutes, masterKeyRoutes, configurationRoutes,
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	// A request that changes something must come from a page of this server
	// (Sec-Fetch-Site, or Origin in older browsers); forms also carry the
	// session's token.
	if err := h.origins.Check(r); err != nil {
		http.Error(w, "this request comes from another site", http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// secure sets what every answer says to the browser.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "+
		"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
}

// cached lets assets be kept for a day.
func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400")
		next.ServeHTTP(w, r)
	})
}

// inside serves those who have logged in; others are asked to.
func (h *Handler) inside(serve func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := h.sessions.find(r)
		if s == nil {
			h.askLogin(w, r)
			return
		}
		caller, still := h.m.Current(s.caller)
		if !still {
			h.sessions.end(s)
			h.askLogin(w, r)
			return
		}
		v := &visit{h: h, w: w, r: r, s: s, caller: caller}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if !v.readForm() {
				return
			}
		}
		if err := serve(v); err != nil {
			v.failed(err)
		}
	}
}

// home is the dashboard.
func home(v *visit) error { return v.redirect("/dashboard") }

func missing(v *visit) error {
	v.w.WriteHeader(http.StatusNotFound)
	return v.page(Page{Title: "Not found"}, message("There is no such page", "The address may be of an older version. The menu above leads on."))
}

// may reports whether the caller's role may do something, so that no button is
// shown that would be refused. mgmt decides again when it is pressed.
func (v *visit) may(op admin.Operation) bool { return v.caller.Role.May(op) }
