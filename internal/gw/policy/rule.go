package policy

import (
	"net/netip"

	"moongate/internal/gw/flow"
)

// rule is a row of the rule base, in the order of evaluation.
type rule struct {
	name    string
	kind    flow.Kind
	action  Action
	profile *Profile
	silence Silence

	source, destination             addresses
	negateSource, negateDestination bool
	hosts                           *patterns // nil is any
	ports                           []portRange
}

// portRange is of TCP ports, both ends included.
type portRange struct{ first, last uint16 }

// query is Facts in the form that rules are compared with.
type query struct {
	Facts            // addresses unmapped and without a zone
	host, sni string // canonical
}

func newQuery(f Facts) query {
	f.Client, f.Server = f.Client.Unmap().WithZone(""), f.Server.Unmap().WithZone("")
	return query{Facts: f, host: canonical(f.Host), sni: canonical(f.SNI)}
}

func (r *rule) matches(q *query) bool {
	return r.kind == q.Kind &&
		matchAddress(r.source, r.negateSource, q.Client) &&
		matchAddress(r.destination, r.negateDestination, q.Server) &&
		r.matchPort(q.Port) && r.matchHost(q)
}

// matchAddress compares with a set, or with all that is not in it. An address
// that is not known is in neither.
func matchAddress(set addresses, negated bool, a netip.Addr) bool {
	if len(set) == 0 {
		return !negated
	}
	return a.IsValid() && set.contain(a) != negated
}

func (r *rule) matchPort(port uint16) bool {
	if r.ports == nil {
		return true
	}
	for _, p := range r.ports {
		if p.first <= port && port <= p.last {
			return true
		}
	}
	return false
}

// matchHost compares the names of a flow. A forward flow has two, the CONNECT
// host and the server name of the hello, and a client may say what it likes in
// either: a rule that decrypts matches by one of them, and a rule that does not
// needs both, so that no name talks a host out of inspection. An inbound flow
// has the server name, or, without one, what the protected server is called.
func (r *rule) matchHost(q *query) bool {
	switch {
	case r.hosts == nil:
		return true
	case q.sni == "" || q.sni == q.host:
		return r.hosts.find(q.host) != ""
	case q.Kind == flow.Inbound:
		return r.hosts.find(q.sni) != ""
	case r.action == Decrypt:
		return r.hosts.find(q.host) != "" || r.hosts.find(q.sni) != ""
	}
	return r.hosts.find(q.host) != "" && r.hosts.find(q.sni) != ""
}

// addresses is a set of networks; empty means any address, known or not. An
// address that is asked for is unmapped and without a zone.
type addresses []netip.Prefix

func (set addresses) contain(a netip.Addr) bool {
	for _, p := range set {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
