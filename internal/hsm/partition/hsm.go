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

	"moongate/internal/audit"
	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Journal is where every act is recorded. Append has written the event when it
// returns; AppendDurable has it on stable storage. After an error of either,
// the HSM does nothing that must be recorded.
type Journal interface {
	Append(audit.Event) error
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
	// LookupHost resolves a registered host name; nil is the system's resolver.
	LookupHost func(ctx context.Context, host string) ([]netip.Addr, error)
}

// HSM is an initialised appliance. All methods may be called from many
// goroutines.
type HSM struct {
	store   *store.Store
	journal Journal
	log     *slog.Logger
	now     func() time.Time
	newKDF  func(mech.Policy) mech.KDF
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)

	maxObjects int

	label, serial string
	created       time.Time
	policy        mech.Policy

	// login admits one password check at a time, so that a counter is never
	// read by two before either has raised it, and so that a flood of logins
	// costs one core at most.
	login sync.Mutex

	strangers strangers

	// mu guards the registrations below and addressCheck. Records on disk are
	// changed first, under mu, so that memory is never ahead of them.
	mu           sync.RWMutex
	addressCheck bool
	clients      map[string]*clientRecord // by fingerprint
	partitions   map[object.ID]*partition
	disconnect   func(fingerprint string)
}

// Limits of an HSM.
const (
	MaxPartitions = 100
	MaxClients    = 1000
	// MaxObjects is the default of Options.MaxObjects.
	MaxObjects = 50_000
	maxName    = 64
)

// Initialize makes an HSM in an empty store: its label, serial number and
// Security Officer. The store must not hold one already.
func Initialize(st *store.Store, label string, officer []byte, policy mech.Policy, now time.Time) error {
	if err := checkName("label", label); err != nil {
		return err
	}
	if err := checkPassword(officer); err != nil {
		return err
	}
	kdf := mech.NewKDF(policy)
	verifier, err := officerVerifier(kdf, officer)
	if err != nil {
		return err
	}
	record := hsmRecord{
		Label: label, Serial: newSerial(), Created: now.UTC(), FIPS: policy.FIPS, AddressCheck: true,
		Officer: password{KDF: kdf}, Verifier: verifier,
	}
	return st.Update(func(tx *store.Tx) error {
		if _, err := tx.Record(kindHSM, kindHSM); err == nil {
			return object.Errorf(object.ErrExists, "this store already holds an HSM; use another data directory")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return save(tx, kindHSM, kindHSM, &record)
	})
}

// Open reads an HSM that Initialize made.
func Open(opts Options) (*HSM, error) {
	if opts.Store == nil || opts.Journal == nil || opts.Logger == nil {
		return nil, errors.New("partition: an HSM needs a store, a journal and a logger")
	}
	h := &HSM{
		store: opts.Store, journal: opts.Journal, log: opts.Logger, now: opts.Now,
		newKDF: opts.NewKDF, lookup: opts.LookupHost, maxObjects: cmp.Or(opts.MaxObjects, MaxObjects),
		clients: map[string]*clientRecord{}, partitions: map[object.ID]*partition{},
		disconnect: func(string) {},
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
	err := h.store.View(func(tx *store.Tx) error {
		var record hsmRecord
		if err := load(tx, kindHSM, kindHSM, &record); errors.Is(err, store.ErrNotFound) {
			return object.Errorf(object.ErrNotInitialized, "this store holds no HSM; run `moongate-hsm init`")
		} else if err != nil {
			return err
		}
		h.label, h.serial, h.created = record.Label, record.Serial, record.Created
		h.policy, h.addressCheck = mech.Policy{FIPS: record.FIPS}, record.AddressCheck
		if err := h.loadPartitions(tx); err != nil {
			return err
		}
		return h.loadClients(tx)
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Identity reads a store's serial number and policy, before the HSM is opened:
// the audit log is named by the one, and the process started by the other.
func Identity(st *store.Store) (string, mech.Policy, error) {
	var record hsmRecord
	err := st.View(func(tx *store.Tx) error { return load(tx, kindHSM, kindHSM, &record) })
	if errors.Is(err, store.ErrNotFound) {
		return "", mech.Policy{}, object.Errorf(object.ErrNotInitialized, "this store holds no HSM; run `moongate-hsm init`")
	}
	return record.Serial, mech.Policy{FIPS: record.FIPS}, err
}

// OnDisconnect sets what ends the live connections of the client with a
// certificate's fingerprint (SHA-256, hex). It is set once, before serving.
func (h *HSM) OnDisconnect(f func(fingerprint string)) { h.disconnect = f }

// Info is what anybody on the machine may know of the HSM.
type Info struct {
	Label        string    `json:"label"`
	Serial       string    `json:"serial"`
	Created      time.Time `json:"created"`
	FIPS         string    `json:"fips"`
	Partitions   int       `json:"partitions"`
	Clients      int       `json:"clients"`
	AddressCheck bool      `json:"address_check"`
	// OfficerAttempts is how many wrong Security Officer passwords are left
	// before the next one has to wait.
	OfficerAttempts int `json:"so_attempts_left"`
}

// Info describes the HSM.
func (h *HSM) Info() (Info, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	info := Info{
		Label: h.label, Serial: h.serial, Created: h.created, FIPS: h.policy.String(),
		Partitions: len(h.partitions), Clients: len(h.clients), AddressCheck: h.addressCheck,
	}
	err := h.store.View(func(tx *store.Tx) error {
		var record hsmRecord
		if err := load(tx, kindHSM, kindHSM, &record); err != nil {
			return err
		}
		info.OfficerAttempts = max(0, officerFreeAttempts-record.Officer.Failures)
		return nil
	})
	return info, err
}

// Serial returns the HSM's serial number.
func (h *HSM) Serial() string { return h.serial }

// newSerial returns a random serial number of 13 digits, the first not 0.
func newSerial() string {
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
