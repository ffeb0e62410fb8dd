package ha

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/server"
	"moongate/internal/hsm/store"
)

// testPatience bounds what a test waits for; it is not meant to pass.
const testPatience = 30 * time.Second

var (
	soPassword = []byte("so-password")
	coPassword = []byte("co-password")
	cuPassword = []byte("cu-password")
	admin      = partition.Operator{Name: "test", From: "here"}
)

// appliance is a real HSM on disk, served in this process, with a partition "p"
// and a client "c". It can be killed and started, its clock be set, and its
// disk be full.
type appliance struct {
	name        string
	dir         string
	certificate tls.Certificate
	client      tls.Certificate
	address     string
	maxObjects  int

	shift atomic.Int64 // of its clock, in nanoseconds
	full  atomic.Bool  // nothing more can be recorded

	store   *store.Store
	log     *audit.Log
	hsm     *partition.HSM
	stopped chan error
	cancel  context.CancelFunc
	running bool
}

func newAppliance(t testing.TB, name string) *appliance {
	t.Helper()
	a := &appliance{name: name, dir: filepath.Join(t.TempDir(), name), address: "127.0.0.1:0", certificate: newPair(t, "127.0.0.1"), client: newPair(t, "c")}
	must(t, os.Mkdir(a.dir, 0o700))
	must(t, a.openStore())
	must(t, a.hsm.Initialize(t.Context(), admin, partition.InitOptions{Label: name, Officer: soPassword}))
	t.Cleanup(func() { must(t, a.kill()) })
	return a
}

func newPair(t testing.TB, name string) tls.Certificate {
	t.Helper()
	certificate, key, err := client.NewCertificate(name)
	must(t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	must(t, err)
	return pair
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (a *appliance) now() time.Time { return time.Now().Add(time.Duration(a.shift.Load())) }

// openStore opens what is on disk.
func (a *appliance) openStore() error {
	path := filepath.Join(a.dir, "device.key")
	root, err := store.LoadOrCreateRootKey(path)
	if err != nil {
		return err
	}
	if a.store, err = store.Open(a.dir, root, store.Options{KeyFile: store.PlainKeyFile(path), Now: a.now}); err != nil {
		return err
	}
	if a.log, err = audit.Open(filepath.Join(a.dir, "audit"), audit.Options{Origin: "test/" + a.name, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	a.hsm, err = partition.Open(partition.Options{
		Store: a.store, Journal: journal{a.log, &a.full}, Logger: slog.New(slog.DiscardHandler), Now: a.now, NewKDF: quickKDF,
		MaxObjects: a.maxObjects, Software: "moongate-hsm test",
	})
	return err
}

// quickKDF is as cheap as a stored derivation may be.
func quickKDF(p mech.Policy) mech.KDF {
	kdf := mech.NewKDF(p)
	kdf.Time, kdf.Memory, kdf.Threads = 1, 8<<10, 1
	return kdf
}

// journal is an audit log on a disk that may be full.
type journal struct {
	*audit.Log
	full *atomic.Bool
}

func (j journal) check() error {
	if j.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

func (j journal) Append(e audit.Event) error {
	if err := j.check(); err != nil {
		return err
	}
	return j.Log.Append(e)
}

func (j journal) Note(e audit.Event) (audit.Receipt, error) {
	if err := j.check(); err != nil {
		return audit.Receipt{}, err
	}
	return j.Log.Note(e)
}

func (j journal) AppendDurable(ctx context.Context, e audit.Event) error {
	if err := j.check(); err != nil {
		return err
	}
	return j.Log.AppendDurable(ctx, e)
}

// start serves the HSM, at the same address each time; it may be open already.
func (a *appliance) start() error {
	if a.running {
		return nil
	}
	if a.hsm == nil {
		if err := a.openStore(); err != nil {
			return err
		}
	}
	var listener net.Listener
	var err error
	for range 100 { // the port may be in use for a moment by another's connection
		if listener, err = net.Listen("tcp", a.address); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	a.address = listener.Addr().String()
	s, err := server.New(server.Options{
		Backend: backend{a.hsm}, Certificate: a.certificate, Serial: a.hsm.Serial(), Software: "moongate-hsm test",
		Grace: time.Millisecond, MaxConnectionsPerClient: 64,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx, listener) }()
	a.cancel, a.stopped, a.running = cancel, stopped, true
	return nil
}

// kill ends the HSM: connections break, and what it had in memory is gone.
func (a *appliance) kill() error {
	var failures []error
	if a.running {
		a.cancel()
		failures = append(failures, <-a.stopped)
		a.running = false
	}
	if a.hsm != nil {
		a.full.Store(false)
		failures = append(failures, a.hsm.Close(), a.log.Close(), a.store.Close())
		a.hsm = nil
	}
	return errors.Join(failures...)
}

// provision makes partition, roles and client.
func (a *appliance) provision(t testing.TB, o *partition.Officer) {
	t.Helper()
	ctx := t.Context()
	must(t, o.CreatePartition(ctx, "p"))
	must(t, o.InitCryptoOfficer(ctx, "p", coPassword))
	must(t, a.hsm.InitCryptoUser(ctx, admin, "p", coPassword, cuPassword))
	must(t, o.RegisterClient(ctx, partition.Registration{Name: "c", Address: "127.0.0.1", Certificate: pemOf(a.client)}))
	must(t, o.AssignPartition(ctx, "c", "p"))
}

func (a *appliance) officer(t testing.TB) *partition.Officer {
	t.Helper()
	o, err := a.hsm.AuthenticateOfficer(t.Context(), admin, soPassword)
	must(t, err)
	return o
}

// backend lets a server serve an HSM, as the daemon's does.
type backend struct{ hsm *partition.HSM }

func (b backend) Attach(ctx context.Context, peer server.Peer) (server.Client, error) {
	a, err := b.hsm.Attach(ctx, peer.Fingerprint.String(), peer.Remote)
	if err != nil {
		return nil, err
	}
	return attachment{a}, nil
}

type attachment struct{ a *partition.Attachment }

func (c attachment) Partitions(context.Context) ([]object.PartitionInfo, error) {
	return c.a.Partitions()
}

func (c attachment) OpenSession(_ context.Context, name string) (server.Session, error) {
	s, err := c.a.OpenSession(name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c attachment) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	return object.AuditCheckpoint{}, object.Errorf(object.ErrNotSupported, "no checkpoint here")
}

func (c attachment) AuditProof(context.Context, uint64) (object.AuditProof, error) {
	return object.AuditProof{}, object.Errorf(object.ErrNotSupported, "no proof here")
}

func (c attachment) Close() { c.a.Close() }

// cluster is several HSMs of one domain that have pinned each other, each
// behind a proxy.
type cluster struct {
	t       testing.TB
	hsms    []*appliance
	proxies []*proxy
}

func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for i := range n {
		c.hsms = append(c.hsms, newAppliance(t, fmt.Sprintf("hsm%c", 'a'+i)))
	}
	officers := make([]*partition.Officer, n)
	for i, a := range c.hsms {
		officers[i] = a.officer(t)
	}
	for i, a := range c.hsms {
		for j, b := range c.hsms {
			if i != j {
				certificate, _, err := b.hsm.HSMIdentity()
				must(t, err)
				must(t, officers[i].AddPeer(t.Context(), b.name, certificate))
			}
		}
		if i > 0 {
			request, err := officers[i].RequestDomain(t.Context(), c.hsms[0].name)
			must(t, err)
			sealed, err := officers[0].ShareDomain(t.Context(), a.name, request)
			must(t, err)
			must(t, officers[i].JoinDomain(t.Context(), c.hsms[0].name, sealed))
		}
		a.provision(t, officers[i])
	}
	c.serve()
	return c
}

// serve starts all HSMs and puts a proxy before each.
func (c *cluster) serve() {
	c.t.Helper()
	for _, a := range c.hsms {
		must(c.t, a.start())
		c.proxies = append(c.proxies, newProxy(c.t, a.address))
	}
}

// config is that of a group of all HSMs: quick in everything, but not so quick to
// suspect a member that a busy machine keeps from answering.
func (c *cluster) config(role client.Role) Config {
	c.t.Helper()
	config := Config{Label: "test-ha", Hedge: slowness * 500 * time.Millisecond, Probe: slowness * 150 * time.Millisecond}
	for i := range c.hsms {
		config.Members = append(config.Members, c.member(i, role))
	}
	if testing.Verbose() {
		config.Logger = slog.New(slog.NewTextHandler(c.t.Output(), nil))
	}
	return config
}

func (c *cluster) member(i int, role client.Role) Member {
	c.t.Helper()
	a := c.hsms[i]
	pinned, err := x509.ParseCertificate(a.certificate.Certificate[0])
	must(c.t, err)
	password := coPassword
	if role == client.RoleCryptoUser {
		password = cuPassword
	}
	return Member{Name: a.name, Config: client.Config{
		Address: c.proxies[i].address, ServerCertificates: []*x509.Certificate{pinned}, Certificate: a.client, Partition: "p",
		Role: role, Password: func() ([]byte, error) { return append([]byte(nil), password...), nil },
		MaxBackoff: slowness * 150 * time.Millisecond, CallTimeout: testPatience, KeepAlive: slowness * time.Second, ConnectTimeout: 5 * time.Second,
	}}
}

// create makes the group, closed at the test's end.
func (c *cluster) create(config Config) *Group {
	c.t.Helper()
	g, err := Create(c.t.Context(), config, nil)
	must(c.t, err)
	c.t.Cleanup(func() { must(c.t, g.Close()) })
	return g
}

// open uses a group that was made, closed at the test's end.
func (c *cluster) open(config Config) *Group {
	c.t.Helper()
	g, err := Open(config)
	must(c.t, err)
	c.t.Cleanup(func() { must(c.t, g.Close()) })
	return g
}

// eventually waits for something that a group does in the background.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(testPatience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", testPatience, what)
		}
	}
}

func (g *Group) stateOf(name string) State { return g.member(name).state() }

// direct is a client of one HSM alone, past its proxy.
func (c *cluster) direct(i int) *client.Client {
	c.t.Helper()
	m := c.member(i, client.RoleCryptoOfficer)
	m.Address = c.hsms[i].address
	d, err := client.Dial(c.t.Context(), m.Config)
	must(c.t, err)
	c.t.Cleanup(func() { d.Close() })
	return d
}

// wantEqual fails unless all HSMs hold the same objects.
func (c *cluster) wantEqual() {
	c.t.Helper()
	if texts := c.sums(); len(texts) > 1 {
		c.t.Errorf("members hold different things: %v", texts)
	}
}

// sums are the different digests of all HSMs, with whose they are.
func (c *cluster) sums() map[string][]string {
	c.t.Helper()
	texts := map[string][]string{}
	var mu sync.Mutex
	for i := range c.hsms {
		alone := c.direct(i)
		d, err := alone.Digest(c.t.Context())
		must(c.t, err)
		must(c.t, alone.Close())
		mu.Lock()
		key := fmt.Sprintf("%d objects, %d tombstones, %x", d.Objects, d.Tombstones, d.Sum[:6])
		texts[key] = append(texts[key], c.hsms[i].name)
		mu.Unlock()
	}
	return texts
}
