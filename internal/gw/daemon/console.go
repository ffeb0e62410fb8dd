package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moongate/internal/gw/backup"
	"moongate/internal/gw/mgmt"
	"moongate/internal/httpd"
	"moongate/internal/ownsocket"
)

// The console is a unix socket of the gateway's own user and root: what is done
// on the machine itself, without an account, is asked for there while the
// gateway runs. It speaks HTTP; a request is a POST of one JSON object.

// ResetRequest is a password that is set at the console.
type ResetRequest struct {
	Name     string `json:"name"`
	Password []byte `json:"password"`
	// Create makes the account, a superuser, where it is not there.
	Create bool `json:"create"`
}

// BackupRequest asks for a backup.
type BackupRequest struct {
	Passphrase []byte `json:"passphrase"`
	Logs       bool   `json:"logs"`
}

const (
	resetPath  = "/admin/reset"
	backupPath = "/backup"
)

// maxConsoleBody bounds a request, in bytes.
const maxConsoleBody = 16 << 10

// errNoConsole: no gateway runs on the data directory.
var errNoConsole = errors.New("the gateway does not run")

// listenConsole opens the socket. One that a stopped gateway left is replaced.
func listenConsole(path string) (net.Listener, error) {
	l, err := ownsocket.Listen(path, "console")
	if err != nil {
		return nil, err
	}
	return ownsocket.Guard(l), nil
}

// serveConsole serves the console until ctx is done. It closes the listener.
func serveConsole(ctx context.Context, l net.Listener, m *mgmt.Manager, b *backupSource, logger *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+resetPath, func(w http.ResponseWriter, r *http.Request) {
		var req ResetRequest
		if !readConsole(w, r, &req) {
			return
		}
		defer clear(req.Password)
		if err := m.ResetAdministrator(r.Context(), req.Name, req.Password, req.Create); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST "+backupPath, func(w http.ResponseWriter, r *http.Request) {
		var req BackupRequest
		if !readConsole(w, r, &req) {
			return
		}
		defer clear(req.Passphrase)
		if err := backup.CheckPassphrase(req.Passphrase); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if err := b.write(r.Context(), w, req); err != nil {
			logger.Error("a backup was not made to its end", "err", err)
			panic(http.ErrAbortHandler) // what was sent is not whole, and does not look so
		}
	})
	return httpd.Serve(ctx, l, &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 4 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	})
}

func readConsole(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxConsoleBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		http.Error(w, "the request cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

// callConsole asks the gateway that runs on a data directory; errNoConsole
// where none does.
func callConsole(ctx context.Context, files Files, path string, request any) (io.ReadCloser, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", files.Console())
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://console"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return nil, errNoConsole
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("this gateway belongs to another user; run as that user or as root: %w", err)
	case err != nil:
		return nil, fmt.Errorf("asking the gateway: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, maxConsoleBody))
		if err != nil {
			return nil, fmt.Errorf("reading the gateway's answer: %w", err)
		}
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return res.Body, nil
}
