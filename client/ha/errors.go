package ha

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moongate/client"
)

// ErrNoGroup is the error of Load where the file has no [ha].
var ErrNoGroup = errors.New("the client configuration names no HA group")

// ErrNoRecord is within the reason of a member whose partition has no record
// of the group.
var ErrNoRecord = errors.New("the partition has no record of the group")

// MemberError is what became of a call at one member.
type MemberError struct {
	Member string
	Err    error // nil: it was done there
}

func (e MemberError) Error() string {
	if e.Err == nil {
		return e.Member + ": done"
	}
	return fmt.Sprintf("%s: %v", e.Member, e.Err)
}

func (e MemberError) Unwrap() error { return e.Err }

// CallError is the error of a call that no member answered well: each one's
// reason. client.Unavailable(err) is true where none gave an answer at all.
type CallError struct {
	// Waiting is the end of the call's time, where that is why nobody else was
	// asked; nil otherwise.
	Waiting error
	Members []MemberError
}

func (e *CallError) Error() string {
	var b strings.Builder
	b.WriteString("no member of the group could do it")
	if e.Waiting != nil {
		fmt.Fprintf(&b, " (%v)", e.Waiting)
	}
	for i, m := range e.Members {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(m.Error())
	}
	return b.String()
}

// Unwrap has answers of HSMs first, then members that could not be reached, so
// that who looks for the first *client.Error in it finds the one that counts.
func (e *CallError) Unwrap() []error {
	rank := func(err error) int {
		if _, answered := errors.AsType[*client.HSMError](err); answered {
			return 0
		}
		if client.Unavailable(err) {
			return 1
		}
		return 2
	}
	var list []error
	for _, m := range e.Members {
		if m.Err != nil {
			list = append(list, m.Err)
		}
	}
	slices.SortStableFunc(list, func(a, b error) int { return rank(a) - rank(b) })
	if e.Waiting != nil {
		list = append(list, e.Waiting)
	}
	return list
}

// PartialError is the error of a change that is on some members and not on
// others, because one refused it and the rest could not be undone, or because
// the only one that has it was lost. Nothing else is silently half done.
type PartialError struct {
	Call    string
	IDs     []ID // of the objects
	Members []MemberError
	Err     error // why it went wrong first
}

func (e *PartialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s was done on some members only: %v", e.Call, e.Err)
	for _, m := range e.Members {
		b.WriteString("; ")
		b.WriteString(m.Error())
	}
	if len(e.IDs) > 0 {
		fmt.Fprintf(&b, "; objects %v; synchronize the group once all members are there", e.IDs)
	}
	return b.String()
}

func (e *PartialError) Unwrap() error { return e.Err }

// PendingError is the error of a destruction that is done on all members that
// can be reached and not confirmed by the others: there the object may be used
// until they are synchronized.
type PendingError struct {
	ID      ID
	Members []string
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("object %v is destroyed where members could be reached, pending on %s; it ends there when they are synchronized",
		e.ID, strings.Join(e.Members, ", "))
}

// Answers of HSMs that say something of this member alone: another one may
// well do it.
func ofMember(code client.Code) bool {
	switch code {
	case client.ErrBusy, client.ErrDeviceError, client.ErrGeneral, client.ErrAuditFailed, client.ErrNotInitialized,
		client.ErrSessionHandle, client.ErrNotLoggedIn, client.ErrNotAssigned, client.ErrNotRegistered, client.ErrAddress,
		client.ErrPINIncorrect, client.ErrPINLocked, client.ErrPINNotInitialized, client.ErrPINLength, client.ErrDelayed,
		client.ErrDeadline, client.ErrVersion, client.ErrProtocol, client.ErrFunctionCanceled:
		return true
	}
	return false
}

// wasDone reports whether a refusal says that the change was made all the same,
// and only its end could not be recorded.
func wasDone(refusal *client.HSMError) bool {
	return refusal.Code == client.ErrAuditFailed && strings.HasPrefix(refusal.Detail, "it was done")
}

// isDoubtful reports whether a refusal is final only when all members have said
// so: an object may be on another one, and a clock may be wrong.
func isDoubtful(code client.Code) bool { return isAbsent(code) || code == client.ErrKeyDate }

func isAbsent(code client.Code) bool {
	return code == client.ErrKeyHandle || code == client.ErrObjectNotFound
}
