// Package daemon makes a network HSM of its parts: it creates one on disk
// (Init), runs one (Run), and opens one for administration while it is not
// running (Open). It holds no rule of its own; hsm/partition does.
package daemon

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"moongate/client"
	"moongate/internal/audit"
	"moongate/internal/durable"
	"moongate/internal/harden"
	"moongate/internal/hsm/adminshell"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/store"
	"moongate/internal/hsm/users"
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
	// Passphrase seals the device root key; empty leaves it plain. It must be
	// that of the key, where one is there already.
	Passphrase []byte
}

// Init makes an HSM in a directory that holds none: device root key, store,
// server certificate. It returns the serial number. What an Init that failed or
// was interrupted leaves behind is completed by the next one; an HSM that is
// whole is refused (object.ErrExists) and left as it is.
func Init(opts InitOptions) (_ string, err error) {
	harden.Memory(slog.New(slog.DiscardHandler))
	files := In(opts.Dir)
	if err := durable.Mkdir(opts.Dir); err != nil {
		return "", fmt.Errorf("making the data directory: %w", err)
	}
	defer func() { err = errors.Join(err, handBack(opts.Dir)) }()
	if err := durable.Mkdir(files.Inbox()); err != nil {
		return "", fmt.Errorf("making the inbox: %w", err)
	}
	policy := mech.Policy{FIPS: opts.FIPS}
	if err := policy.Ready(); err != nil {
		return "", err
	}
	if err := checkRootKey(files); err != nil {
		return "", err
	}
	if _, err := store.FinishErase(opts.Dir, files.RootKey()); err != nil {
		return "", err
	}
	root, err := makeRootKey(files, opts)
	if err != nil {
		return "", err
	}
	st, err := store.Open(opts.Dir, root, store.Options{})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return initialize(st, files, opts, policy)
}

// makeRootKey makes the device root key, or opens the one that is there.
func makeRootKey(files Files, opts InitOptions) (store.RootKey, error) {
	if len(opts.Passphrase) == 0 {
		return store.LoadOrCreateRootKey(files.RootKey())
	}
	if _, err := os.Stat(files.RootKey()); errors.Is(err, fs.ErrNotExist) {
		_, root, err := store.CreateSealedRootKey(files.RootKey(), passphraseKDF{}, opts.Passphrase)
		return root, err
	}
	_, root, err := openRootKey(files, func() ([]byte, error) { return bytes.Clone(opts.Passphrase), nil })
	return root, err
}

// initialize makes the HSM's certificate, then the HSM. Until there is an HSM
// nobody has seen the certificate of an earlier attempt.
func initialize(st *store.Store, files Files, opts InitOptions, policy mech.Policy) (string, error) {
	if _, _, err := partition.Identity(st); err == nil {
		return "", object.Errorf(object.ErrExists, "there is an HSM in %s already; use another data directory", files.dir)
	} else if object.CodeOf(err) != object.ErrNotInitialized {
		return "", err
	}
	// The store is open here and nowhere else: what a crash left is nobody's.
	if err := durable.RemoveTemps(files.dir); err != nil {
		return "", err
	}
	if err := makeCertificate(files, opts.Hosts); err != nil {
		return "", err
	}
	if err := partition.Initialize(st, opts.Label, opts.Officer, policy, time.Now()); err != nil {
		return "", err
	}
	serial, _, err := partition.Identity(st)
	return serial, err
}

// checkRootKey refuses a store that has lost its root key: a fresh one would
// not open it.
func checkRootKey(files Files) error {
	_, keyErr := os.Stat(files.RootKey())
	_, storeErr := os.Stat(files.Store())
	if errors.Is(keyErr, fs.ErrNotExist) && storeErr == nil {
		return fmt.Errorf("the device root key %s is missing, and nothing else opens %s: put it back", files.RootKey(), files.Store())
	}
	return nil
}

// makeCertificate writes the server's certificate and key, the key first.
func makeCertificate(files Files, hosts []string) error {
	if len(hosts) == 0 {
		hosts = []string{"moongate-hsm"}
	}
	cert, key, err := client.NewCertificate(hosts[0], hosts[1:]...)
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

// Options say how an HSM is opened and served.
type Options struct {
	Dir     string
	Version string
	Logger  *slog.Logger
	// Lines keeps the log's newest lines for the shell; it may be nil.
	Lines *LogRing
	// AcceptAuditLoss is the operator's word that a damaged audit log is put
	// aside and begun anew (audit.Options.AcceptLoss).
	AcceptAuditLoss bool
	// AcceptRollback is the operator's word that a store which is older than
	// the audit log has signed for is the one to go on with.
	AcceptRollback bool

	// Listen is the client protocol's address and port. SSH and Metrics are
	// those of the appliance shell and of the figures; empty serves none.
	Listen, SSH, Metrics string
	// Collector is where the audit log is forwarded to.
	Collector Collector
	// Connections and Sessions bound what clients hold at the same time; 0 is
	// the server's default.
	Connections, Sessions int
	// Passphrase is asked where the device root key is sealed under one; nil
	// is nobody to ask. What it returns is wiped.
	Passphrase func() ([]byte, error)
	// Ready is called once the HSM serves.
	Ready func(Addresses)
	// NewKDF chooses how a new password is derived; nil is mech.NewKDF, and
	// nothing else is as costly as it should be.
	NewKDF func(mech.Policy) mech.KDF
}

// Addresses are where a served HSM listens; empty is not served.
type Addresses struct{ NTLS, SSH, Metrics string }

// ErrFIPSModule says that the HSM was made for FIPS mode and that this process
// was not started in it.
var ErrFIPSModule = errors.New("the HSM is in FIPS mode, and this process's Go cryptographic module is not")

// Appliance is an HSM that is open in this process.
type Appliance struct {
	adminshell.Appliance
	files Files
	store *store.Store
}

// Open opens the HSM in a directory; no other process may have it open. Where
// none is, or one whose initialisation was interrupted, the error has the code
// object.ErrNotInitialized; it matches ErrFIPSModule where this process is not
// in the HSM's mode, and store.ErrRootKey where the root key is another's. The
// process keeps its memory to itself from then on.
func Open(opts Options) (*Appliance, error) {
	harden.Memory(opts.Logger)
	files := In(opts.Dir)
	if finished, err := store.FinishErase(opts.Dir, files.RootKey()); err != nil {
		return nil, fmt.Errorf("completing a zeroization that was interrupted: %w", err)
	} else if finished {
		opts.Logger.Warn("a zeroization that was interrupted is complete: every key is destroyed")
	}
	if err := checkRootKey(files); err != nil {
		return nil, err
	}
	file, root, err := openRootKey(files, opts.Passphrase)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.Errorf(object.ErrNotInitialized, "there is no HSM in %s; run `moongate-hsm init`", opts.Dir)
	} else if err != nil {
		return nil, err
	}
	a := &Appliance{files: files, Appliance: adminshell.Appliance{
		Version: opts.Version, AuditDir: files.Audit(), Inbox: files.Inbox(), Listen: opts.Listen, Certificate: files.Certificate(), Logger: opts.Logger,
	}}
	a.store, err = store.Open(opts.Dir, root, store.Options{MustExist: true, KeyFile: file})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, object.Errorf(object.ErrNotInitialized, "the HSM in %s was not made whole: %s is missing; run `moongate-hsm init` again, or put it back", opts.Dir, files.Store())
	} else if err != nil {
		return nil, err
	}
	if err := a.open(opts); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Appliance) open(opts Options) error {
	origin, policy, err := a.identity()
	if err != nil {
		return err
	}
	if err := policy.Ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrFIPSModule, err)
	}
	// The store is open here and nowhere else: what a crash left is nobody's.
	if err := durable.RemoveTemps(a.files.dir); err != nil {
		return err
	}
	certificate, err := a.files.loadCertificate()
	if err != nil {
		return err
	}
	a.Fingerprint = fingerprintOf(certificate)
	a.Journal, err = audit.Open(a.AuditDir, audit.Options{
		Origin: origin, Logger: opts.Logger, AcceptLoss: opts.AcceptAuditLoss, Anchor: a.store.Commit,
	})
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	if err := a.checkRollback(opts); err != nil {
		return err
	}
	if a.Users, err = openUsers(a.files.Users(), users.Options{Policy: policy, NewKDF: opts.NewKDF}); err != nil {
		return fmt.Errorf("opening the accounts: %w", err)
	}
	a.HSM, err = partition.Open(partition.Options{
		Store: a.store, Journal: a.Journal, Logger: opts.Logger, Policy: policy, Serial: strings.TrimPrefix(origin, originPrefix),
		Software: "moongate-hsm " + opts.Version, NewKDF: opts.NewKDF,
	})
	return err
}

// originPrefix, and the HSM's serial number after it, name its audit log.
const originPrefix = "moongate-hsm/"

// identity returns the audit log's name and the cryptography that is allowed.
// An HSM that was zeroized has lost both with everything else: its log keeps
// the name that it has, and the process's mode decides.
func (a *Appliance) identity() (string, mech.Policy, error) {
	verifier, err := audit.ReadVerifierKey(a.AuditDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", mech.Policy{}, fmt.Errorf("reading the audit log's name: %w", err)
	}
	origin, _, _ := strings.Cut(verifier, "+")
	serial, policy, err := partition.Identity(a.store)
	switch {
	case object.CodeOf(err) == object.ErrNotInitialized && origin != "":
		return origin, mech.Policy{FIPS: fips140.Enabled()}, nil
	case err != nil:
		return "", mech.Policy{}, err
	case origin == "":
		origin = originPrefix + serial
	}
	return origin, policy, nil
}

// checkRollback compares the store with what the audit log has signed of it: a
// store that was put back to an older state alone is behind. What it does not
// see is written in docs/store.md.
func (a *Appliance) checkRollback(opts Options) error {
	signed, ok := a.Journal.Anchor()
	if here := a.store.Commit(); !ok || here >= signed {
		return nil
	} else if !opts.AcceptRollback {
		return fmt.Errorf("%s stands at commit %d, and the audit log has signed for commit %d: the store was put back to an older state, in which destroyed keys, deleted clients and login counters may be back; if you did that, start once with `moongate-hsm serve -accept-rollback`", a.files.Store(), here, signed)
	} else {
		if err := partition.RenameReplicas(a.store); err != nil {
			return err
		}
		a.Journal.AcceptAnchor()
		return a.Journal.AppendDurable(context.Background(), audit.Event{
			Kind: audit.Admin, Action: "store.rollback", Client: adminshell.LocalAdministrator().Name, Outcome: audit.OK,
			Detail: fmt.Sprintf("store at commit %d taken, which was at %d", here, signed),
		})
	}
}

// openUsers reads the accounts; where there is no file, nobody has one yet.
func openUsers(path string, opts users.Options) (*users.Users, error) {
	u, err := users.Open(path, opts)
	if errors.Is(err, fs.ErrNotExist) {
		return users.Create(path, opts)
	}
	return u, err
}

// Close has the HSM write what it keeps in memory, closes the audit log, then
// the store.
func (a *Appliance) Close() error {
	var err error
	if a.HSM != nil {
		err = a.HSM.Close()
	}
	if a.Journal != nil {
		err = errors.Join(err, a.Journal.Close())
	}
	return errors.Join(err, a.store.Close(), handBack(a.files.dir))
}
