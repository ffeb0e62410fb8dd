package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/server"
	"moongate/internal/hsm/store"
)

// BenchmarkRecording is what recording every key use costs an HSM's throughput:
// processor time of the whole HSM, and time on the clock, for one P-256
// signature of a client over the network, with the use on record and without,
// in turns. The client is a process of its own, whose processor time is not
// counted. One iteration is two turns of each; the figures are medians of all
// iterations, and of the difference within one, which a busy machine changes
// least. Where the HSM is busy its processor time is its throughput; with one
// request at a time the clock is.
//
//	go test -run '^$' -bench Recording -benchtime 100x ./internal/hsm/daemon
func BenchmarkRecording(b *testing.B) {
	dir := newDir(b)
	config := provision(b, dir)
	files := In(dir)
	_, root, err := openRootKey(files, nil)
	must(b, err)
	st, err := store.Open(dir, root, store.Options{MustExist: true})
	must(b, err)
	log, err := audit.Open(files.Audit(), audit.Options{Origin: mustOrigin(b, files), Logger: slog.New(slog.DiscardHandler)})
	must(b, err)
	uses := &useSwitch{Log: log}
	h, err := partition.Open(partition.Options{Store: st, Journal: uses, Logger: slog.New(slog.DiscardHandler)})
	must(b, err)
	certificate, err := files.loadCertificate()
	must(b, err)
	s, err := server.New(server.Options{Backend: backend{h, log}, Certificate: certificate, Serial: h.Serial()})
	must(b, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	// As cmd/moongate-hsm has it.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(4, 2*runtime.NumCPU()) + 2))
	ctx, cancel := context.WithCancel(b.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	defer func() {
		cancel()
		must(b, <-served)
		must(b, h.Close())
		must(b, log.Close())
		must(b, st.Close())
	}()

	for _, n := range []struct{ connections, inFlight int }{{1, 1}, {16, 1}, {1, 16}, {1, 64}} {
		b.Run(fmt.Sprintf("connections=%d/inflight=%d", n.connections, n.inFlight), func(b *testing.B) {
			l := startLoad(b, config, listener.Addr().String(), n.connections, n.inFlight)
			const signatures = 1000
			turn := func(recorded bool) cost {
				uses.off.Store(!recorded)
				before, start := processorTime(b), time.Now()
				l.sign(b, signatures)
				return cost{float64(processorTime(b)-before) / signatures, float64(time.Since(start)) / signatures}
			}
			turn(true)
			var without, more [2][]float64 // of each cost
			for b.Loop() {
				// Each goes first once: what grows in a turn does not count for
				// one alone.
				a, c, d, e := turn(false), turn(true), turn(true), turn(false)
				for i := range more {
					without[i] = append(without[i], (a[i]+e[i])/2)
					more[i] = append(more[i], (c[i]+d[i]-a[i]-e[i])/2)
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, name := range []string{"cpu", "clock"} {
				b.ReportMetric(median(without[i]), name+"-ns/sig")
				b.ReportMetric(median(more[i]), name+"-ns/record")
				b.ReportMetric(100*median(more[i])/median(without[i]), name+"-%")
			}
		})
	}
}

// cost is of a signature, in nanoseconds: processor time, time on the clock.
type cost [2]float64

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func mustOrigin(b *testing.B, files Files) string {
	verifier, err := audit.ReadVerifierKey(files.Audit())
	must(b, err)
	origin, _, _ := strings.Cut(verifier, "+")
	return origin
}

// processorTime is what this process and its kernel have computed so far.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// useSwitch is an audit log that can be told to leave key uses out.
type useSwitch struct {
	*audit.Log
	off atomic.Bool
}

func (s *useSwitch) Note(ev audit.Event) (audit.Receipt, error) {
	if s.off.Load() {
		return audit.Receipt{}, nil
	}
	return s.Log.Note(ev)
}

// load is a process that signs when it is told to.
type load struct {
	in  io.Writer
	out *bufio.Reader
}

// loadOrder is a line for a load's process: who it is, then how much to sign.
type loadOrder struct {
	Address, Server, Certificate, Key string // the last three in PEM
	Connections                       int
	InFlight                          int // on each
}

const loadVariable = "MOONGATE_RECORDING_LOAD"

func startLoad(b *testing.B, config client.Config, address string, connections, inFlight int) *load {
	key, err := x509.MarshalPKCS8PrivateKey(config.Certificate.PrivateKey)
	must(b, err)
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	order, err := json.Marshal(loadOrder{
		Address: address, Server: text("CERTIFICATE", config.ServerCertificates[0].Raw), Connections: connections, InFlight: inFlight,
		Certificate: text("CERTIFICATE", config.Certificate.Certificate[0]), Key: text("PRIVATE KEY", key),
	})
	must(b, err)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestRecordingLoad$")
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, err)
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	b.Cleanup(func() {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		must(b, cmd.Wait())
	})
	l := &load{in, bufio.NewReader(out)}
	_, err = fmt.Fprintf(in, "%s\n", order)
	must(b, err)
	l.answer(b)
	return l
}

func (l *load) sign(b *testing.B, n int) {
	_, err := fmt.Fprintln(l.in, n)
	must(b, err)
	l.answer(b)
}

func (l *load) answer(b *testing.B) {
	line, err := l.out.ReadString('\n')
	if err != nil || line != "done\n" {
		b.Fatalf("the load said %q, %v", line, err)
	}
}

// TestRecordingLoad is the client's process of BenchmarkRecording, and passes
// at once where it was not started by that.
func TestRecordingLoad(t *testing.T) {
	if os.Getenv(loadVariable) == "" {
		return
	}
	in := bufio.NewReader(os.Stdin)
	var order loadOrder
	line, err := in.ReadBytes('\n')
	must(t, err)
	must(t, json.Unmarshal(bytes.TrimSpace(line), &order))
	own, err := tls.X509KeyPair([]byte(order.Certificate), []byte(order.Key))
	must(t, err)
	block, _ := pem.Decode([]byte(order.Server))
	pinned, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	var signers []crypto.Signer
	for range order.Connections {
		c, err := client.Dial(t.Context(), client.Config{
			Address: order.Address, ServerCertificates: []*x509.Certificate{pinned}, Certificate: own, Partition: "p",
			Role: client.RoleCryptoOfficer, Password: func() ([]byte, error) { return []byte(soPassword), nil },
		})
		must(t, err)
		defer c.Close()
		pair, err := c.GenerateEC(t.Context(), elliptic.P256(), object.Template{}, object.Template{})
		must(t, err)
		signer, err := c.Key(t.Context(), pair.Private)
		must(t, err)
		for range order.InFlight {
			signers = append(signers, signer)
		}
	}
	digest := sha256.Sum256([]byte("m"))
	for fmt.Println("done"); ; fmt.Println("done") {
		var n int64
		if _, err := fmt.Fscanln(in, &n); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		var left atomic.Int64
		left.Store(n)
		var g errgroup.Group
		for _, signer := range signers {
			g.Go(func() error {
				for left.Add(-1) >= 0 {
					if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
						return err
					}
				}
				return nil
			})
		}
		must(t, g.Wait())
	}
}
