// Package object holds the words of an HSM: objects, their attributes, the
// mechanisms that act on them, roles and errors, and the rules that a template
// must obey. It is pure: no I/O, no cryptography, no clock.
//
// Names and numbers are those of PKCS#11 v3.1 (OASIS), so that a PKCS#11
// module maps one to one. Numbers of our own carry CKx_VENDOR_DEFINED (the top
// bit).
package object

import (
	"fmt"

	"github.com/google/uuid"
)

// ID identifies an object for its whole life, on every HSM that holds a copy:
// a random (version 4) UUID. The zero ID is no object.
type ID = uuid.UUID

// NewID returns a fresh random ID.
func NewID() ID { return uuid.New() }

// OperationID ties what a client asked to what the HSM logged: 16 bytes that
// the client chooses, written to both sides' logs.
type OperationID [16]byte

// Object is one object of a partition. Attributes are what may be read;
// Secret is the private or secret key value and leaves the HSM only wrapped,
// and only when CKA_EXTRACTABLE says so.
//
// Secret is PKCS#8 DER for private keys, the key itself for secret keys, and
// empty for public keys and certificates.
type Object struct {
	ID ID
	// Handle is the small number by which people name the object in one
	// partition (`cmu list` prints it). It is never used again.
	Handle     uint64
	Attributes Template
	Secret     []byte
}

// Format prints an object without its secret, whatever the verb: a key that is
// logged by mistake is a key that is lost.
func (o Object) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%v object %v", o.Attributes.Class(), o.ID)
}

// Class is an object's CKA_CLASS (PKCS#11 v3.1, section 4.2).
type Class uint64

const (
	ClassCertificate Class = 1
	ClassPublicKey   Class = 2
	ClassPrivateKey  Class = 3
	ClassSecretKey   Class = 4
)

func (c Class) String() string {
	switch c {
	case ClassCertificate:
		return "certificate"
	case ClassPublicKey:
		return "public"
	case ClassPrivateKey:
		return "private"
	case ClassSecretKey:
		return "secret"
	}
	return "unknown"
}

// KeyType is a key's CKA_KEY_TYPE (PKCS#11 v3.1, section 4.7).
type KeyType uint64

const (
	KeyRSA        KeyType = 0x00
	KeyEC         KeyType = 0x03
	KeyGeneric    KeyType = 0x10 // secret bytes: HMAC, HKDF, what ECDH yields
	KeyAES        KeyType = 0x1f
	KeyEdwards    KeyType = 0x40 // Ed25519
	KeyMontgomery KeyType = 0x41 // X25519
)

var keyTypeNames = map[KeyType]string{
	KeyRSA: "RSA", KeyEC: "EC", KeyGeneric: "generic secret", KeyAES: "AES", KeyEdwards: "Ed25519", KeyMontgomery: "X25519",
}

func (k KeyType) String() string {
	if name, known := keyTypeNames[k]; known {
		return name
	}
	return "unknown"
}

// Role is who is logged in to a partition.
type Role uint8

const (
	// RoleNone is a session before its login: it may ask for the partition's
	// name, serial number, roles and policies, and nothing else.
	RoleNone Role = 0
	// RoleSecurityOfficer administers the HSM: partitions, clients, policies.
	// It never logs in through the client protocol and can use no key.
	RoleSecurityOfficer Role = 1
	// RoleCryptoOfficer makes, uses and destroys a partition's objects.
	RoleCryptoOfficer Role = 2
	// RoleCryptoUser uses a partition's keys and reads its objects.
	RoleCryptoUser Role = 3
	// RolePartitionOfficer administers one partition: its policies, and who
	// its Crypto Officer is. It can use no key. Where a partition has none, the
	// Security Officer stands in.
	RolePartitionOfficer Role = 4
	// RoleAuditor decides how the HSM keeps its audit log, and nothing else.
	// Like the Security Officer it logs in through the administration shell only.
	RoleAuditor Role = 5
)

var roleNames = map[Role]string{
	RoleNone: "none", RoleSecurityOfficer: "so", RoleCryptoOfficer: "co", RoleCryptoUser: "cu",
	RolePartitionOfficer: "po", RoleAuditor: "au",
}

func (r Role) String() string {
	if name, known := roleNames[r]; known {
		return name
	}
	return "unknown"
}

// Title is the role's name in a sentence.
func (r Role) Title() string {
	switch r {
	case RoleSecurityOfficer:
		return "Security Officer"
	case RoleCryptoOfficer:
		return "Crypto Officer"
	case RoleCryptoUser:
		return "Crypto User"
	case RolePartitionOfficer:
		return "Partition Security Officer"
	case RoleAuditor:
		return "Auditor"
	}
	return r.String()
}
