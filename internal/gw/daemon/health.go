package daemon

import (
	"io"
	"net/http"

	"moongate/internal/gw/mgmt"
)

// health answers those who watch over processes: alive says that this one
// answers, ready that the running configuration is in use and, where it names an
// HSM, that private keys can be used. What is missing is said in a word; an
// administrator can see more.
func health(mux *http.ServeMux, m *mgmt.Manager) {
	mux.HandleFunc("GET /health/alive", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		switch s := m.Snapshot(); {
		case s == nil, m.Trouble() != nil:
			answer(w, http.StatusServiceUnavailable, "configuration not in use")
		case s.HSM != nil && !m.HSMReady():
			answer(w, http.StatusServiceUnavailable, "HSM not connected")
		case m.VaultLocked():
			answer(w, http.StatusServiceUnavailable, "master key not unlocked")
		default:
			answer(w, http.StatusOK, "ready")
		}
	})
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}
