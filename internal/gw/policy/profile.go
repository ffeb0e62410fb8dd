package policy

import (
	"fmt"

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
