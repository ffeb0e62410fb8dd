// Capacity fills one network HSM with keys, clients and sessions, and says what
// that costs: memory, and the latency of one client's signatures while it is
// empty, full, busy and under attack.
//
//	go run ./bench/capacity                                      what the documentation says
//	go run ./bench/capacity -clients 100 -sessions 10 -keys 500  a quick pass
//
// Everything runs on this machine; the HSM is a process of its own. Run it
// alone: what else runs is in the figures.
package main

import (
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/client"
	"moongate/e2e/world"
	"moongate/internal/hsm/object"
)

func main() {
	clients := flag.Int("clients", 1000, "registered clients, with a connection each")
	sessions := flag.Int("sessions", 10, "sessions of each connection, all logged in")
	keys := flag.Int("keys", 10_000, "key pairs in the partition")
	during := flag.Duration("during", 10*time.Second, "time of each measurement")
	flag.Parse()
	if flag.NArg() == 1 && flag.Arg(0) == attackCommand {
		attack(os.Stdin)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *clients, *sessions, *keys, *during); err != nil {
		fmt.Fprintln(os.Stderr, "capacity:", err)
		os.Exit(1)
	}
}

// fleet is an HSM with its clients.
type fleet struct {
	hsm       *world.HSM
	partition *world.Partition
	pinned    []byte
	certs     []tls.Certificate
}

func run(ctx context.Context, clients, sessions, keys int, during time.Duration) error {
	dir, err := os.MkdirTemp("", "capacity-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := prepare(ctx, dir, clients+2)
	if err != nil {
		return err
	}
	defer f.hsm.Close()
	f.report("empty")

	key, err := f.fill(ctx, keys)
	if err != nil {
		return err
	}
	p, err := f.probe(ctx, key)
	if err != nil {
		return err
	}
	if err := f.measure(ctx, "one client", p, during); err != nil {
		return err
	}
	crowd, err := f.crowd(ctx, clients, sessions)
	if err != nil {
		return err
	}
	if err := f.measure(ctx, "all others idle", p, during); err != nil {
		return err
	}
	busy, calm := context.WithCancel(ctx)
	signed := crowd.work(busy, key)
	err = f.measure(ctx, "all others sign, once a second each", p, during)
	calm()
	fmt.Printf("  meanwhile the others made %d signatures\n", signed())
	if err != nil {
		return err
	}
	err = f.attacked(ctx, p, key, during)
	runtime.KeepAlive(crowd) // or their connections are closed as garbage before
	return err
}

// attacked measures the probe while client 1, or a stranger, attacks from a
// process of its own.
func (f *fleet) attacked(ctx context.Context, p *probe, key object.ID, during time.Duration) error {
	own, err := x509.MarshalPKCS8PrivateKey(f.certs[1].PrivateKey)
	if err != nil {
		return err
	}
	for _, h := range hostiles {
		order := order{
			Hostile: h.name, Address: f.hsm.Addr, Certificate: f.certs[1].Certificate[0], Key: own, Pinned: f.pinned,
			Role: object.RoleCryptoOfficer, Password: f.partition.CryptoOfficer, Object: key,
		}
		end, err := order.start(ctx)
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		err = f.measure(ctx, h.name, p, during)
		end()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) report(what string) {
	mib, err := memory(f.hsm.PID())
	if err != nil {
		fmt.Println(what+":", err)
		return
	}
	fmt.Printf("%-70s %4d MiB\n", what, mib)
}

func (f *fleet) measure(ctx context.Context, what string, p *probe, during time.Duration) error {
	list, err := p.measure(ctx, during)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	f.report(what)
	fmt.Printf("  %v\n", list)
	return nil
}

// prepare makes an HSM with a partition and registers clients for it.
func prepare(ctx context.Context, dir string, clients int) (*fleet, error) {
	hsm, err := world.StartHSM(ctx, dir)
	if err != nil {
		return nil, err
	}
	f := &fleet{hsm: hsm}
	if f.partition, err = hsm.NewPartition(ctx, "p1"); err != nil {
		return nil, err
	}
	servers, err := client.LoadCertificates(hsm.ServerCertificate())
	if err != nil {
		return nil, err
	}
	f.pinned = servers[0].Raw
	var script []string
	for i := range clients {
		name := fmt.Sprintf("c%d", i)
		cert, key, err := client.NewCertificate(name, "127.0.0.1")
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		f.certs = append(f.certs, pair)
		file := filepath.Join(dir, name+".pem")
		if err := os.WriteFile(file, cert, 0o600); err != nil {
			return nil, err
		}
		script = append(script, "client register -c "+name+" -ip 127.0.0.1 -certificate "+file, "client assignPartition -c "+name+" -p p1")
	}
	start := time.Now()
	if out, err := hsm.Shell(ctx, script...); err != nil {
		return nil, fmt.Errorf("registering clients: %w\n%s", err, tail(out))
	}
	fmt.Printf("%d clients registered in %v\n", clients, time.Since(start).Round(time.Millisecond))
	return f, nil
}

// tail is the end of what a shell said.
func tail(out string) string { return out[max(0, len(out)-500):] }

// dialer connects as client i.
func (f *fleet) dialer(i int) func(context.Context) (*connection, error) {
	return func(ctx context.Context) (*connection, error) { return dial(ctx, f.hsm.Addr, f.certs[i], f.pinned) }
}

// fill makes keys with client 0 and returns the last one.
func (f *fleet) fill(ctx context.Context, keys int) (object.ID, error) {
	servers, err := client.LoadCertificates(f.hsm.ServerCertificate())
	if err != nil {
		return object.ID{}, err
	}
	c, err := client.Dial(ctx, client.Config{
		Address: f.hsm.Addr, ServerCertificates: servers, Certificate: f.certs[0], Role: client.RoleCryptoOfficer,
		Password: func() ([]byte, error) { return []byte(f.partition.CryptoOfficer), nil },
	})
	if err != nil {
		return object.ID{}, err
	}
	defer c.Close()
	start := time.Now()
	ids := make([]object.ID, keys)
	var g errgroup.Group
	g.SetLimit(32)
	for i := range keys {
		g.Go(func() error {
			label := client.NewTemplate(client.TextAttr(client.AttrLabel, fmt.Sprintf("key %d", i)))
			pair, err := c.GenerateEC(ctx, elliptic.P256(), label, label)
			ids[i] = pair.Private
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return object.ID{}, err
	}
	fmt.Printf("%d P-256 key pairs made in %v, each on the disk\n", keys, time.Since(start).Round(time.Millisecond))
	return ids[keys-1], nil
}

func (f *fleet) probe(ctx context.Context, key object.ID) (*probe, error) {
	c, err := f.dialer(0)(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	session, err := c.session(object.RoleCryptoOfficer, f.partition.CryptoOfficer)
	if err != nil {
		return nil, err
	}
	fmt.Printf("first login, which reads every object: %v\n", time.Since(start).Round(time.Millisecond))
	return &probe{c, session, key}, nil
}

// crowd are connections with their sessions.
type crowd struct {
	connections []*connection
	sessions    []uint32 // the first of each
}

func (f *fleet) crowd(ctx context.Context, clients, sessions int) (*crowd, error) {
	all := &crowd{make([]*connection, clients), make([]uint32, clients)}
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(16)
	for i := range clients {
		g.Go(func() error {
			c, err := f.dialer(i + 2)(ctx)
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			all.connections[i] = c
			for n := range sessions {
				s, err := c.session(object.RoleCryptoOfficer, f.partition.CryptoOfficer)
				if err != nil {
					return fmt.Errorf("connection %d, session %d: %w", i, n, err)
				}
				all.sessions[i] = s
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	fmt.Printf("%d connections with %d sessions, all logged in, in %v\n", clients, clients*sessions, time.Since(start).Round(time.Millisecond))
	return all, nil
}

// work lets every connection sign once a second; the function that it returns
// waits for them to end after ctx and tells how often they did.
func (all *crowd) work(ctx context.Context, key object.ID) func() int64 {
	var count atomic.Int64
	var g errgroup.Group
	for i, c := range all.connections {
		g.Go(func() error {
			first := time.NewTimer(time.Second * time.Duration(i) / time.Duration(len(all.connections)))
			defer first.Stop()
			select {
			case <-first.C:
			case <-ctx.Done():
				return nil
			}
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				if err := c.sign(all.sessions[i], key); err != nil {
					return err
				}
				count.Add(1)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	return func() int64 {
		if err := g.Wait(); err != nil {
			fmt.Println("  a connection failed:", strings.TrimSpace(err.Error()))
		}
		return count.Load()
	}
}
