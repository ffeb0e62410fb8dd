package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Stage is a step on the way from a host name to a signature.
type Stage string

const (
	StageName       Stage = "name"       // the host name resolves
	StageTCP        Stage = "tcp"        // the port answers
	StageTLS        Stage = "tls"        // it is the HSM that we pinned
	StageRegistered Stage = "registered" // the HSM knows our certificate
	StageAudit      Stage = "audit"      // the audit log continues the one that we remember
	StageAssigned   Stage = "assigned"   // the partition is ours to use
	StageLogin      Stage = "login"      // the password is right
	StageKey        Stage = "key"        // the key is there and of use
	StageRequest    Stage = "request"    // a request was carried out
)

// ErrClosed is the error of calls on a Client after its Close.
var ErrClosed = errors.New("client is closed")

// errLost is why a call has no answer: its connection broke first.
var errLost = errors.New("connection lost")

// errAway is why a call that does not wait was not made.
var errAway = errors.New("not connected")

// waitError is why a call had no connection to be sent on.
type waitError struct{ error }

func (e waitError) Unwrap() error { return e.error }

func (e waitError) Is(target error) bool { return target == errNotSent || target == errAway }

// Error says at which stage what failed. Its text ends with what to do.
type Error struct {
	Stage Stage
	Err   error
	Fix   string // what to do about it; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("hsm %s: %v", e.Stage, e.Err)
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// OutcomeUnknownError is the error of a call that changes the partition and
// whose answer was lost. The change may have been made, and the call is not
// repeated: look for Operation in the HSM's log, or for the object.
type OutcomeUnknownError struct {
	Call      string
	Operation OperationID
	Err       error
}

func (e *OutcomeUnknownError) Error() string {
	return fmt.Sprintf("%s: outcome unknown (operation %x): %v", e.Call, e.Operation, e.Err)
}

func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// PinError is the error of a server that is not the one we pinned.
type PinError struct {
	Pinned []string // SHA-256 fingerprints
	Seen   string
}

func (e *PinError) Error() string {
	return fmt.Sprintf("the server's certificate has SHA-256 %s, pinned is %s", e.Seen, strings.Join(e.Pinned, " or "))
}

// Unavailable reports whether err says that the HSM could not be reached, or
// did not let us in, or that the answer was lost: the key is not to blame.
func Unavailable(err error) bool {
	if errors.Is(err, errLost) || errors.Is(err, errAway) || errors.Is(err, ErrClosed) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Stage != StageKey && e.Stage != StageRequest
}

// NotSent reports whether err says that the call never left us: nothing was
// done, whatever the call, and it may be made on another HSM. A refusal by the
// HSM (an *HSMError) did nothing either, but is its answer. Where neither is so
// a call that is not repeatable ends in an *OutcomeUnknownError.
func NotSent(err error) bool { return errors.Is(err, errNotSent) }

// deadlineError is an ErrDeadline of the HSM's, which is a
// context.DeadlineExceeded too.
type deadlineError struct{ refusal *object.Error }

func (e deadlineError) Error() string   { return e.refusal.Error() }
func (e deadlineError) Unwrap() []error { return []error{e.refusal, context.DeadlineExceeded} }

// stageError adds the stage and the fix, unless err has them already.
func stageError(stage Stage, err error) error {
	if _, has := errors.AsType[*Error](err); has {
		return err
	}
	return &Error{Stage: stage, Err: err, Fix: fixFor(stage, err)}
}

// stageOf is the stage of a refusal of a request.
func stageOf(err error) Stage {
	switch object.CodeOf(err) {
	case ErrKeyDate, ErrKeyNotPermitted:
		return StageKey
	case ErrDelayed:
		return StageLogin
	}
	return StageRequest
}

// isCredential reports whether err refuses the password itself, so that trying
// it again would only bring the role nearer to its lock.
func isCredential(err error) bool {
	switch object.CodeOf(err) {
	case ErrPINIncorrect, ErrPINLocked, ErrPINLength:
		return true
	}
	return false
}

// fixFor holds the words that tell people what to do. Rules: name the command
// or the file, no more than one sentence, no blame.
func fixFor(stage Stage, err error) string {
	var pin *PinError
	var log *auditError
	switch code := object.CodeOf(err); {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return ""
	case errors.As(err, &pin):
		return "if the HSM got a new certificate, compare the fingerprint with the one it prints and fetch its server.pem again; otherwise this is another server"
	case errors.As(err, &log):
		return log.fix
	case code == ErrVersion:
		return "bring the older of the two programs up to date"
	case code == ErrNotRegistered:
		return "run `client register` on the HSM with our certificate"
	case code == ErrAddress:
		return "register the client under the address that the HSM sees it come from"
	case code == ErrNotAssigned:
		return "run `client assignPartition` on the HSM, or name the right partition"
	case code == ErrBusy:
		return "the HSM has reached a limit; try again later"
	case code == ErrPINIncorrect:
		return "give the right password; it is not tried again by itself, since failed logins lock the role"
	case code == ErrPINLocked:
		return "have the role's password reset on the HSM"
	case code == ErrPINNotInitialized:
		return "initialise the role on the HSM"
	case code == ErrNotInitialized:
		return "initialise the HSM with `hsm init`"
	case code == ErrDelayed:
		return "wait as long as the HSM says before the next password; only then is one looked at"
	case code == ErrKeyDate:
		return "set the key's CKA_START_DATE or CKA_END_DATE anew with `cmu setattribute`, or use another key"
	case code == ErrKeyNotPermitted:
		return "use a key that was made for this: `cmu getattribute` shows what it may do"
	case code == ErrPolicy:
		return "have the Partition Security Officer change the policy, or do it in a way that it allows"
	}
	switch stage {
	case StageName:
		return "check the HSM's host name and the resolver"
	case StageTCP:
		return "check that the HSM runs, its address and port, and the firewalls between"
	case StageTLS:
		return "check that port and address are those of the HSM's client service"
	case StageRegistered:
		return "see the HSM's log"
	}
	return ""
}

// refusal turns an answer's code and detail into an error.
func refusal(code Code, body []byte) error {
	e, err := wire.DecodeRefusal(code, body)
	if err != nil {
		return fmt.Errorf("decoding refusal %v: %w", code, err)
	}
	if code == ErrDeadline {
		return deadlineError{e}
	}
	return e
}

func fingerprints(ders [][]byte) []string {
	var list []string
	for _, der := range ders {
		list = append(list, Fingerprint(der))
	}
	return list
}
