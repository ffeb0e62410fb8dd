// Package partition is the HSM's judgement: who may log in, which client may
// reach which partition, and what a role may do with a key. It is the only
// place that says yes or no; what comes before it only carries requests, what
// comes after it only stores, computes and records.
//
// An HSM has one Security Officer, who makes partitions and registers clients
// and can use no key, and partitions, each with a Crypto Officer and a Crypto
// User. A partition's objects are sealed under a key of its own, which the
// device root key and a role's password open together; it is in memory only
// while somebody is logged in.
//
// Every act is recorded: an administrative act and a change of a key durably,
// with its intent before and its outcome after; a use before its answer.
package partition

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Journal is where every act is recorded. Append has written the event when it
// returns; AppendDurable has it on stable storage; Note, for key uses, has it
// written when the receipt says so. After an error of any, the HSM does nothing
// that must be recorded.
type Journal interface {
	Append(audit.Event) error
	Note(audit.Event) (audit.Receipt, error)
	AppendDurable(context.Context, audit.Event) error
}

// Options wires an HSM.
type Options struct {
	Store   *store.Store
	Journal Journal
	Logger  *slog.Logger
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// NewKDF chooses how a new password is derived; nil is mech.NewKDF.
	NewKDF func(mech.Policy) mech.KDF
	// MaxObjects is how many objects one partition may hold, so that no Crypto
	// Officer fills everybody's memory and disk; 0 is the constant MaxObjects.
	MaxObjects int
	// MaxBytes bounds the objects of one partition likewise: their attributes
	// and secrets together; 0 is the constant MaxBytes.
	MaxBytes int
	// SaveUses is how often the counters of keys' uses are written, where there
	// was any; 0 is the constant SaveUses. A kill takes that much of them.
	SaveUses time.Duration
	// Policy and Serial are those of an HSM that is made in a store that holds
	// none, as after a zeroization; a store that holds one says its own. An
	// empty Serial makes a new one.
	Policy mech.Policy
	Serial string
	// Software is the program and its version, for those who would replicate a
	// partition.
	Software string
	// LookupHost resolves a registered host name; nil is the system's resolver.
	LookupHost func(ctx context.Context, host string) ([]netip.Addr, error)
}

// HSM is an appliance: until it is initialised, and after it was zeroized,
// everything but Initialize is refused (ErrNotInitialized). All methods may be
// called from many goroutines.
type HSM struct {
	store   *store.Store
	journal Journal
	log     *slog.Logger
	now     func() time.Time
	newKDF  func(mech.Policy) mech.KDF
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)

	maxObjects, maxBytes int
	keeper               useKeeper
	software             string
	requests             requests

	// serial is the appliance's: a zeroization keeps it. It and policy do not
	// change after Open.
	serial string
	policy mech.Policy

	attempts                 attempts
	officerGate, auditorGate *semaphore.Weighted // see attempts
	derivations              *semaphore.Weighted

	// zeroizing is held while an HSM is made or destroyed. It is taken before mu.
	zeroizing sync.Mutex

	// strangers are not registered, or call from another address than they are
	// registered for.
	strangers audit.Refusals
	outsiders outsiders

	// mu guards what follows. Records on disk are changed first, under mu, so
	// that memory is never ahead of them.
	mu          sync.RWMutex
	initialized bool
	// epoch is another one after each Initialize and Zeroize, so that nobody
	// administers an HSM who was authenticated by one before it.
	epoch uint64
	// unfinished is why a zeroization did not end.
	unfinished   error
	label        string
	created      time.Time
	addressCheck bool
	forceLogin   bool
	clients      map[string]*clientRecord // by fingerprint
	partitions   map[object.ID]*partition
	disconnect   func(fingerprint string)
}

// Limits of an HSM.
const (
	MaxPartitions = 100
	MaxClients    = 1024
	// MaxObjects is the default of Options.MaxObjects.
	MaxObjects = 50_000
	// MaxBytes is the default of Options.MaxBytes, and SaveUses that of
	// Options.SaveUses.
	MaxBytes = 64 << 20
	SaveUses = 5 * time.Second
	maxName  = 64
)

// Open reads the HSM in a store, or that there is none. Where the Security
// Officer's attempts are used up, or a zeroization was interrupted, the HSM is
// zeroized first: see AuthenticateOfficer.
func Open(opts Options) (*HSM, error) {
	if opts.Store == nil || opts.Journal == nil || opts.Logger == nil {
		return nil, errors.New("partition: an HSM needs a store, a journal and a logger")
	}
	h := &HSM{
		store: opts.Store, journal: opts.Journal, log: opts.Logger, now: opts.Now,
		newKDF: opts.NewKDF, lookup: opts.LookupHost, maxObjects: cmp.Or(opts.MaxObjects, MaxObjects), maxBytes: cmp.Or(opts.MaxBytes, MaxBytes),
		clients: map[string]*clientRecord{}, partitions: map[object.ID]*partition{},
		disconnect: func(string) {}, policy: opts.Policy,
		officerGate: newGate(), auditorGate: newGate(), derivations: semaphore.NewWeighted(parallelDerivations),
		software: opts.Software,
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.newKDF == nil {
		h.newKDF = mech.NewKDF
	}
	if h.lookup == nil {
		h.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if err := h.read(opts.Serial); err != nil {
		return nil, err
	}
	h.keeper.start(h, cmp.Or(opts.SaveUses, SaveUses))
	return h, nil
}

// read fills a new HSM from its store.
func (h *HSM) read(serial string) error {
	var record hsmRecord
	err := h.store.View(func(tx *store.Tx) error { return loadHSM(tx, &record) })
	if object.CodeOf(err) == object.ErrNotInitialized {
		return h.readAppliance(serial)
	} else if err != nil {
		return err
	}
	h.serial, h.policy = record.Serial, mech.Policy{FIPS: record.FIPS}
	if record.Unrecorded != nil {
		if err := h.recordInit(&record); err != nil {
			return err
		}
	}
	if record.Zeroizing || record.Attempts >= officerAttempts {
		return h.finishZeroizing(&record)
	}
	secret, err := h.domain() // an older version made none
	if err != nil {
		return err
	}
	clear(secret)
	h.initialized, h.epoch = true, 1
	h.label, h.created, h.addressCheck, h.forceLogin = record.Label, record.Created, record.AddressCheck, record.ForceLogin
	return h.store.View(func(tx *store.Tx) error {
		if err := h.loadPartitions(tx); err != nil {
			return err
		}
		return h.loadClients(tx)
	})
}

// readAppliance reads what there is where there is no HSM. What an interrupted
// zeroization did not get to is written now.
func (h *HSM) readAppliance(serial string) error {
	found, _, err := Identity(h.store)
	if err != nil && object.CodeOf(err) != object.ErrNotInitialized {
		return err
	}
	if h.serial = cmp.Or(found, serial); found != "" {
		return nil
	}
	if h.serial == "" {
		h.serial = NewSerial()
	}
	return h.keepSerial()
}

// Close writes what is kept in memory for a while: the counters of keys' uses.
// It is called once, before the store is closed, when nothing is asked of the
// HSM any more.
func (h *HSM) Close() error { return h.keeper.close(h) }

// Identity reads a store's serial number and policy, before the HSM is opened:
// the audit log is named by the one, and the process started by the other.
// Where the store holds no HSM the error is ErrNotInitialized; the serial number
// is then that of the HSM which was zeroized, or empty.
func Identity(st *store.Store) (string, mech.Policy, error) {
	var record hsmRecord
	var appliance applianceRecord
	err := st.View(func(tx *store.Tx) error {
		err := loadHSM(tx, &record)
		if object.CodeOf(err) != object.ErrNotInitialized {
			return err
		}
		if aerr := load(tx, kindAppliance, kindAppliance, &appliance); aerr != nil && !errors.Is(aerr, store.ErrNotFound) {
			return aerr
		}
		return err
	})
	return cmp.Or(record.Serial, appliance.Serial), mech.Policy{FIPS: record.FIPS}, err
}

// OnDisconnect sets what ends the live connections of the client with a
// certificate's fingerprint (SHA-256, hex). It is set once, before serving.
func (h *HSM) OnDisconnect(f func(fingerprint string)) { h.disconnect = f }

// Info is what anybody on the machine may know of the HSM.
type Info struct {
	// Initialized: there is an HSM. Where there is none, Serial and FIPS alone
	// are set.
	Initialized  bool      `json:"initialized"`
	Label        string    `json:"label"`
	Serial       string    `json:"serial"`
	Created      time.Time `json:"created"`
	FIPS         string    `json:"fips"`
	Partitions   int       `json:"partitions"`
	Clients      int       `json:"clients"`
	AddressCheck bool      `json:"address_check"`
	// ForceLogin: clients are registered by the Security Officer alone.
	ForceLogin bool `json:"force_so_login"`
	// OfficerAttempts is how many wrong Security Officer passwords are left: the
	// last one zeroizes the HSM.
	OfficerAttempts int `json:"so_attempts_left"`
	// Auditor: the HSM has one.
	Auditor bool `json:"auditor"`
}

// Info describes the HSM, also one that is not initialised.
func (h *HSM) Info() (Info, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	info := Info{Serial: h.serial, FIPS: h.policy.String()}
	if h.ready() != nil {
		return info, nil
	}
	info.Initialized, info.Label, info.Created = true, h.label, h.created
	info.Partitions, info.Clients, info.AddressCheck, info.ForceLogin = len(h.partitions), len(h.clients), h.addressCheck, h.forceLogin
	err := h.store.View(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		info.OfficerAttempts, info.Auditor = max(0, officerAttempts-record.Attempts), record.Auditor != nil
		return nil
	})
	return info, err
}

// Serial returns the appliance's serial number, which a zeroization keeps.
func (h *HSM) Serial() string { return h.serial }

// NewSerial returns a random serial number of 13 digits, the first not 0.
func NewSerial() string {
	var b [13]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	if b[0] == '0' {
		b[0] = '1'
	}
	return string(b[:])
}

// checkName refuses names that would not survive a command line or a listing.
func checkName(field, name string) error {
	if name == "" || len(name) > maxName {
		return object.Errorf(object.ErrArgumentsBad, "%s %q has %d characters; expected 1 to %d", field, name, len(name), maxName)
	}
	if name[0] == '-' {
		return object.Errorf(object.ErrArgumentsBad, "%s %q begins with a dash, as options do", field, name)
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-@:", r))
	})
	if bad >= 0 {
		return object.Errorf(object.ErrArgumentsBad, "%s %q holds %q; expected letters, digits and . _ - @ :", field, name, name[bad:bad+1])
	}
	return nil
}
