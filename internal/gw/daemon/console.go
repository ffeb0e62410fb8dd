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
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moongate/internal/gw/backup"
	"moongate/internal/gw/mgmt"
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

// maxSocketPath is how long a unix socket's path may be, in bytes (unix(7)).
const maxSocketPath = 107

// errNoConsole: no gateway runs on the data directory.
var errNoConsole = errors.New("the gateway does not run")

// listenConsole opens the socket. One that a stopped gateway left is replaced.
func listenConsole(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the console socket's path %s has %d bytes, at most %d; choose a data directory with a shorter path", path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing the old console socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the console socket: %w", err)
	}
	// Its directory is the gateway's own, mode 0700; this is the second lock.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("closing the console socket to others: %w", err)
	}
	return ownUsers{l}, nil
}

// ownUsers is a listener that only root and the gateway's own user get through.
type ownUsers struct{ net.Listener }

func (l ownUsers) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if uid, err := peerOf(conn); err == nil && (uid == 0 || uid == os.Getuid()) {
			return conn, nil
		}
		conn.Close()
	}
}

func peerOf(conn net.Conn) (uid int, err error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
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
	return serveHTTP(ctx, l, &http.Server{
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

// serveHTTP serves until ctx is done, and gives requests a second to end.
func serveHTTP(ctx context.Context, l net.Listener, srv *http.Server) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
