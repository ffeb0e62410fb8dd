package policy

import (
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// Compile makes the policy of a snapshot.
func Compile(snapshot *config.Snapshot) *Policy {
	p := &Policy{fallback: compileProfile(config.DefaultProfile())}
	for _, e := range snapshot.Exclusions {
		if e.Excluded {
			p.exclusions.add(e.Pattern)
		}
	}
	profiles := map[string]*Profile{}
	for _, r := range snapshot.Rules {
		profile := profiles[r.Profile.Name]
		if profile == nil {
			profile = compileProfile(r.Profile)
			profiles[r.Profile.Name] = profile
		}
		kind := flow.Forward
		if r.Type == config.InboundInspection {
			kind = flow.Inbound
		}
		// Block, should there ever be an action that this does not know.
		action := Block
		switch r.Action {
		case config.Decrypt:
			action = Decrypt
		case config.NoDecrypt:
			action = NoDecrypt
		}
		p.rules = append(p.rules, rule{
			name: r.Name, kind: kind, action: action,
			source: r.Source, destination: r.Destination, profile: profile,
		})
	}
	return p
}

func compileProfile(c config.Profile) *Profile {
	return &Profile{
		Name:              c.Name,
		BlockExpired:      c.BlockExpired,
		BlockUntrusted:    c.BlockUntrustedIssuer,
		BlockNameMismatch: c.BlockSNIMismatch,
		MinVersion:        uint16(c.MinVersion),
		MaxVersion:        uint16(c.MaxVersion),
		RSAKeyExchange:    c.RSAKeyExchange,
	}
}
