package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"

	"moongate/internal/hsm/object"
)

// Fingerprint is the SHA-256 of a certificate's DER.
type Fingerprint [sha256.Size]byte

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// Peer is who is on the other side of a connection. The TLS handshake has
// proved that it holds the certificate's key, and nothing more: whether the
// certificate is registered is the backend's word.
type Peer struct {
	Certificate []byte // DER
	Fingerprint Fingerprint
	Remote      netip.AddrPort // IPv4 in its 4-byte form
}

// Backend is what a Server serves. An *object.Error that any of its methods
// returns travels to the client, code and detail; a context's error becomes
// ErrDeadline or ErrFunctionCanceled; any other error is logged here, and the
// client sees ErrGeneral with the operation's id alone. Whatever the error, it
// says that nothing was changed: clients repeat a refused request.
//
// All methods may be called from many goroutines at once and should return
// soon after their context is done. Slices given to a method alias a buffer
// that is reused or wiped after it returns: a backend keeps copies only.
type Backend interface {
	// Attach admits a peer, once for each connection, or refuses it with
	// ErrNotRegistered, ErrAddress or ErrBusy. A backend that takes a
	// registration back does so before it calls Server.Disconnect; then no
	// connection of that client survives.
	Attach(ctx context.Context, peer Peer) (Client, error)
}

// Client is one connection of an admitted peer.
type Client interface {
	// Partitions lists what is assigned to the client, in any order.
	Partitions(ctx context.Context) ([]object.PartitionInfo, error)
	// OpenSession opens a session on an assigned partition, ErrNotAssigned
	// otherwise. An empty name is the only partition assigned; where there
	// is none, or more than one, that is ErrNotAssigned too.
	OpenSession(ctx context.Context, partition string) (Session, error)
	// AuditCheckpoint returns the newest signed checkpoint of the audit log,
	// and AuditProof the newest with the proof that it continues the log of the
	// given size; ErrArgumentsBad where the log is shorter than that. A backend
	// without an audit log refuses both with ErrNotSupported.
	AuditCheckpoint(ctx context.Context) (object.AuditCheckpoint, error)
	AuditProof(ctx context.Context, size uint64) (object.AuditProof, error)
	// Close is called once, after every session has been closed.
	Close()
}

// Session is one session on a partition. It begins in RoleNone. Durability:
// when Generate, Store, SetAttributes, Destroy or Unwrap return without error,
// the change survives a crash; so does that of Derive and of the acts of
// administration.
type Session interface {
	Info() object.PartitionInfo

	// Login's password is wiped after it returns.
	Login(ctx context.Context, op object.OperationID, role object.Role, password []byte) error
	Logout(ctx context.Context, op object.OperationID) error

	// Generate makes a key pair, or for a secret key uses the private
	// template alone and returns the zero ID as the public one.
	Generate(ctx context.Context, op object.OperationID, m object.Mechanism, public, private object.Template) (pub, priv object.ID, err error)
	// Store keeps a certificate, or a public key by its CKA_PUBLIC_KEY_INFO.
	Store(ctx context.Context, op object.OperationID, t object.Template) (object.ID, error)
	// Find returns at most limit objects that match, in the order of their
	// handles, beginning after the handle after; more says that there are
	// others. The caller continues after the last object's AttrHandle. No
	// types in want select every attribute.
	Find(ctx context.Context, op object.OperationID, pattern object.Template, want []object.AttributeType, after uint64, limit int) (found []object.Found, more bool, err error)
	Attributes(ctx context.Context, op object.OperationID, id object.ID, want []object.AttributeType) (object.Template, error)
	SetAttributes(ctx context.Context, op object.OperationID, id object.ID, t object.Template) error
	Destroy(ctx context.Context, op object.OperationID, id object.ID) error

	// Status describes the partition; it needs no login.
	Status(ctx context.Context, op object.OperationID) (object.PartitionStatus, error)
	// InitPartition gives a partition that has none its Partition Security
	// Officer. It needs no login: who an uninitialised partition is assigned to
	// takes it.
	InitPartition(ctx context.Context, op object.OperationID, password []byte) error
	// InitRole gives the partition its Crypto Officer (logged in as Partition
	// Security Officer) or its Crypto User (logged in as Crypto Officer).
	InitRole(ctx context.Context, op object.OperationID, role object.Role, password []byte) error
	// ResetRole gives a role whose password is lost a new one, and keeps the
	// keys, or fails; UnlockRole sets its count of wrong passwords back.
	ResetRole(ctx context.Context, op object.OperationID, role object.Role, password []byte) error
	UnlockRole(ctx context.Context, op object.OperationID, role object.Role) error
	// ChangePassword changes a role's password by its old one.
	ChangePassword(ctx context.Context, op object.OperationID, role object.Role, old, fresh []byte) error
	SetPolicy(ctx context.Context, op object.OperationID, policy object.PolicyValue) error
	// Deactivate wipes what an activated partition keeps in memory once the
	// last session has logged out.
	Deactivate(ctx context.Context, op object.OperationID) error

	// Verify checks a signature, or a MAC in constant time:
	// ErrSignatureInvalid, or ErrSignatureLength, where it is wrong. data is a
	// digest or a message, as for Sign.
	Verify(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, data, signature []byte) error
	// Derive makes a secret key of another key.
	Derive(ctx context.Context, op object.OperationID, base object.ID, m object.Mechanism, t object.Template) (object.ID, error)
	// Sign signs a digest, or for EdDSA, HMAC and CMAC a message. ECDSA returns
	// r || s, each of the curve's size. What it, Encrypt and Decrypt return is
	// sent when the receipt says that the use is on record, and refused where
	// that is impossible; a nil receipt has nothing to say.
	Sign(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, object.Receipt, error)
	Encrypt(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error)
	Decrypt(ctx context.Context, op object.OperationID, id object.ID, m object.Mechanism, data []byte) ([]byte, object.Receipt, error)
	Wrap(ctx context.Context, op object.OperationID, wrapping, target object.ID, m object.Mechanism) ([]byte, error)
	Unwrap(ctx context.Context, op object.OperationID, wrapping object.ID, m object.Mechanism, wrapped []byte, t object.Template) (object.ID, error)
	// Random returns n random bytes, 1 to 64 KiB.
	Random(ctx context.Context, op object.OperationID, n int) ([]byte, error)

	// Close is called once, after every other call on the session returned.
	Close()
}
