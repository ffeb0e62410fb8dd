package policy

import (
	"fmt"
	"slices"

	"moongate/internal/gw/flow"
)

// TLS versions as the protocol numbers them (RFC 8446, section 4.1.2, and its
// predecessors).
const (
	TLS10 uint16 = 0x0301
	TLS11 uint16 = 0x0302
	TLS12 uint16 = 0x0303
	TLS13 uint16 = 0x0304
)

// Profile is a compiled decryption profile.
type Profile struct {
	Name string // "" for the default
	// A server whose certificate has the named fault is blocked; where it is
	// not blocked it is presented by the untrusted authority, so that the
	// client sees the fault for itself.
	BlockExpired      bool
	BlockUntrusted    bool
	BlockNameMismatch bool
	// MinVersion and MaxVersion bound TLS on both legs.
	MinVersion, MaxVersion uint16
	// RSAKeyExchange lets either leg use the cipher suites without forward
	// secrecy (RFC 5246, section 7.4.7.1).
	RSAKeyExchange bool
	// NoECDHE forbids either leg every other key exchange of TLS 1.2. TLS 1.3,
	// where the versions allow it, has no other and is not touched.
	NoECDHE bool
	// Forward and Inbound say what is relayed undecrypted rather than blocked.
	Forward, Inbound Relaxed
}

// Relaxed are the cases in which a flow that should be decrypted, and cannot
// be, is relayed undecrypted. Those that are not set are blocked.
type Relaxed struct {
	HSMUnavailable     bool // block-if-hsm-unavailable no
	UnsupportedVersion bool // block-unsupported-version no
}

func (p *Profile) relaxed(kind flow.Kind) Relaxed {
	if kind == flow.Inbound {
		return p.Inbound
	}
	return p.Forward
}

// BlocksHSMUnavailable says whether a flow ends whose key is out of reach.
func (p *Profile) BlocksHSMUnavailable(kind flow.Kind) bool { return !p.relaxed(kind).HSMUnavailable }

// BlocksUnsupportedVersion says whether a flow ends of which a side speaks no
// TLS version of the profile's.
func (p *Profile) BlocksUnsupportedVersion(kind flow.Kind) bool {
	return !p.relaxed(kind).UnsupportedVersion
}

// CheckVersions says whether a client that offers the versions, highest first,
// can be answered under the profile, and what it offers at least and at most.
// A hello of which nothing is known can.
func (p *Profile) CheckVersions(offered []uint16) (lowest, highest uint16, ok bool) {
	if len(offered) == 0 {
		return 0, 0, true
	}
	ok = slices.ContainsFunc(offered, func(v uint16) bool { return v >= p.MinVersion && v <= p.MaxVersion })
	return offered[len(offered)-1], offered[0], ok
}

func (p *Profile) String() string {
	if p.Name == "" {
		return "the default profile"
	}
	return fmt.Sprintf("profile %q", p.Name)
}

// Trust says what the client is shown.
type Trust int

const (
	// Blocked: the flow ends. It is the zero value, so that a missing answer
	// is never a permission.
	Blocked Trust = iota
	// Untrusted: the leaf is signed by the authority that clients do not trust.
	Untrusted
	// Trusted: the leaf is signed by the authority that clients trust.
	Trusted
)

func (t Trust) String() string {
	return [...]string{"block", "untrust", "trust"}[t]
}

// Outcome is what a verdict means for the client.
type Outcome struct {
	Trust  Trust
	Reason string // empty when trusted
}

// Judge says what a verdict means for the client. Only a chain that was
// verified is ever presented as trusted. An inbound flow is blocked for any
// fault: its client gets the protected server's own certificate, whatever
// machine the gateway reached, so that nobody would see the fault.
func (p *Profile) Judge(kind flow.Kind, v *flow.Verdict) Outcome {
	if v == nil {
		return Outcome{Reason: "the server's certificate was not verified"}
	}
	if v.Status == flow.Trusted {
		return Outcome{Trust: Trusted}
	}
	if kind == flow.Inbound {
		return Outcome{Reason: fmt.Sprintf("the protected server did not prove itself (%s)", v.Status)}
	}
	// Every fault counts, not the worst alone: a chain that is self-signed and
	// expired must not escape the profile that blocks what has expired.
	faults := v.Faults
	if len(faults) == 0 {
		faults = []flow.Status{v.Status}
	}
	for _, fault := range faults {
		block, setting, known := p.blocks(fault)
		switch {
		case !known:
			return Outcome{Reason: fmt.Sprintf("the server's certificate is %q, which no profile allows", fault)}
		case block:
			return Outcome{Reason: fmt.Sprintf("%s blocks it: %s", p, setting)}
		}
	}
	return Outcome{Trust: Untrusted, Reason: fmt.Sprintf("presented as untrusted: %s", v.Status)}
}

// blocks says whether the profile blocks a fault, and by which setting. A fault
// that is not known here, or a chain that nobody looked at, is never let pass.
func (p *Profile) blocks(fault flow.Status) (block bool, setting string, known bool) {
	switch fault {
	case flow.Expired:
		return p.BlockExpired, "block-expired-certificate", true
	case flow.WrongName:
		return p.BlockNameMismatch, "block-if-sni-mismatch", true
	case flow.SelfSigned, flow.UnknownIssuer, flow.OwnAuthority, flow.Invalid:
		return p.BlockUntrusted, "block-untrusted-issuer", true
	}
	return false, "", false
}
