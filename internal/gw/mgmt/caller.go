package mgmt

import (
	"errors"
	"net/netip"

	"moongate/internal/gw/admin"
)

// Via is the way a caller came in.
type Via string

const (
	CLI     Via = "cli"
	API     Via = "api"
	Web     Via = "web"
	Console Via = "console" // root on the gateway's own machine
)

// Caller is who asks for an operation. It is made by the methods that
// authenticate, and by the console.
type Caller struct {
	admin.Identity
	From netip.Addr // zero on the console
	Via  Via
	// stamp is the account's when a session began; "" for who proves anew with
	// each call.
	stamp string
}

// Code says what kind of refusal an Error is; the numbers are the XML API's.
type Code int

const (
	CodeUnknownCommand Code = 1
	CodeBadXPath       Code = 6
	CodeNotPresent     Code = 7
	CodeNotUnique      Code = 8
	CodeInUse          Code = 10
	CodeInvalidObject  Code = 12
	CodeNotFound       Code = 13
	CodeNotPossible    Code = 14
	CodeDenied         Code = 15
	CodeUnauthorized   Code = 16
	CodeInvalidCommand Code = 17
	CodeMalformed      Code = 18
	CodeTimeout        Code = 22
	CodeBadParameter   Code = 400
	CodeForbidden      Code = 403
)

// Error is a refusal with its code. Lines are for people: each names the
// field, the value and the fix.
type Error struct {
	Code  Code
	Lines []string
	// Edit is the number, from 1, of the edit that was refused where there were
	// several; else 0.
	Edit int
}

func (e *Error) Error() string {
	text := ""
	for i, line := range e.Lines {
		if i > 0 {
			text += "; "
		}
		text += line
	}
	return text
}

// CodeOf returns the code of an error, 0 where it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
