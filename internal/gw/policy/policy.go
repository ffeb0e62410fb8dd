// Package policy decides what becomes of a flow: whether it is decrypted, by
// which rule and under which profile; what a server's verdict means for the
// certificate that the client gets; and which addresses the proxy connects to.
//
// Everything here is a function of the configuration's snapshot and of the
// facts given: there is no I/O and no state, so that a decision can be asked
// for again, and explained, at any time. Compile once per commit; the values
// are immutable and safe for concurrent use.
package policy

import (
	"fmt"
	"net/netip"

	"moongate/internal/gw/flow"
)

// Facts are what is known of a flow when a decision is asked for.
type Facts struct {
	Kind   flow.Kind
	Client netip.Addr
	// Host is what the client asked the proxy for (CONNECT), or the protected
	// server's configured host: a name in lower case or an IP address.
	Host string
	// Port is the server's.
	Port uint16
	// SNI is the name in the client's hello; empty if it has none, or if the
	// hello was not seen yet.
	SNI string
	// Server is the address that the gateway connected to; the zero Addr when
	// it has not. A rule that names destinations does not match without it.
	Server netip.Addr
}

// Action is what becomes of a flow.
type Action string

const (
	Decrypt   Action = "decrypt"
	NoDecrypt Action = "no-decrypt"
	Block     Action = "block"
)

// Decision is an action with its grounds.
type Decision struct {
	Action Action
	// Rule is the name of the rule that matched; empty where none did.
	Rule string
	// Reason says in a sentence's part why the action was taken.
	Reason string
	// Profile holds for a flow that is decrypted; never nil.
	Profile *Profile
	// Silence is what the rule leaves out of the logs.
	Silence Silence
}

// Silence is what a rule leaves out of the logs; nothing, where it is zero. A
// flow that was relayed undecrypted against its rule's word is never left out.
type Silence struct {
	Success bool // log-success no
	Failure bool // log-fail no
}

// Policy is a compiled rule base with its exclusion list.
type Policy struct {
	exclusions patterns
	rules      []rule
	forward    *index   // of rules
	inbound    *index   // of rules
	fallback   *Profile // where no rule names one
}

// Decide says what becomes of a flow, in this order:
//
//  1. A forward flow whose every known name is on the exclusion list is not
//     decrypted. Both the CONNECT host and the server name of the hello count:
//     a client that could choose one of them freely would talk any host out
//     of inspection (CONNECT evil.example with the server name of an excluded
//     host, or the other way round on a shared front end). For the same reason
//     a CONNECT to an IP address is excluded only if that address is listed.
//  2. The first rule that matches, with all of its conditions: source and
//     destination address, host name, port of the server.
//  3. Where no rule matches, a forward flow is decrypted under the default
//     profile: to look is the purpose, and to look away takes a rule. An
//     inbound flow is not decrypted, since only a rule says with which
//     certificate it could be.
func (p *Policy) Decide(f Facts) Decision {
	q := newQuery(f)
	note := ""
	rules := p.inbound
	if f.Kind == flow.Forward {
		rules = p.forward
		pattern, half := p.exclusions.cover(q.host, q.sni)
		if pattern != "" {
			return Decision{Action: NoDecrypt, Reason: fmt.Sprintf("exclusion %q", pattern), Profile: p.fallback}
		}
		note = half
	}
	if r := rules.first(&q); r != nil {
		return Decision{Action: r.action, Rule: r.name, Reason: "rule" + note, Profile: r.profile, Silence: r.silence}
	}
	if f.Kind == flow.Inbound {
		return Decision{Action: NoDecrypt, Reason: "default: no rule gives a certificate to present", Profile: p.fallback}
	}
	return Decision{Action: Decrypt, Reason: "default" + note, Profile: p.fallback}
}
