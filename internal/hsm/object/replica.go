package object

import (
	"encoding/hex"
	"time"
)

// The words of replication: partitions of several HSMs that hold the same
// objects. docs/replication.md has its rules.

// HSMID names an HSM to its peers: the SHA-256 of its identity certificate's
// DER. The zero HSMID is no HSM.
type HSMID [32]byte

func (h HSMID) String() string { return hex.EncodeToString(h[:]) }

// ReplicaID names one partition's line of changes, as random bytes that are
// made with the partition and made anew whenever its past is replaced by a
// backup's: two different changes never have the same ReplicaID and count.
type ReplicaID [8]byte

func (r ReplicaID) String() string { return hex.EncodeToString(r[:]) }

// Stamp says when an object got its present content: a Lamport clock of that
// object alone, and who was the writer. Of two contents that were made apart
// the one with the later stamp stays.
type Stamp struct {
	Count   uint64
	Replica ReplicaID
}

// Count is how many of a replica's changes of an object are known of.
type Count struct {
	Replica ReplicaID
	Changes uint64
}

// Vector is the version of an object: ascending by Replica, each once, none
// with zero Changes, at most MaxVector of them.
type Vector []Count

// MaxVector bounds a Vector: the members of a group, those that it had, and
// those lines of changes that a restored backup began.
const MaxVector = 64

// Peer is a partition of another HSM that a partition clones with, both ways.
type Peer struct {
	HSM    HSMID
	Serial string // the other partition's
	Name   string // that its HSM has here, for people
}

// Replica is what a partition says of itself to those that would replicate it.
type Replica struct {
	PartitionInfo
	ID          ReplicaID
	HSM         HSMID
	Certificate []byte // the HSM's identity, DER; HSM is its fingerprint
	Domain      string // the domain's identity, 32 hexadecimal digits
	Software    string // the HSM's version, for people
	Peers       []Peer // that the partition clones with
}

// Limits of a group.
const (
	MinMembers    = 2
	MaxMembers    = 16
	MaxGroupLabel = 31 // bytes, printable ASCII
)

// Member is one partition of a group.
type Member struct {
	Serial  string // the partition's
	HSM     HSMID
	Name    string // for people
	Address string // of its client port, as who added it knew it: a hint
}

// Group is the record of a group, the same in each of its partitions. Of two
// records of one group the one with the higher epoch counts; with the same
// epoch, the one whose encoding is greater.
type Group struct {
	ID     ID
	Label  string
	Serial string // of the group as a slot; it stays when members come and go
	Epoch  uint64 // from 1; each change is one more
	// Members are in the order in which they are asked for changes.
	Members []Member
}

// ReplicaDigest says what a partition holds in 32 bytes: two partitions with
// the same Sum hold the same objects with the same versions and content, and
// remember the same destroyed ones. It is keyed with the domain's secret, and
// says nothing to who does not know the content already.
type ReplicaDigest struct {
	Sequence   uint64 // of the partition's last change
	Objects    uint64
	Tombstones uint64
	Sum        [32]byte
	Epoch      uint64 // of the group's record there; 0 for none
}

// ObjectState is what may be compared of an object between partitions.
type ObjectState struct {
	ID       ID
	Sequence uint64 // of its last change, in this partition
	Deleted  bool   // a tombstone: Stamp and Vector are empty, Content zero
	Stamp    Stamp
	Vector   Vector
	Content  [32]byte  // keyed digest of attributes and secret
	At       time.Time // of the destruction; zero otherwise
}

// CloneOutcome is what became of one object of a clone.
type CloneOutcome uint8

const (
	CloneAdded     CloneOutcome = 1 // it was not there
	CloneUpdated   CloneOutcome = 2 // it was there, older
	CloneUnchanged CloneOutcome = 3 // it was there, the same or newer
	CloneDestroyed CloneOutcome = 4 // it was destroyed there, and is now here
	CloneDead      CloneOutcome = 5 // it is destroyed here, and stays so
	// CloneMerged: it was changed apart on both sides. The content with the
	// later stamp is here now, with both histories.
	CloneMerged  CloneOutcome = 6
	CloneRefused CloneOutcome = 7 // Code and Detail say why
)

// CloneResult is what became of one object of a clone.
type CloneResult struct {
	ID      ID
	Outcome CloneOutcome
	Code    Code   // of a refusal
	Detail  string // of a refusal; of a merge, which content stayed
}
