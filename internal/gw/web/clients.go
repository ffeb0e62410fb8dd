package web

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strings"

	"moongate/internal/gw/config"
)

// The page for clients: the forward-trust CAs that they need to trust, and a
// PAC file, for everybody, where the configuration says so.

const clientsPage = "/clients"

// clientRoutes need no login.
func (h *Handler) clientRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+clientsPage, h.forClients(h.showClients))
	mux.HandleFunc("GET "+clientsPage+"/{file}", h.forClients(h.clientFile))
}

// forClients answers only where the page is switched on; otherwise it looks as
// if it were not there.
func (h *Handler) forClients(serve func(http.ResponseWriter, *http.Request, *config.Snapshot)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := h.m.Snapshot()
		if s == nil || !s.Management.ClientPage {
			http.NotFound(w, r)
			return
		}
		serve(w, r, s)
	}
}

// authority is a forward-trust CA as clients get it.
type authority struct {
	File, Kind, Subject, Until, SHA256 string
	certificate                        *config.Certificate
}

func authorities(s *config.Snapshot) []authority {
	var list []authority
	for _, a := range []struct{ file, kind, name string }{{"forward-trust", "RSA", s.ForwardTrust.RSA}, {"forward-trust-ecdsa", "ECDSA", s.ForwardTrust.ECDSA}} {
		for i := range s.Certificates {
			if c := &s.Certificates[i]; a.name != "" && c.Name == a.name {
				leaf := c.Leaf()
				list = append(list, authority{a.file, a.kind, leaf.Subject.String(), leaf.NotAfter.UTC().Format("2006-01-02"), fingerprint(leaf.Raw), c})
			}
		}
	}
	return list
}

// proxyFor is where a client that reached this page under a host finds the
// forward proxy; "" where there is none.
func proxyFor(s *config.Snapshot, host string) string {
	if len(s.Forward) == 0 {
		return ""
	}
	at := s.Forward[0].Listen
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !at.Addr().IsUnspecified() {
		host = at.Addr().String()
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), fmt.Sprint(at.Port()))
}

func (h *Handler) showClients(w http.ResponseWriter, r *http.Request, s *config.Snapshot) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	view := clientsView(h.m.Hostname(), authorities(s), proxyFor(s, r.Host), themeOf(r))
	if err := view.Render(r.Context(), w); err != nil {
		h.log.Debug("showing the page for clients", "err", err)
	}
}

func (h *Handler) clientFile(w http.ResponseWriter, r *http.Request, s *config.Snapshot) {
	name := r.PathValue("file")
	if name == "proxy.pac" {
		proxy := proxyFor(s, r.Host)
		if proxy == "" || !plainHost(proxy) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
		fmt.Fprintf(w, "function FindProxyForURL(url, host) {\n  if (isPlainHostName(host) || host == \"localhost\" || shExpMatch(host, \"127.*\")) return \"DIRECT\";\n  if (url.substring(0, 6) == \"https:\") return \"PROXY %s\";\n  return \"DIRECT\";\n}\n", proxy)
		return
	}
	for _, a := range authorities(s) {
		var content []byte
		switch name {
		case a.File + ".pem":
			content = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Leaf().Raw})
		case a.File + ".crt":
			content = a.certificate.Leaf().Raw
		default:
			continue
		}
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
		_, _ = w.Write(content) // an error is the connection's
		return
	}
	http.NotFound(w, r)
}

// plainHost reports a host and port that can stand in a script: what a client
// says in its Host header is its own, and goes no further than to itself.
func plainHost(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".:-[]_", r)
	})
}

// fingerprint is a certificate's SHA-256 as platforms show it: pairs of digits.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	var pairs []string
	for _, b := range sum {
		pairs = append(pairs, fmt.Sprintf("%02X", b))
	}
	return strings.Join(pairs, ":")
}
