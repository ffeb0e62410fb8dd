package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"moongate/internal/gw/mgmt"
)

// askLogin sends to the login, and from there back to the page.
func (h *Handler) askLogin(w http.ResponseWriter, r *http.Request) {
	to := "/login"
	if r.Method == http.MethodGet && r.URL.Path != "/" && r.Header.Get("HX-Request") == "" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// here returns a path of this server, "/" for anything that could lead away.
func here(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

func (h *Handler) loginPage(w http.ResponseWriter, r *http.Request) {
	h.showLogin(w, r, http.StatusOK, "", "")
}

func (h *Handler) showLogin(w http.ResponseWriter, r *http.Request, status int, user, refusal string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := loginView(h.m.Hostname(), here(r.FormValue("next")), user, refusal, themeOf(r)).Render(r.Context(), w); err != nil {
		h.log.Debug("showing the login", "err", err)
	}
}

// maxForm bounds a form without files, in bytes.
const maxForm = 1 << 20

func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	user, password := r.PostFormValue("user"), []byte(r.PostFormValue("password"))
	defer clear(password)
	from, _ := netip.ParseAddrPort(r.RemoteAddr)
	caller, err := h.m.PasswordLogin(r.Context(), mgmt.Web, from.Addr().Unmap(), user, password)
	if err != nil {
		h.showLogin(w, r, http.StatusForbidden, user, err.Error())
		return
	}
	if before := h.sessions.find(r); before != nil {
		h.sessions.end(before)
	}
	name, _ := h.sessions.begin(caller, h.m.Enter(caller))
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, here(r.PostFormValue("next")), http.StatusSeeOther)
}

func logout(v *visit) error {
	v.h.sessions.end(v.s)
	http.SetCookie(v.w, &http.Cookie{Name: cookieName, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
	return v.redirect("/login")
}

// themeOf is the look that a browser asked for: light, dark, or "" for what its
// system has.
func themeOf(r *http.Request) string {
	if c, err := r.Cookie("theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}
