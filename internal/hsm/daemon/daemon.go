// Package daemon makes a network HSM of its parts: it creates one on disk
// (Init), runs one (Run), and opens one for administration while it is not
// running (Open). It holds no rule of its own; hsm/partition does.
package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/durable"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/server"
	"moongate/internal/hsm/store"
)

// InitOptions say what Init makes.
type InitOptions struct {
	Dir   string
	Label string
	// Hosts are the addresses and names that clients will reach the HSM by;
	// they go into its certificate.
	Hosts []string
	FIPS  bool
	// Officer is the Security Officer's password.
	Officer []byte
}

// Init makes an HSM in a directory that holds none: device root key, store,
// server certificate. It returns the serial number. What a failed Init leaves
// behind is completed or refused by the next one, never overwritten.
func Init(opts InitOptions) (string, error) {
	files := In(opts.Dir)
	if err := durable.Mkdir(opts.Dir); err != nil {
		return "", fmt.Errorf("making the data directory: %w", err)
	}
	if err := durable.Mkdir(files.Inbox()); err != nil {
		return "", fmt.Errorf("making the inbox: %w", err)
	}
	policy := mech.Policy{FIPS: opts.FIPS}
	if err := policy.Ready(); err != nil {
		return "", err
	}
	root, err := store.LoadOrCreateRootKey(files.RootKey())
	if err != nil {
		return "", err
	}
	st, err := store.Open(opts.Dir, root, store.Options{})
	if err != nil {
		return "", err
	}
	defer st.Close()
	if err := makeCertificate(files, opts.Hosts); err != nil {
		return "", err
	}
	if err := partition.Initialize(st, opts.Label, opts.Officer, policy, time.Now()); err != nil {
		return "", err
	}
	serial, _, err := partition.Identity(st)
	return serial, err
}

// makeCertificate writes the server's certificate and key, the key first, and
// leaves a pair that is there.
func makeCertificate(files Files, hosts []string) error {
	if _, err := os.Stat(files.Certificate()); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := "moongate-hsm"
	if len(hosts) > 0 {
		name = hosts[0]
	}
	cert, key, err := client.NewCertificate(name, hosts...)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(files.CertificateKey(), key, 0o600); err != nil {
		return fmt.Errorf("writing the server's key: %w", err)
	}
	if err := durable.WriteFile(files.Certificate(), cert, 0o644); err != nil {
		return fmt.Errorf("writing the server's certificate: %w", err)
	}
	return nil
}

// Options say how Run serves an HSM.
type Options struct {
	Dir     string
	Listen  string // host:port of the client protocol
	Version string
	Logger  *slog.Logger
	// AcceptAuditLoss is the operator's word that a damaged audit log is put
	// aside and begun anew (audit.Options.AcceptLoss).
	AcceptAuditLoss bool
	// Ready is called once the HSM serves, with the address it listens on.
	Ready func(addr net.Addr)
}

// ErrFIPSModule says that the HSM was made for FIPS mode and that this process
// was not started in it.
var ErrFIPSModule = errors.New("the HSM is in FIPS mode, and this process's Go cryptographic module is not")

// Appliance is an HSM that is open in this process.
type Appliance struct {
	adminshell.Appliance
	certificate tls.Certificate
	store       *store.Store
}

// Open opens the HSM in a directory; no other process may have it open.
func Open(opts Options) (*Appliance, error) {
	files := In(opts.Dir)
	root, err := store.LoadRootKey(files.RootKey())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.Errorf(object.ErrNotInitialized, "there is no HSM in %s: %s is missing; run `moongate-hsm init`, or put the key back", opts.Dir, files.RootKey())
	} else if err != nil {
		return nil, err
	}
	a := &Appliance{Appliance: adminshell.Appliance{
		Version: opts.Version, AuditDir: files.Audit(), Inbox: files.Inbox(), Listen: opts.Listen, Certificate: files.Certificate(), Logger: opts.Logger,
	}}
	if a.certificate, err = tls.LoadX509KeyPair(files.Certificate(), files.CertificateKey()); err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	sum := sha256.Sum256(a.certificate.Certificate[0])
	a.Fingerprint = hex.EncodeToString(sum[:])
	if a.store, err = store.Open(opts.Dir, root, store.Options{MustExist: true}); err != nil {
		return nil, err
	}
	if err := a.open(opts); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Appliance) open(opts Options) error {
	serial, policy, err := partition.Identity(a.store)
	if err != nil {
		return err
	}
	if err := policy.Ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrFIPSModule, err)
	}
	a.Journal, err = audit.Open(a.AuditDir, audit.Options{
		Origin: "moongate-hsm/" + serial, Logger: opts.Logger, AcceptLoss: opts.AcceptAuditLoss,
	})
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	a.HSM, err = partition.Open(partition.Options{Store: a.store, Journal: a.Journal, Logger: opts.Logger})
	return err
}

// Close closes the audit log, then the store.
func (a *Appliance) Close() error {
	var err error
	if a.Journal != nil {
		err = a.Journal.Close()
	}
	return errors.Join(err, a.store.Close())
}

// Run serves an HSM until ctx is done: clients on opts.Listen, administrators
// of this machine on the socket.
func Run(ctx context.Context, opts Options) (err error) {
	harden(opts.Logger)
	a, err := Open(opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()

	srv, err := server.New(server.Options{
		Backend: backend{a.HSM}, Certificate: a.certificate, Serial: a.HSM.Serial(),
		Software: "moongate-hsm " + opts.Version, Logger: opts.Logger,
	})
	if err != nil {
		return err
	}
	a.HSM.OnDisconnect(func(fingerprint string) {
		var f server.Fingerprint
		if n, err := hex.Decode(f[:], []byte(fingerprint)); err == nil && n == len(f) {
			srv.Disconnect(f)
		}
	})
	local, err := adminshell.ListenLocal(In(opts.Dir).Socket())
	if err != nil {
		return err
	}
	defer local.Close()
	listener, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return fmt.Errorf("listening for clients on %s: %w", opts.Listen, err)
	}
	defer listener.Close()
	a.Listen = listener.Addr().String()

	opts.Logger.Info("HSM ready", "listen", a.Listen, "serial", a.HSM.Serial(), "fingerprint", a.Fingerprint)
	if opts.Ready != nil {
		opts.Ready(listener.Addr())
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Serve(ctx, listener) })
	group.Go(func() error { return adminshell.ServeLocal(ctx, local, &a.Appliance) })
	return group.Wait()
}
