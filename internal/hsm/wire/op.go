package wire

import (
	"fmt"
	"maps"
	"slices"
)

// Op is what a request asks for. Numbers are never used again.
type Op uint16

const (
	OpHello          Op = 0x01
	OpPing           Op = 0x02
	OpListPartitions Op = 0x03
	OpOpenSession    Op = 0x04
	OpCloseSession   Op = 0x05
	OpLogin          Op = 0x06
	OpLogout         Op = 0x07

	OpGenerate Op = 0x10
	OpStore    Op = 0x11
	OpFind     Op = 0x12
	OpGet      Op = 0x13
	OpSet      Op = 0x14
	OpDestroy  Op = 0x15

	OpSign    Op = 0x20
	OpEncrypt Op = 0x21
	OpDecrypt Op = 0x22
	OpWrap    Op = 0x23
	OpUnwrap  Op = 0x24
	OpRandom  Op = 0x25
	OpVerify  Op = 0x26
	OpDerive  Op = 0x27

	OpReplica    Op = 0x40
	OpGroup      Op = 0x41
	OpSetGroup   Op = 0x42
	OpDigest     Op = 0x43
	OpChanges    Op = 0x44
	OpOfferClone Op = 0x45
	OpCloneOut   Op = 0x46
	OpCloneIn    Op = 0x47
	OpSetPeer    Op = 0x48

	OpAuditCheckpoint Op = 0x60
	OpAuditProof      Op = 0x61

	OpStatus         Op = 0x70 // of a partition
	OpInitPartition  Op = 0x71
	OpInitRole       Op = 0x72
	OpResetRole      Op = 0x73
	OpUnlockRole     Op = 0x74
	OpChangePassword Op = 0x75
	OpSetPolicy      Op = 0x76
	OpDeactivate     Op = 0x77
)

// Reserved: numbers that are spoken for in docs/wire.md. Until a version gives
// them a layout they are refused with ErrNotSupported, as every unknown number
// is.
const (
	OpCancel Op = 0x08

	OpCreateSessionObject Op = 0x18
	OpCopyObject          Op = 0x19

	OpBegin  Op = 0x30 // multi-part: sign, verify, digest, MAC
	OpUpdate Op = 0x31
	OpFinish Op = 0x32
	OpAbort  Op = 0x33

	OpReplicationFirst Op = 0x49 // more of cloning between HSMs
	OpReplicationLast  Op = 0x5f
)

var opNames = map[Op]string{
	OpHello: "Hello", OpPing: "Ping", OpListPartitions: "ListPartitions", OpOpenSession: "OpenSession",
	OpCloseSession: "CloseSession", OpLogin: "Login", OpLogout: "Logout",
	OpGenerate: "Generate", OpStore: "Store", OpFind: "Find", OpGet: "Get", OpSet: "Set", OpDestroy: "Destroy",
	OpSign: "Sign", OpEncrypt: "Encrypt", OpDecrypt: "Decrypt", OpWrap: "Wrap", OpUnwrap: "Unwrap", OpRandom: "Random",
	OpVerify: "Verify", OpDerive: "Derive",
	OpReplica: "Replica", OpGroup: "Group", OpSetGroup: "SetGroup", OpDigest: "Digest", OpChanges: "Changes",
	OpOfferClone: "OfferClone", OpCloneOut: "CloneOut", OpCloneIn: "CloneIn", OpSetPeer: "SetPeer",
	OpAuditCheckpoint: "AuditCheckpoint", OpAuditProof: "AuditProof",
	OpStatus: "Status", OpInitPartition: "InitPartition", OpInitRole: "InitRole", OpResetRole: "ResetRole",
	OpUnlockRole: "UnlockRole", OpChangePassword: "ChangePassword", OpSetPolicy: "SetPolicy", OpDeactivate: "Deactivate",
}

var reservedNames = map[Op]string{
	OpCancel: "Cancel", OpCreateSessionObject: "CreateSessionObject", OpCopyObject: "CopyObject",
	OpBegin: "Begin", OpUpdate: "Update", OpFinish: "Finish", OpAbort: "Abort",
}

// Ops lists the ops that have a layout, ascending.
func Ops() []Op { return slices.Sorted(maps.Keys(opNames)) }

func (o Op) String() string {
	if name, known := opNames[o]; known {
		return name
	}
	if name, reserved := reservedNames[o]; reserved {
		return name
	}
	return fmt.Sprintf("op 0x%04x", uint16(o))
}

// Repeatable reports whether a request whose answer was lost may be sent
// again: it changes nothing on the HSM but its log, and for OfferClone its
// memory, which forgets the offer. For any other one the
// outcome is unknown, and a person or a search must find it out.
func (o Op) Repeatable() bool {
	switch o {
	case OpPing, OpListPartitions, OpFind, OpGet, OpSign, OpEncrypt, OpDecrypt, OpWrap, OpRandom, OpVerify,
		OpReplica, OpGroup, OpDigest, OpChanges, OpOfferClone, OpCloneOut, OpAuditCheckpoint, OpAuditProof, OpStatus:
		return true
	}
	return false
}
