package plane

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"moongate/internal/gw/flow"
	"moongate/internal/gw/intercept"
	"moongate/internal/gw/policy"
)

// Query is a flow that somebody asks about.
type Query struct {
	Kind   flow.Kind // "" is flow.Forward
	Client netip.Addr
	// Host is what the client asks the proxy for, a name or an IP address; of
	// an inbound flow it is its protected server, where several are configured.
	Host   string
	Port   uint16     // 0 is 443; of an inbound flow 0 is any
	SNI    string     // "" is Host, where that is a name
	NoSNI  bool       // the hello has none
	Server netip.Addr // where Host resolves to; zero: not known, unless Host is an address
	// Versions are the TLS versions that the client offers; nil is 1.2 and 1.3.
	Versions []uint16
}

// Explanation is what would become of the flow.
type Explanation struct {
	Action  policy.Action
	Rule    string // empty where none matched
	Reason  string
	Profile string
	// Certificates are what may be presented in the server's stead, by the
	// configuration's names: CAs that sign a leaf, or the server's own. Empty
	// for a flow that is not decrypted.
	Certificates []string
	// Keys says what the flow needs of the HSM.
	Keys string
	// Notes are what else the gateway would say of the flow, each a sentence.
	Notes []string
}

// ErrNothing: there is no such flow to explain.
var ErrNothing = errors.New("no such flow")

// Explain says what would become of a flow, by the very policy that decides
// now. It connects to nothing and counts no hit; what a server's certificate
// would change is not in it.
func (p *Plane) Explain(q Query) (Explanation, error) {
	g := p.generation()
	if g == nil {
		return Explanation{}, fmt.Errorf("%w: no configuration runs yet", ErrNothing)
	}
	if q.Kind == "" {
		q.Kind = flow.Forward
	}
	at, target, err := g.placeOf(&q)
	if err != nil {
		return Explanation{}, err
	}
	if addr, err := netip.ParseAddr(target.Host); err == nil && !q.Server.IsValid() {
		q.Server = addr
	}
	if q.SNI == "" && !q.NoSNI && q.Kind == flow.Forward && !isAddress(target.Host) {
		q.SNI = target.Host
	}
	if q.Versions == nil {
		q.Versions = []uint16{policy.TLS13, policy.TLS12}
	}
	d := g.policy.Decide(policy.Facts{
		Kind: q.Kind, Client: q.Client, Host: target.Host, Port: target.Port, SNI: strings.ToLower(q.SNI), Server: q.Server,
	})
	e := Explanation{Action: d.Action, Rule: d.Rule, Reason: d.Reason, Profile: d.Profile.String()}
	if !q.Server.IsValid() {
		e.Notes = append(e.Notes, "the server's address is not known: a rule that names destinations was not looked at as matching")
	}
	if q.Kind == flow.Forward && q.Server.IsValid() {
		if err := at.runtime.Destinations.Check(target.Host, netip.AddrPortFrom(q.Server, target.Port)); err != nil {
			e.Action, e.Reason = policy.Block, err.Error()
			return e, nil
		}
	}
	if d.Action == policy.Decrypt {
		g.explainKeys(at, target, &q, &d, &e)
	}
	return e, nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// placeOf returns the listener that the flow would come in by, and its target.
func (g *generation) placeOf(q *Query) (*place, intercept.Target, error) {
	for i := range g.places {
		at := &g.places[i]
		if at.kind != q.Kind {
			continue
		}
		if q.Kind == flow.Forward {
			port := q.Port
			if port == 0 {
				port = 443
			}
			host := q.Host
			if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
				host = "[" + host + "]"
			}
			target, err := intercept.ParseTarget(fmt.Sprintf("%s:%d", host, port))
			if err != nil {
				return nil, target, fmt.Errorf("host %.100q: %w", q.Host, err)
			}
			return at, target, nil
		}
		target, err := intercept.ParseTarget(at.runtime.Server)
		if err != nil {
			return nil, target, err
		}
		if (q.Host == "" || strings.EqualFold(q.Host, target.Host)) && (q.Port == 0 || q.Port == target.Port) {
			return at, target, nil
		}
	}
	return nil, intercept.Target{}, fmt.Errorf("%w: no %s listener is configured for it", ErrNothing, q.Kind)
}

// explainKeys tells of a flow that is to be decrypted what it needs, and what
// its profile makes of what is not there.
func (g *generation) explainKeys(at *place, target intercept.Target, q *Query, d *policy.Decision, e *Explanation) {
	if lowest, highest, ok := d.Profile.CheckVersions(q.Versions); !ok {
		e.Notes = append(e.Notes, fmt.Sprintf("the client offers TLS versions %#04x to %#04x, none of which the profile allows", lowest, highest))
		if d.Profile.BlocksUnsupportedVersion(q.Kind) {
			e.Action = policy.Block
			return
		}
		e.Action = policy.NoDecrypt
		return
	}
	if q.Kind == flow.Inbound {
		for i := range g.snapshot.Rules {
			if rule := &g.snapshot.Rules[i]; rule.Name == d.Rule {
				e.Certificates = rule.Certificates
			}
		}
		e.Keys = "one signature (or, with RSA key exchange, one decryption) by the server's own key for each handshake that resumes no session"
	} else {
		s := g.snapshot
		for _, name := range []string{s.ForwardTrust.RSA, s.ForwardTrust.ECDSA, s.ForwardUntrust.RSA, s.ForwardUntrust.ECDSA} {
			if name != "" {
				e.Certificates = append(e.Certificates, name)
			}
		}
		e.Keys = "one signature of a CA for each leaf that is not kept"
	}
	certifier := at.runtime.Certifier
	if stand, own := at.runtime.ByRule[d.Rule]; own {
		certifier = stand.Certifier
	}
	if certifier == nil {
		return
	}
	if err := certifier.Ready(target.Host); err != nil {
		e.Notes = append(e.Notes, "its keys cannot be used now: "+err.Error())
		if !d.Profile.BlocksHSMUnavailable(q.Kind) {
			e.Notes = append(e.Notes, "the profile has such flows relayed undecrypted")
		}
	}
}
