package origin

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Main is the origin process: it serves until in ends. Lines of Names on in
// are answered one by one on out.
func Main(in io.Reader, out io.Writer, classic bool) error {
	certs, err := newCertificates()
	if err != nil {
		return err
	}
	listener, other, err := listen()
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	config := &tls.Config{
		GetCertificate: certs.get,
		NextProtos:     []string{"http/1.1"},
		MinVersion:     tls.VersionTLS12,
	}
	if classic {
		config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
	}
	server := &http.Server{
		Handler:           handler(),
		ReadHeaderTimeout: 30 * time.Second,
		// A contestant that closes early is the client's to report.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan error, 2)
	for _, l := range []net.Listener{listener, other} {
		go func() { served <- server.Serve(tls.NewListener(l, config)) }()
	}

	encoder := json.NewEncoder(out)
	if err := encoder.Encode(hello{Addr: listener.Addr().String(), CA: string(certs.authority.PEM())}); err != nil {
		return fmt.Errorf("announcing the origin: %w", err)
	}
	if err := prepareLoop(json.NewDecoder(in), encoder, certs); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		server.Close() // kept connections are the contestants' pools
	}
	for range 2 {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving: %w", err)
		}
	}
	return nil
}

// listen opens one port on two loopback addresses, for contestants that tell
// protected servers apart by address.
func listen() (first, second net.Listener, err error) {
	for range 20 { // the port may be taken on the second address
		if first, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		_, port, _ := net.SplitHostPort(first.Addr().String())
		if second, err = net.Listen("tcp", net.JoinHostPort(secondHost, port)); err == nil {
			return first, second, nil
		}
		first.Close()
	}
	return nil, nil, err
}

func prepareLoop(in *json.Decoder, out *json.Encoder, certs *certificates) error {
	for {
		var names Names
		if err := in.Decode(&names); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading names: %w", err)
		}
		var answer done
		if err := certs.prepare(names); err != nil {
			answer.Error = err.Error()
		}
		if err := out.Encode(answer); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

func handler() http.Handler {
	body := make([]byte, MaxBody)
	Fill(body)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, Page(r.TLS.ServerName))
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.PathValue("n"))
		if err != nil || n < 0 || n > MaxBody {
			http.Error(w, "size out of range", http.StatusBadRequest)
			return
		}
		answer(w, body[:n])
	})
	return mux
}

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body) // an error is the reader's going away: the client reports it
}

// ours says whether the origin answers for a name.
func ours(name string) bool { return strings.HasSuffix(name, Domain) }
