package web

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/a-h/templ"

	"moongate/internal/gw/mgmt"
)

// visit is one request of an administrator.
type visit struct {
	h *Handler
	w http.ResponseWriter
	r *http.Request
	s *session

	caller mgmt.Caller // as it is now
	form   *Form       // of a request that changes something
}

func (v *visit) ctx() context.Context { return v.r.Context() }
func (v *visit) m() *mgmt.Manager     { return v.h.m }
func (v *visit) who() mgmt.Caller     { return v.caller }

// Page is what the frame needs to know of a page.
type Page struct {
	Title string
	Path  string // of the menu's entry that it belongs to
	// Status is the answer's; 0 is 200.
	Status int
}

// page answers with a page in its frame.
func (v *visit) page(p Page, body templ.Component) error {
	return v.write(p.Status, pageView(v.frame(p), body))
}

// part answers with a part of a page, for htmx to put in its place.
func (v *visit) part(status int, c templ.Component) error { return v.write(status, c) }

func (v *visit) write(status int, c templ.Component) error {
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if status != 0 {
		v.w.WriteHeader(status)
	}
	return c.Render(v.ctx(), v.w)
}

// live reports whether htmx asks for a part of the page.
func (v *visit) live() bool { return v.r.Header.Get("HX-Request") != "" }

// redirect sends the browser to another page of this server.
func (v *visit) redirect(to string) error {
	if v.live() {
		v.w.Header().Set("HX-Redirect", to)
		return nil
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// done goes to a page and says there what was done.
func (v *visit) done(to, text string) error {
	v.s.note(Notice{"good", text})
	return v.redirect(to)
}

// sorry goes to a page and says there what was not done.
func (v *visit) sorry(to string, err error) error {
	v.s.note(Notice{"bad", words(err)})
	return v.redirect(to)
}

// words are what an administrator is told of an error.
func words(err error) string {
	var e *mgmt.Error
	if errors.As(err, &e) {
		return strings.Join(e.Lines, "\n")
	}
	return err.Error()
}

// failed answers an error that no form took.
func (v *visit) failed(err error) {
	status := http.StatusInternalServerError
	switch mgmt.CodeOf(err) {
	case 0:
		if errors.Is(err, context.Canceled) {
			return
		}
		v.h.log.Error("a page of the web UI failed", "path", v.r.URL.Path, "err", err)
	case mgmt.CodeForbidden, mgmt.CodeDenied, mgmt.CodeUnauthorized:
		status = http.StatusForbidden
	case mgmt.CodeNotFound, mgmt.CodeNotPresent:
		status = http.StatusNotFound
	default:
		status = http.StatusUnprocessableEntity
	}
	if err := v.page(Page{Title: "Not possible", Status: status}, message("This cannot be done", words(err))); err != nil {
		v.h.log.Debug("showing an error", "err", err)
	}
}

// readForm reads what a request sends, and refuses one without the session's
// token.
func (v *visit) readForm() bool {
	limit := int64(maxForm)
	kind, _, _ := mime.ParseMediaType(v.r.Header.Get("Content-Type"))
	multipart := kind == "multipart/form-data"
	if multipart {
		limit = mgmt.MaxFile + maxForm
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, limit)
	var err error
	if multipart {
		err = v.r.ParseMultipartForm(limit)
	} else {
		err = v.r.ParseForm()
	}
	if err != nil {
		http.Error(v.w, "the form cannot be read, or is too large", http.StatusBadRequest)
		return false
	}
	token := v.r.Header.Get("X-Token")
	if token == "" {
		token = v.r.PostFormValue("token")
	}
	if !v.s.says(token) {
		http.Error(v.w, "the form is of another session; reload the page", http.StatusForbidden)
		return false
	}
	v.form = newForm(v.r.PostForm)
	return true
}

// file returns the content of a form's file; nil where none was chosen.
func (v *visit) file(name string) (content []byte, fileName string, err error) {
	if v.r.MultipartForm == nil {
		return nil, "", nil
	}
	f, header, err := v.r.FormFile(name)
	if errors.Is(err, http.ErrMissingFile) {
		return nil, "", nil
	} else if err != nil {
		return nil, "", err
	}
	defer f.Close()
	content, err = io.ReadAll(io.LimitReader(f, mgmt.MaxFile+1))
	return content, header.Filename, err
}

// attach sends a file for the browser to save.
func (v *visit) attach(name, kind string, content []byte) error {
	v.w.Header().Set("Content-Type", kind)
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	_, err := v.w.Write(content)
	return err
}
