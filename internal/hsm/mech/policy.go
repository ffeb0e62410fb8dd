// Package mech does an HSM's cryptography: it makes, imports and derives keys,
// and signs, verifies, encrypts, decrypts, wraps and unwraps with them. Names
// and semantics are those of PKCS#11 v3.1 (OASIS). Everything here is a
// function of key bytes and random bytes: no I/O, no clock, no sessions, no
// permissions. Who may use a key for what (CKA_SIGN and its like, see
// [Function.Required]), and whether a key may leave (CKA_EXTRACTABLE), is asked
// and answered before a call comes here. The table of mechanisms is in rows.go,
// and in docs/mechanisms.md with what was decided for each.
//
// One [Policy] governs a whole HSM. It makes keys ([Policy.GenerateKeyPair],
// [Policy.GenerateKey]) and turns stored ones into usable ones
// ([Policy.ParseKey], [Policy.ParsePublic]); a [Key] keeps the policy that
// parsed it, so that no operation escapes it:
//
//	key, err := policy.ParseKey(attributes, secret)
//	signature, err := key.Sign(object.Mechanism{Type: object.MechECDSA}, digest)
//
// New objects come out as [KeyMaterial], from generation, [Key.Unwrap] and
// [Key.Derive]; a public key that was made elsewhere gets its attributes from
// [Policy.CompletePublic]. They all check the caller's template in one way, and
// a key has one kind of use (object.Template.CheckUses).
//
// Every refusal is an *object.Error whose detail names the field and the fix.
//
// Go cannot promise to wipe a key from memory: crypto/rsa and its like keep
// copies that nobody else reaches. [KeyMaterial.Clear] wipes the encoded secret
// that it holds, and nothing more.
package mech

import (
	"crypto/fips140"
	"fmt"
	"strings"

	"moongate/internal/hsm/object"
)

// Policy says what an HSM's cryptography may be. The zero Policy allows every
// mechanism of this package; FIPS allows what is approved (FIPS 140-3, SP
// 800-140C and D) and nothing else.
type Policy struct {
	FIPS bool
}

// Status is what an HSM tells people about its cryptography.
type Status struct {
	FIPS          bool   // the policy
	ModuleEnabled bool   // Go's module runs in FIPS 140-3 mode (GODEBUG=fips140=on)
	ModuleVersion string // "v1.0.0-c2097c7c", or "latest" where GOFIPS140 chose no frozen module
}

// Status returns the policy and the state of Go's cryptographic module.
func (p Policy) Status() Status {
	return Status{FIPS: p.FIPS, ModuleEnabled: fips140.Enabled(), ModuleVersion: fips140.Version()}
}

// Module is what is known of the module's version. What Go says of the frozen
// ones is from GOROOT/lib/fips140 of Go 1.26.
func (s Status) Module() string {
	version, _, _ := strings.Cut(s.ModuleVersion, "-")
	switch version {
	case "latest":
		return "Go's own of this release, no frozen one"
	case "v1.0.0":
		return "frozen, listed by Go as certified"
	case "v1.26.0":
		return "frozen, listed by Go as in process"
	}
	return "frozen"
}

func (s Status) String() string {
	mode := "FIPS mode off"
	if s.FIPS {
		mode = "FIPS mode on"
	}
	module := "not in FIPS 140-3 mode"
	if s.ModuleEnabled {
		module = "in FIPS 140-3 mode"
	}
	return fmt.Sprintf("%s (software, not validated hardware); Go Cryptographic Module %s (%s), %s", mode, s.ModuleVersion, s.Module(), module)
}

func (p Policy) String() string { return p.Status().String() }

// Ready refuses a FIPS policy on a Go module that is not in FIPS 140-3 mode:
// its self-tests and its random number generator are part of what is approved.
// A daemon asks once, at its start.
func (p Policy) Ready() error {
	if p.FIPS && !fips140.Enabled() {
		return object.Errorf(object.ErrNotInitialized,
			"FIPS mode is on and Go's cryptographic module is not in FIPS 140-3 mode; start with GODEBUG=fips140=on, or run `moongate-hsm`, which does so by itself")
	}
	return nil
}
