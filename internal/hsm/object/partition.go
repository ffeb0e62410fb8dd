package object

// PartitionInfo is what a client may know of a partition before its login.
type PartitionInfo struct {
	Label  string
	Serial string
}

// RoleStatus describes a role of a partition.
type RoleStatus struct {
	Role Role
	// Initialized: the role has a password.
	Initialized bool
	// Failures counts wrong passwords in a row.
	Failures int
	Locked   bool
}

// PartitionStatus is what a client to which a partition is assigned may know of
// it before a login: the state of its roles and its policies.
type PartitionStatus struct {
	PartitionInfo
	Roles    []RoleStatus // in the order of Role
	Policies []PolicyValue
	Objects  int // 0 while nobody is logged in
	Active   bool
}

// Found is one object of a search: its identity and those of its attributes
// that were asked for.
type Found struct {
	ID         ID
	Attributes Template
}

// AuditCheckpoint is what a client keeps of the HSM's audit log, so that the
// log's history cannot be rewritten unseen.
type AuditCheckpoint struct {
	// Note is the signed checkpoint (C2SP tlog-checkpoint), as text.
	Note []byte
	// Verifier is the log's public key as golang.org/x/mod/sumdb/note writes it.
	Verifier string
}

// AuditProof proves that the log of a later checkpoint continues the log of an
// earlier one (RFC 9162, section 2.1.4): hashes of 32 bytes.
type AuditProof struct {
	Checkpoint AuditCheckpoint // the later one
	Hashes     [][32]byte
}
