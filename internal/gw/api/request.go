package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"

	"moongate/internal/gw/mgmt"
)

// Bounds of a request beyond its size.
const (
	maxParams = 64
	maxName   = 64 // bytes of a parameter's name
)

// request is one request, with what its query and its body say as one set of
// parameters.
type request struct {
	from   netip.Addr
	header http.Header
	params map[string]string
	file   []byte // of a multipart body
	posted bool   // there is a file
	// basic is the user and password of the Authorization header.
	user, password string
	basic          bool
}

func (r *request) get(name string) string { return r.params[name] }

// read takes a request apart; an answer instead says what is wrong with it.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (*request, *answer) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, POST")
		return nil, failure(mgmt.CodeBadParameter, "the method is not GET or POST").as(http.StatusMethodNotAllowed)
	}
	// A browser that another site sends here brings along what it knows.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return nil, failure(mgmt.CodeForbidden, "requests from other sites are refused").as(http.StatusForbidden)
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameOrigin(origin, r.Host) {
		return nil, failure(mgmt.CodeForbidden, "requests from other sites are refused").as(http.StatusForbidden)
	}
	req := &request{from: peer(r), header: r.Header, params: map[string]string{}}
	req.user, req.password, req.basic = r.BasicAuth()
	if strings.Contains(r.URL.RawQuery, ";") {
		return nil, failure(mgmt.CodeBadParameter, "the query holds an unescaped semicolon, expected %%3B")
	}
	if refused := req.add(r.URL.Query()); refused != nil {
		return nil, refused
	}
	if r.Method == http.MethodGet {
		return req, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	share := h.bodies.share(req.from)
	defer share.end()
	r.Body = &metered{r.Body, share}
	return req, req.body(r)
}

// sameOrigin reports whether a page of this gateway's own sent a request.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == "https" && u.Host == host
}

// body adds a form's parameters and the file of a multipart form.
func (req *request) body(r *http.Request) *answer {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case kind == "multipart/form-data":
		return req.multipart(r)
	case kind == "application/x-www-form-urlencoded":
		if err := r.ParseForm(); err != nil {
			return unreadable(err)
		}
		return req.add(r.PostForm)
	}
	// Some clients post with everything in the query, and no type.
	var one [1]byte
	n, readErr := io.ReadFull(r.Body, one[:])
	switch {
	case n == 0 && readErr == io.EOF:
		return nil
	case err != nil || kind == "":
		return failure(mgmt.CodeBadParameter, "the body has no Content-Type, expected application/x-www-form-urlencoded or multipart/form-data")
	default:
		return failure(mgmt.CodeBadParameter, "the body is %s, expected application/x-www-form-urlencoded or multipart/form-data", shown(kind))
	}
}

// multipart reads a multipart form: text parts are parameters, the part that
// has a file name is the file.
func (req *request) multipart(r *http.Request) *answer {
	reader, err := r.MultipartReader()
	if err != nil {
		return unreadable(err)
	}
	for {
		part, err := reader.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return unreadable(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return unreadable(err)
		}
		if part.FileName() == "" && part.FormName() != "file" {
			if refused := req.add(map[string][]string{part.FormName(): {string(content)}}); refused != nil {
				return refused
			}
			continue
		}
		if req.posted {
			return failure(mgmt.CodeBadParameter, "the form has more than one file, expected one")
		}
		req.file, req.posted = content, true
	}
}

// add takes parameters; one that comes twice must say the same.
func (req *request) add(params map[string][]string) *answer {
	for name, values := range params {
		for _, value := range values {
			before, twice := req.params[name]
			switch {
			case name == "" || len(name) > maxName:
				return failure(mgmt.CodeBadParameter, "a parameter's name is empty or longer than %d bytes", maxName)
			case !utf8.ValidString(value):
				return failure(mgmt.CodeBadParameter, "Parameter %q is no UTF-8", name)
			case twice && before != value:
				return failure(mgmt.CodeBadParameter, "Parameter %q is given twice, with different values", name)
			case !twice && len(req.params) == maxParams:
				return failure(mgmt.CodeBadParameter, "the request has more than %d parameters", maxParams)
			}
			req.params[name] = value
		}
	}
	return nil
}

// unreadable says why a body could not be read. What is in it is not repeated.
func unreadable(err error) *answer {
	if errors.Is(err, errCrowded) {
		a := failure(mgmt.CodeBadParameter, "too many large requests at a time, try again in a moment").as(http.StatusServiceUnavailable)
		a.retry = 1
		return a
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return failure(mgmt.CodeBadParameter, "the body is larger than %d bytes", large.Limit).as(http.StatusRequestEntityTooLarge)
	}
	return failure(mgmt.CodeBadParameter, "the body is no complete form").as(http.StatusBadRequest)
}
