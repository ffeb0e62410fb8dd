// Package p11 serves the keys of a PKCS#11 token through the HSM's own client
// protocol: it is a server.Backend over a Module. The token keeps its keys; here
// are names for them, permissions, and a watch over a module that may hang.
//
// What a Token promises:
//
//   - An object's ID is made of what the object is (see identity), so that it
//     stays the same over restarts and on every member of a vendor's HA group.
//   - Sessions are a pool; one that the module lost is opened again, and the
//     user logged in again, without anybody's noticing. What changes nothing on
//     the token is repeated once.
//   - A wrong PIN is sent once. Tokens lock.
//   - A call that does not come back fails its request at the request's
//     deadline, and ends the process after Options.HangLimit: there is no other
//     way to get out of a C library (Options.Fatal is told).
//
// Without cgo this package is whole; what loads a module is package cryptoki.
package p11

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options say which token, and how much of it.
type Options struct {
	Module Module
	// Token is the token's label, or its serial number. Empty is the only token
	// that there is.
	Token string
	// PIN is the user's. The Token keeps a copy for later logins.
	PIN []byte
	// User is the CKU_ number to log in as; 0 is CKU_USER. Thales Luna's Crypto
	// User is 0x80000001.
	User uint

	// Sessions is how many are open at most; 0 is 32. A token that has fewer
	// gives fewer.
	Sessions int
	// HangLimit is how long a call may take before the module is given up; 0 is
	// 25 s: a module that goes over to another member of the vendor's group does
	// so within a call, and Thales Luna's waits 20 s for the one that is gone
	// (ReceiveTimeout). Making a key may take GenerateLimit, 0 is 5 min.
	HangLimit, GenerateLimit time.Duration
	// LossLimit is how long a token may be away before the module is given up:
	// many see a token again only when they are loaded anew. 0 is 20 s.
	LossLimit time.Duration
	// Probe is how often a token that nobody uses is asked whether it is there;
	// 0 is 5 s.
	Probe time.Duration

	// Fatal is called, once, when only the end of the process helps. It should
	// not return.
	Fatal func(error)
	// Logger is told of losses and recoveries; nil is none.
	Logger *slog.Logger
}

func (o *Options) complete() error {
	switch {
	case o.Module == nil:
		return errors.New("pkcs11: no module")
	case len(o.PIN) == 0:
		return &PINError{Answer: ckrPINLenRange}
	}
	if o.User == 0 {
		o.User = 1 // CKU_USER
	}
	if o.Sessions <= 0 {
		o.Sessions = 32
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&o.HangLimit, 25 * time.Second},
		{&o.GenerateLimit, 5 * time.Minute},
		{&o.LossLimit, 20 * time.Second},
		{&o.Probe, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// PINError says that the token did not take the PIN. It is not tried again.
type PINError struct{ Answer CKR }

func (e *PINError) Error() string {
	const tried = "the token refused the PIN"
	switch e.Answer {
	case ckrPINLocked:
		return tried + ": it is locked after too many wrong ones; have the token's Security Officer set a new one"
	case ckrPINExpired:
		return tried + ": it has expired; change it with the token's own tools"
	case ckrUserPINNotInitialized:
		return tried + ": none is set yet; initialize it with the token's own tools"
	case ckrPINLenRange:
		return tried + ": its length is not that of a PIN"
	}
	return fmt.Sprintf("%s (%v); give the right one: it is not tried again by itself, since wrong ones lock tokens", tried, e.Answer)
}

func (e *PINError) Unwrap() error { return e.Answer }

// TokenError says that the module has no such token.
type TokenError struct {
	Token string // as asked for
	Seen  []Slot
}

func (e *TokenError) Error() string {
	if len(e.Seen) == 0 {
		return "the module sees no token: check the module's own configuration, and that the HSM can be reached"
	}
	var seen []string
	for _, slot := range e.Seen {
		seen = append(seen, fmt.Sprintf("%q (serial number %s)", slot.Label, slot.Serial))
	}
	list := strings.Join(seen, ", ")
	if e.Token == "" {
		return "the module sees several tokens; name one by its label or serial number: " + list
	}
	return fmt.Sprintf("the module sees no token %q, but %s; name one by its label or serial number, which must be one token's alone", e.Token, list)
}

// HungError says that a call of the module's did not come back.
type HungError struct {
	Call  string
	After time.Duration
}

func (e *HungError) Error() string {
	return fmt.Sprintf("the module hangs: %s has not come back for %v", e.Call, e.After.Round(time.Millisecond))
}

// LostError says that the token was lost and did not come back.
type LostError struct {
	For time.Duration
	Err error // of the last attempt
}

func (e *LostError) Error() string {
	return fmt.Sprintf("the token was lost %v ago and does not come back: %v", e.For.Round(time.Second), e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }
