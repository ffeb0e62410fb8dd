package ha

import (
	"time"

	"moongate/internal/hsm/object"
)

// State is how a member stands.
type State uint8

const (
	// Connecting: no connection has stood since the Group was opened, or since
	// Recover.
	Connecting State = iota
	// Live: it holds what the others hold, and serves everything.
	Live
	// Behind: it is there, and holds something else than the others: it serves
	// the keys of which it holds the same.
	Behind
	// Suspect: it did not answer in time. It gets no calls while there are
	// others, until it answers a probe.
	Suspect
	// Lost: the connection broke, or could not be made.
	Lost
	// Refused: it is there and cannot be used as it is; the reason says why. It
	// is looked at again.
	Refused
	// Removed: the group's record does not name it any more.
	Removed
	states
)

var stateNames = [states]string{"connecting", "live", "behind", "suspect", "lost", "refused", "removed"}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return "unknown"
}

// States lists all states.
func States() []State {
	list := make([]State, states)
	for i := range list {
		list[i] = State(i)
	}
	return list
}

// MemberStatus is how a member stands.
type MemberStatus struct {
	Name    string
	Address string
	Serial  string // the partition's; empty before the first connection
	HSM     HSMID  // likewise
	// Software is the HSM's version as it tells it.
	Software string
	State    State
	Since    time.Time // when State last changed, by Config.Now
	Reason   string    // why it is not live; may be set of a live one too
	Fix      string    // what to do about it; may be empty

	Outstanding int                  // calls that wait for its answer
	Digest      object.ReplicaDigest // of its contents, when last asked
	// Equal: its contents were the others' when last compared.
	Equal bool
	// Behind is of how many objects it holds something else than the others;
	// -1 where that is not known yet.
	Behind int
	// Pending is of how many of them it is known that a change through this Group
	// did not reach it, destructions among them.
	Pending   int
	Failovers uint64 // calls that went on elsewhere after they failed here
	Hedges    uint64 // calls that were asked elsewhere too since it was slow
	Retries   int    // failed attempts to connect in a row
}
