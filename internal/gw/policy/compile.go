package policy

import (
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// Compile makes the policy of a snapshot.
func Compile(snapshot *config.Snapshot) *Policy {
	p := &Policy{fallback: compileProfile(config.DefaultProfile()), rules: make([]rule, 0, len(snapshot.Rules))}
	for _, e := range snapshot.Exclusions {
		if e.Excluded {
			p.exclusions.add(e.Pattern)
		}
	}
	profiles := map[string]*Profile{}
	for i := range snapshot.Rules {
		r := &snapshot.Rules[i]
		profile := profiles[r.Profile.Name]
		if profile == nil {
			profile = compileProfile(r.Profile)
			profiles[r.Profile.Name] = profile
		}
		p.rules = append(p.rules, compileRule(r, profile))
	}
	p.forward, p.inbound = newIndex(p.rules, flow.Forward), newIndex(p.rules, flow.Inbound)
	return p
}

func compileRule(r *config.Rule, profile *Profile) rule {
	out := rule{
		name: r.Name, kind: flow.Forward, profile: profile,
		// Block, should there ever be an action that this does not know.
		action: Block,
		source: r.Source, destination: r.Destination,
		negateSource: r.NegateSource, negateDestination: r.NegateDestination,
		silence: Silence{Success: !r.LogSuccess, Failure: !r.LogFail},
	}
	if r.Type == config.InboundInspection {
		out.kind = flow.Inbound
	}
	switch r.Action {
	case config.Decrypt:
		out.action = Decrypt
	case config.NoDecrypt:
		out.action = NoDecrypt
	}
	if len(r.Hosts) > 0 {
		out.hosts = &patterns{}
		for _, pattern := range r.Hosts {
			out.hosts.add(pattern)
		}
	}
	if len(r.Services) > 0 {
		out.ports = []portRange{} // not nil: of UDP services alone, none matches
		for _, s := range r.Services {
			if s.Protocol != config.TCP {
				continue
			}
			for _, ports := range s.Ports {
				out.ports = append(out.ports, portRange{ports.First, ports.Last})
			}
		}
	}
	return out
}

func compileProfile(c config.Profile) *Profile {
	p := &Profile{
		Name:              c.Name,
		BlockExpired:      c.BlockExpired,
		BlockUntrusted:    c.BlockUntrustedIssuer,
		BlockNameMismatch: c.BlockSNIMismatch,
		MinVersion:        uint16(c.MinVersion),
		MaxVersion:        uint16(c.MaxVersion),
		RSAKeyExchange:    c.RSAKeyExchange,
		NoECDHE:           !c.ECDHEKeyExchange,
		Forward:           Relaxed{HSMUnavailable: !c.BlockHSMUnavailable, UnsupportedVersion: !c.BlockUnsupportedVersion},
		Inbound:           Relaxed{HSMUnavailable: !c.InboundBlockHSMUnavailable, UnsupportedVersion: !c.InboundBlockUnsupportedVersion},
	}
	if p.NoECDHE && !p.RSAKeyExchange {
		p.MinVersion = max(p.MinVersion, TLS13) // TLS 1.2 is left without any
	}
	return p
}
