package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Kinds of administrative records in the store; each is JSON, sealed there.
const (
	kindHSM       = "hsm"       // one, id "hsm"
	kindAppliance = "appliance" // one, id "appliance"
	kindPartition = "partition" // by the partition's ID
	kindClient    = "client"    // by the client's name
	// Of replication.
	kindIdentity    = "identity"    // one, id "identity"
	kindPeer        = "peer"        // by the name that it has here
	kindReplication = "replication" // by the partition's ID
)

// hsmRecord is the appliance itself.
type hsmRecord struct {
	Label   string    `json:"label"`
	Serial  string    `json:"serial"`
	Created time.Time `json:"created"`
	FIPS    bool      `json:"fips"`
	// AddressCheck: a client must come from the address it is registered for.
	AddressCheck bool `json:"address_check"`
	// ForceLogin: clients are registered by the Security Officer alone.
	ForceLogin bool `json:"force_so_login,omitempty"`
	// Officer is the HSM's Security Officer. It opens no key: Verifier is
	// what a right password derives.
	Officer  password `json:"officer"`
	Verifier []byte   `json:"verifier"`
	// Unrecorded is who made the HSM, until the audit log says so: it may have
	// been made before there was one.
	Unrecorded *Operator `json:"unrecorded,omitempty"`
	// Attempts counts wrong passwords of the Security Officer in a row, those
	// included whose check did not end. (Officer.Failures is of an older
	// version, which did not zeroize: it is read by nobody.)
	Attempts int `json:"so_attempts,omitempty"`
	// Zeroizing: the HSM is to be zeroized when it is opened next.
	Zeroizing bool `json:"zeroizing,omitempty"`
	// Auditor is there once it has a password.
	Auditor *auditorRecord `json:"auditor,omitempty"`
	// Domain is the secret that HSMs of one domain share: 32 bytes.
	Domain []byte `json:"domain,omitempty"`
}

// auditorRecord is the Auditor. It opens no key, as the Security Officer.
type auditorRecord struct {
	// ID is another one whenever the Security Officer makes the Auditor anew.
	ID       object.ID `json:"id"`
	Password password  `json:"password"`
	Verifier []byte    `json:"verifier"`
}

// applianceRecord is what an HSM keeps through its zeroization.
type applianceRecord struct {
	Serial string `json:"serial"`
}

// partitionRecord is one partition and its roles.
type partitionRecord struct {
	ID      object.ID `json:"id"`
	Label   string    `json:"label"`
	Serial  string    `json:"serial"`
	Created time.Time `json:"created"`
	// Roles holds those that have a password, by object.Role.String.
	Roles map[string]*roleRecord `json:"roles"`
	// Policies holds those that were set.
	Policies map[object.PolicyID]uint64 `json:"policies,omitempty"`
	// Escrow is there while PolicyOfficerReset is on.
	Escrow *escrow `json:"escrow,omitempty"`
}

// roleRecord is a role's password: the partition's key sealed under what the
// password and the device root key derive together. A right password is one
// that opens it.
type roleRecord struct {
	Password password `json:"password"`
	Key      []byte   `json:"key"`
	// Portable is the same key, sealed under what the password and the domain
	// secret derive together; Key is empty from a restore to the next login.
	Portable []byte `json:"portable,omitempty"`
}

// password is how one is derived, and how often it was wrong in a row.
type password struct {
	KDF      mech.KDF  `json:"kdf"`
	Failures int       `json:"failures"`
	Last     time.Time `json:"last_failure,omitzero"`
}

// clientRecord is one registered client.
type clientRecord struct {
	Name string `json:"name"`
	// Exactly one of Address and Hostname is set.
	Address  netip.Addr `json:"address,omitzero"`
	Hostname string     `json:"hostname,omitempty"`
	// Certificate is DER; Fingerprint its SHA-256 in hex.
	Certificate []byte      `json:"certificate"`
	Fingerprint string      `json:"fingerprint"`
	Registered  time.Time   `json:"registered"`
	Partitions  []object.ID `json:"partitions"`
}

// load reads the record into v; the error matches store.ErrNotFound where there
// is none.
func load(tx *store.Tx, kind, id string, v any) error {
	raw, err := tx.Record(kind, id)
	if err != nil {
		return fmt.Errorf("reading %s record: %w", kind, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("decoding %s record: %w", kind, err)
	}
	return nil
}

func save(tx *store.Tx, kind, id string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s record: %w", kind, err)
	}
	if err := tx.PutRecord(kind, id, raw); err != nil {
		return fmt.Errorf("writing %s record: %w", kind, err)
	}
	return nil
}

// loadPartition reads a partition's record; one that is gone was deleted while
// its caller had a session on it.
func loadPartition(tx *store.Tx, id object.ID) (*partitionRecord, error) {
	record := new(partitionRecord)
	err := load(tx, kindPartition, partitionKey(id), record)
	if errors.Is(err, store.ErrNotFound) {
		return nil, object.Errorf(object.ErrObjectNotFound, "the partition was deleted")
	}
	return record, err
}

func partitionKey(id object.ID) string { return id.String() }
