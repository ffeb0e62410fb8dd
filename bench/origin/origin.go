// Package origin is the server that every contestant of the benchmark talks
// to: HTTPS over HTTP/1.1, in a process of its own so that its processor time
// is seen, with a certificate of its own for every host name under Domain.
//
//	o, err := origin.Start(ctx, "/proc/self/exe", "origin")
//	defer o.Close()
//	err = o.Prepare(ctx, Names{Pattern: "n%d.ec.bench.test", First: 0, Count: 1000})
//
// Start runs the program given, which must call Main. The two talk in JSON
// lines over the child's standard input and output; the child ends when its
// standard input does, so that it cannot outlive the benchmark.
package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"
)

// Domain is the parent of every name that the origin answers for. A name that
// ends in RSASuffix has an RSA-2048 certificate, any other a P-256 one.
const (
	Domain    = ".bench.test"
	RSASuffix = ".rsa" + Domain
)

// MaxBody bounds the answers of /bytes/N.
const MaxBody = 16 << 20

// secondHost is the origin's other address.
const secondHost = "127.0.0.2"

// pageSize is the length of the small page.
const pageSize = 512

// Page is the small page as the origin answers it on a connection whose
// server name was name: a wrong name upstream shows in the body.
func Page(name string) []byte {
	page := bytes.Repeat([]byte{'.'}, pageSize)
	copy(page, "served for "+name+"\n")
	return page
}

// Fill writes the body of /bytes/len(p), which is the same for every name.
func Fill(p []byte) {
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
}

// Names is a run of host names: Pattern holds one %d, or none for a single
// name.
type Names struct {
	Pattern string `json:"pattern"`
	First   int    `json:"first"`
	Count   int    `json:"count"`
}

// At returns the name with offset i from the first.
func (n Names) At(i int) string {
	if !strings.Contains(n.Pattern, "%d") {
		return n.Pattern
	}
	return fmt.Sprintf(n.Pattern, n.First+i)
}

// hello is the child's first line.
type hello struct {
	Addr string `json:"addr"`
	CA   string `json:"ca"`
}

// done answers a Names line.
type done struct {
	Error string `json:"error,omitempty"`
}

// Origin is a running origin process. Its methods are called from one
// goroutine.
type Origin struct {
	Addr string // host:port on loopback
	// Second is the same on another loopback address.
	Second string
	CA     []byte // certificate of its authority, PEM
	PID    int

	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// Start runs the origin and waits until it listens. The process ends with
// ctx, or at Close.
func Start(ctx context.Context, classic bool, program string, args ...string) (*Origin, error) {
	if classic {
		args = append(args, "-classic")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 5 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("making the origin's input: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("making the origin's output: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the origin: %w", err)
	}
	o := &Origin{PID: cmd.Process.Pid, cmd: cmd, in: in, out: json.NewDecoder(out)}
	var h hello
	if err := o.out.Decode(&h); err != nil {
		o.Close()
		return nil, fmt.Errorf("waiting for the origin: %w\n%s", err, &stderr)
	}
	_, port, err := net.SplitHostPort(h.Addr)
	if err != nil {
		return nil, fmt.Errorf("starting the origin: %w", err)
	}
	o.Addr, o.Second, o.CA = h.Addr, net.JoinHostPort(secondHost, port), []byte(h.CA)
	return o, nil
}

// Prepare has the origin issue certificates for the names, in place of those
// prepared before, so that issuing is not measured.
func (o *Origin) Prepare(names Names) error {
	if err := json.NewEncoder(o.in).Encode(names); err != nil {
		return fmt.Errorf("asking the origin for certificates: %w", err)
	}
	var d done
	if err := o.out.Decode(&d); err != nil {
		return fmt.Errorf("waiting for the origin's certificates: %w", err)
	}
	if d.Error != "" {
		return fmt.Errorf("preparing certificates: %s", d.Error)
	}
	return nil
}

// Close ends the process and waits for it. How it ended does not matter any
// more: a request that it failed has failed the load.
func (o *Origin) Close() {
	o.in.Close()
	timer := time.AfterFunc(5*time.Second, func() { o.cmd.Process.Kill() })
	defer timer.Stop()
	o.cmd.Wait()
}
