package wire

import "moongate/internal/hsm/object"

// What a request may need of a server's memory, by which both sides know how
// much a server reads ahead of its answers.
const (
	// MaxCharge is what the requests of one connection that have no answer may
	// be charged together, and one alone whatever it is charged.
	MaxCharge = 2 << 20
	// SmallCharge is the most that a small request is charged: a signature is
	// one, and so is a Ping.
	SmallCharge = 4 << 10
)

// Charge is what a request with a frame of so many bytes is charged: them, and
// the most that its answer may hold. For CloneOut that is what one should
// think; a server charges what an answer has beyond when it is there.
func Charge(op Op, size int) int { return size + answerBound(op, size) }

func answerBound(op Op, size int) int {
	switch op {
	case OpFind, OpGet, OpChanges:
		return MaxFrame
	case OpCloneOut:
		return min(MaxFrame, smallAnswer+max(0, size-leastOffer)/len(object.ID{})*clonedObject)
	case OpCloneIn:
		return smallAnswer + min(object.MaxClone, size/clonedLeast)*clonedResult
	case OpRandom:
		return MaxRandom
	case OpWrap:
		return MaxWrapped
	case OpListPartitions:
		return MaxPartitions * 64
	case OpStatus, OpAuditCheckpoint, OpAuditProof, OpReplica, OpGroup, OpOfferClone:
		return 16 << 10
	}
	return smallAnswer // no more than the request, or little
}

// Of a clone, in bytes: the least that an offer takes, its key; more than a key
// takes, or most certificates; the least that an object takes in a package, a
// destroyed one; what may be said of one.
const (
	leastOffer   = 1249
	clonedObject = 8 << 10
	clonedLeast  = 24
	clonedResult = 16 + 1 + 4 + 2 + MaxCloneDetail
)

// smallAnswer is more than a signature of RSA-4096 or a refusal takes.
const smallAnswer = MaxDetail + 64
