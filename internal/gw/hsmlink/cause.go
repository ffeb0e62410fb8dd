package hsmlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode"

	"moongate/client"
)

// Code is a short word for a cause, the same in the log, in figures and in
// docs/hsm-link.md.
type Code string

const (
	CodeNameUnknown    Code = "name-unknown"
	CodePortRefused    Code = "port-refused"
	CodePortBlocked    Code = "port-blocked"
	CodeUnreachable    Code = "unreachable"
	CodeSource         Code = "source-address"
	CodeSilent         Code = "silent"
	CodeLost           Code = "connection-lost"
	CodeNotPinned      Code = "not-pinned"
	CodeWrongServer    Code = "wrong-certificate"
	CodeTLS            Code = "tls"
	CodeNoIdentity     Code = "no-client-certificate"
	CodeNotRegistered  Code = "not-registered"
	CodeAddress        Code = "address-refused"
	CodeVersion        Code = "version"
	CodeAudit          Code = "audit-log"
	CodeNotAssigned    Code = "not-assigned"
	CodeNoPassword     Code = "no-password"
	CodeWrongPassword  Code = "wrong-password"
	CodeLocked         Code = "locked"
	CodeNoRole         Code = "role-not-initialized"
	CodeDelayed        Code = "delayed"
	CodeBusy           Code = "busy"
	CodeKeyMissing     Code = "key-missing"
	CodeWrapping       Code = "wrapping-key-missing"
	CodeNotInitialized Code = "not-initialized"
	CodeModule         Code = "module"
	CodeRefused        Code = "refused" // in some other way
)

// Error is a Problem at a stage, as an error.
type Error struct {
	Server string
	Stage  StageName
	Problem
	Err error // what was behind it; may be nil
}

func (e *Error) Error() string {
	at := "HSM"
	if e.Server != "" {
		at += " server " + e.Server
	}
	return fmt.Sprintf("%s: %s: %s", at, e.Stage, e.Problem.String())
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errNotGiven = errors.New("no password was given")
	errRefused  = errors.New("the password was refused before, and is not tried again")
)

// explain says at which stage an error of the client's lies, and tells its
// causes apart. The server is named as the administrator calls it.
func explain(server, address string, err error) *Error {
	e := &Error{Server: server, Stage: StageTCP, Err: err}
	fix := ""
	inner := err
	if c, ok := errors.AsType[*client.Error](err); ok {
		e.Stage, fix, inner = stageOf(c.Stage), c.Fix, c.Err
	}
	e.Problem = Problem{Code: CodeRefused, Reason: oneLine(inner.Error()), Fix: fix}
	var pin *client.PinError
	switch code := client.CodeOf(err); {
	case errors.As(err, &pin):
		e.Problem = Problem{CodeWrongServer,
			fmt.Sprintf("%s shows a certificate that is not pinned: SHA-256 %s, pinned is %s", address, pin.Seen, strings.Join(pin.Pinned, " or ")),
			"if the HSM got a new certificate, compare the fingerprint with the one that it prints and import its server.pem; otherwise this is another server"}
	case code == client.ErrNotRegistered:
		e.Problem = Problem{CodeNotRegistered, "the HSM does not know the gateway's certificate",
			"on the HSM: `client register -client NAME -ip ADDRESS` with the exported client certificate"}
	case code == client.ErrAddress:
		e.Problem = Problem{CodeAddress, "the HSM knows the gateway's certificate, and refuses the address that it comes from: " + oneLine(inner.Error()),
			"on the HSM: register the client under that address, or set the service route hsm to the registered one"}
	case code == client.ErrVersion:
		e.Problem = Problem{CodeVersion, oneLine(inner.Error()), "bring the older of the two programs up to date, or set hsm-settings/client-version"}
	case code == client.ErrNotAssigned:
		e.Problem = Problem{CodeNotAssigned, "no partition is assigned to the gateway, or not the one that it was told: " + oneLine(inner.Error()),
			"on the HSM: `client assignPartition -client NAME -partition PARTITION`"}
	case code == client.ErrPINIncorrect || errors.Is(err, errRefused):
		e.Stage, e.Problem = StageLogin, Problem{CodeWrongPassword, "the partition refused the password, which is not tried again by itself",
			"give the right one: `request hsm login`"}
	case code == client.ErrPINLocked:
		e.Problem = Problem{CodeLocked, "the partition's role is locked after too many wrong passwords",
			"have it unlocked or its password reset on the HSM; the gateway then logs in by itself"}
	case errors.Is(err, errElsewhere):
		e.Stage, e.Problem = StageLogin, Problem{CodeNoPassword, err.Error() + ", which is not sent there by itself",
			"if it is the partition's HSM: `request hsm login`"}
	case errors.Is(err, errNotGiven):
		e.Stage, e.Problem = StageLogin, noPassword
	case code == client.ErrPINNotInitialized:
		e.Problem = Problem{CodeNoRole, "the partition has no such role yet", "on the HSM: `partition init`, or `cmu partition` for the Crypto User"}
	case code == client.ErrNotInitialized:
		e.Problem = Problem{CodeNotInitialized, "the HSM is not initialised", "on the HSM: `hsm init`"}
	case code == client.ErrDelayed:
		e.Problem = Problem{CodeDelayed, oneLine(inner.Error()), fix}
	case code == client.ErrBusy:
		e.Problem = Problem{CodeBusy, "the HSM has reached a limit: " + oneLine(inner.Error()), "the gateway tries again by itself"}
	case e.Stage == StageHost:
		e.Problem = Problem{CodeNameUnknown, fmt.Sprintf("the name of %s does not resolve: %s", address, oneLine(inner.Error())), "check server-address and the machine's resolver"}
	case e.Stage == StageRegistered && isStage(err, client.StageAudit):
		e.Problem = Problem{CodeAudit, oneLine(inner.Error()), fix}
	case e.Stage == StageTCP:
		e.Problem = explainTCP(address, err)
	case e.Stage == StageTLS:
		e.Problem = Problem{CodeTLS, fmt.Sprintf("%s does not answer as an HSM: %s", address, oneLine(inner.Error())),
			"check that server-address and port are those of the HSM's client service"}
	}
	return e
}

var noPassword = Problem{CodeNoPassword, "the gateway has no password of the partition", "give it: `request hsm login`"}

func isStage(err error, s client.Stage) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Stage == s
}

// explainTCP tells a port that is closed from one that does not answer.
func explainTCP(address string, err error) Problem {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Problem{CodePortRefused, fmt.Sprintf("nothing listens at %s: the connection was refused", address), "check that the HSM runs, and its client port"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return Problem{CodeSource, "the source address of the service route hsm is not one of this machine's", "check route/service/entry[@name='hsm']"}
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return Problem{CodeUnreachable, fmt.Sprintf("there is no way to %s: %s", address, oneLine(rootOf(err))), "check the network between, and the service route hsm"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Problem{CodePortBlocked, fmt.Sprintf("%s does not answer: no reply in time", address), "check the firewalls between, and that the HSM's machine is up"}
	}
	return Problem{CodeLost, "the connection broke: " + oneLine(rootOf(err)), "the gateway connects again by itself"}
}

// rootOf is the innermost text of an error.
func rootOf(err error) string {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// oneLine is a text that may be somebody else's, in one line without what is not
// printable.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
}
