package object

import (
	"errors"
	"fmt"
)

// Code is the reason of a refusal, as it travels to clients: the numbers of
// PKCS#11's CKR_ values where it has one.
type Code uint32

const (
	OK                     Code = 0x000
	ErrGeneral             Code = 0x005
	ErrArgumentsBad        Code = 0x007
	ErrAttributeReadOnly   Code = 0x010
	ErrAttributeSensitive  Code = 0x011
	ErrAttributeType       Code = 0x012
	ErrAttributeValue      Code = 0x013
	ErrActionProhibited    Code = 0x01b
	ErrDataInvalid         Code = 0x020
	ErrDataLength          Code = 0x021
	ErrDeviceError         Code = 0x030
	ErrEncryptedData       Code = 0x040
	ErrFunctionCanceled    Code = 0x050
	ErrNotSupported        Code = 0x054
	ErrKeyHandle           Code = 0x060
	ErrKeySize             Code = 0x062
	ErrKeyType             Code = 0x063
	ErrKeyNotPermitted     Code = 0x068
	ErrKeyUnextractable    Code = 0x06a
	ErrMechanism           Code = 0x070
	ErrMechanismParam      Code = 0x071
	ErrObjectNotFound      Code = 0x082
	ErrPINIncorrect        Code = 0x0a0
	ErrPINLength           Code = 0x0a2
	ErrPINLocked           Code = 0x0a4
	ErrSessionHandle       Code = 0x0b3
	ErrSignatureInvalid    Code = 0x0c0
	ErrSignatureLength     Code = 0x0c1
	ErrTemplateIncomplete  Code = 0x0d0
	ErrTemplateInconsist   Code = 0x0d1
	ErrUserAlreadyLoggedIn Code = 0x100
	ErrNotLoggedIn         Code = 0x101
	ErrPINNotInitialized   Code = 0x102
	ErrUserType            Code = 0x103

	// Of our own: what PKCS#11 leaves to the transport.
	vendor            Code = 0x80000000
	ErrVersion             = vendor | 1 // no protocol version in common
	ErrProtocol            = vendor | 2 // malformed or out of order
	ErrNotRegistered       = vendor | 3 // certificate unknown to the HSM
	ErrAddress             = vendor | 4 // registered for another address
	ErrNotAssigned         = vendor | 5 // partition not assigned to the client
	ErrBusy                = vendor | 6 // over a limit; try again later
	ErrDeadline            = vendor | 7 // the request's own deadline passed
	ErrAuditFailed         = vendor | 8 // the act could not be recorded, so it was not done
	ErrExists              = vendor | 9 // a name or identity is taken
	ErrNotInitialized      = vendor | 10
	ErrKeyDate             = vendor | 11 // before the key's start date or after its end date
	ErrPolicy              = vendor | 12 // a policy of the partition or the HSM forbids it
	ErrDelayed             = vendor | 13 // too many wrong passwords; wait
)

var codeText = map[Code]string{
	OK:                     "ok",
	ErrGeneral:             "general error",
	ErrArgumentsBad:        "bad argument",
	ErrAttributeReadOnly:   "attribute is read-only",
	ErrAttributeSensitive:  "attribute is sensitive",
	ErrAttributeType:       "attribute type invalid",
	ErrAttributeValue:      "attribute value invalid",
	ErrActionProhibited:    "action prohibited",
	ErrDataInvalid:         "data invalid",
	ErrDataLength:          "data length out of range",
	ErrDeviceError:         "device error",
	ErrEncryptedData:       "encrypted data invalid",
	ErrFunctionCanceled:    "function cancelled",
	ErrNotSupported:        "function not supported",
	ErrKeyHandle:           "key not found",
	ErrKeySize:             "key size out of range",
	ErrKeyType:             "key type inconsistent with mechanism",
	ErrKeyNotPermitted:     "key may not be used for this function",
	ErrKeyUnextractable:    "key is not extractable",
	ErrMechanism:           "mechanism invalid",
	ErrMechanismParam:      "mechanism parameter invalid",
	ErrObjectNotFound:      "object not found",
	ErrPINIncorrect:        "password incorrect",
	ErrPINLength:           "password length out of range",
	ErrPINLocked:           "role is locked after too many failed logins",
	ErrSessionHandle:       "session does not exist",
	ErrSignatureInvalid:    "signature invalid",
	ErrSignatureLength:     "signature length out of range",
	ErrTemplateIncomplete:  "template incomplete",
	ErrTemplateInconsist:   "template inconsistent",
	ErrUserAlreadyLoggedIn: "already logged in",
	ErrNotLoggedIn:         "not logged in",
	ErrPINNotInitialized:   "role has no password yet",
	ErrUserType:            "role may not do this",
	ErrVersion:             "no protocol version in common",
	ErrProtocol:            "protocol violation",
	ErrNotRegistered:       "client is not registered",
	ErrAddress:             "client is registered for another address",
	ErrNotAssigned:         "partition is not assigned to this client",
	ErrBusy:                "busy",
	ErrDeadline:            "deadline exceeded",
	ErrAuditFailed:         "audit log unavailable",
	ErrExists:              "already exists",
	ErrNotInitialized:      "not initialised",
	ErrKeyDate:             "key is outside of its dates",
	ErrPolicy:              "forbidden by policy",
	ErrDelayed:             "too many wrong passwords, wait",
}

func (c Code) String() string {
	if text, known := codeText[c]; known {
		return text
	}
	return fmt.Sprintf("error 0x%08x", uint32(c))
}

// Error is a refusal: its code for programs, its detail for people. The detail
// names the field, the value and the fix, and never holds a secret.
type Error struct {
	Code   Code
	Detail string
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code.String()
	}
	return e.Code.String() + ": " + e.Detail
}

// Is makes errors.Is(err, &Error{Code: c}) compare codes alone.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code && (other.Detail == "" || other.Detail == e.Detail)
}

// Errorf returns an *Error with the given code and formatted detail.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code that err carries: OK for nil, ErrGeneral for an
// error that is not an *Error.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ErrGeneral
}
