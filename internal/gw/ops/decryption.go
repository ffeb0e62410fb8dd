package ops

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/plane"
)

func decryptionCommands() []*Command {
	hits := []Arg{
		{Name: "vsys", Bare: true, Required: true, Kind: Choice, Choices: []Option{{"vsys1", "The virtual system"}}, Help: "The virtual system"},
		{Name: "rule-base", Required: true, Kind: Choice, Choices: []Option{{"decryption", "Decryption rules"}}, Help: "Which rules"},
		{Name: "all", Within: "rules", Kind: Flag, Help: "All of them"},
		{Name: "list", Within: "rules", Kind: List, Value: "name", Help: "Those of these names", known: knownRules},
	}
	return []*Command{
		{Words: "show system setting ssl-decrypt setting", Help: "Show how traffic is decrypted", run: showDecryptSettings},
		{Words: "show system setting ssl-decrypt certificate", Help: "Show the certificates that sign in servers' stead", run: showDecryptCertificates},
		{Words: "show system setting ssl-decrypt certificate-cache", Help: "Show the certificates that were made for servers", run: showCertCache},
		{Words: "show system setting ssl-decrypt exclude-cache", Help: "Show the names that are not decrypted", run: showExclusions},
		{Words: "show system setting ssl-decrypt session-cache", Help: "Count the TLS sessions with servers that are kept", run: showSessionCache},
		{Words: "show rule-hit-count vsys vsys-name", Help: "Show how often rules decided", Args: hits, run: showHits},
		{Words: "clear rule-hit-count vsys vsys-name", Help: "Begin to count anew", Args: hits, run: clearHits},
		{Words: "test decryption-policy-match", Help: "Say which rule would decide about a flow, and how", Args: []Arg{
			{Name: "source", Kind: Address, Required: true, Value: "address", Help: "The client's address"},
			{Name: "destination", Kind: Address, Value: "address", Help: "The server's address"},
			{Name: "destination-host", Value: "name", Help: "What the client asks for, where not the address"},
			{Name: "destination-port", Kind: Number, Min: 1, Max: 65535, Value: "1-65535", Help: "The port, 443 by default"},
			{Name: "sni", Value: "name", Help: "The name in the hello, where it is another"},
			{Name: "type", Kind: Choice, Choices: []Option{{"forward", "Through the proxy"}, {"inbound", "To a protected server"}}, Help: "The kind of flow, forward by default"},
		}, run: explain},
	}
}

func showDecryptSettings(ctx context.Context, in *invocation) (*Result, error) {
	s, err := in.m.DecryptSettings(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	list := []*Element{
		T("vsys", "vsys1"),
		T("forward-proxy-ready", yesNo(s.ForwardTrust.RSA != "" || s.ForwardTrust.ECDSA != "")),
		T("forward-trust-rsa", s.ForwardTrust.RSA), T("forward-trust-ecdsa", s.ForwardTrust.ECDSA),
		T("forward-untrust-rsa", s.ForwardUntrust.RSA), T("forward-untrust-ecdsa", s.ForwardUntrust.ECDSA),
		T("trusted-root-cas", strconv.Itoa(s.TrustedRoots)),
		T("exclusions", strconv.Itoa(s.Exclusions)),
		T("rules", strconv.Itoa(s.Rules)),
		T("profiles", strconv.Itoa(s.Profiles)),
		T("max-connections", strconv.Itoa(s.Limits.MaxConnections)),
	}
	return &Result{Elements: []*Element{E("setting", list...)}, Text: pairs(list...)}, nil
}

func showDecryptCertificates(ctx context.Context, in *invocation) (*Result, error) {
	s, err := in.m.DecryptSettings(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("certificates"), newGrid("Use", "Key", "Certificate")
	for _, c := range []struct{ use, key, name string }{
		{"forward-trust", "rsa", s.ForwardTrust.RSA}, {"forward-trust", "ecdsa", s.ForwardTrust.ECDSA},
		{"forward-untrust", "rsa", s.ForwardUntrust.RSA}, {"forward-untrust", "ecdsa", s.ForwardUntrust.ECDSA},
	} {
		if c.name != "" {
			e.Add(Entry(c.name, T("use", c.use), T("key", c.key)))
			g.row(c.use, c.key, c.name)
		}
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showCertCache(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.CertCache(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("certificate-cache"), newGrid("Name", "Signed by", "Trusted", "Serial", "Not after")
	for _, l := range list {
		e.Add(Entry(l.Name, T("authority", l.Authority), T("trusted", yesNo(l.Trusted)), T("serial", l.Serial),
			T("not-valid-after", stamp(l.NotAfter)), T("renew-at", stamp(l.Renew))))
		g.row(l.Name, l.Authority, yesNo(l.Trusted), l.Serial, stamp(l.NotAfter))
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showExclusions(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.ExcludeCache(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("exclude-cache"), newGrid("Name", "Excluded", "Description")
	for _, x := range list {
		e.Add(Entry(x.Pattern, T("exclude", yesNo(x.Excluded)), T("description", x.Description)))
		g.row(x.Pattern, yesNo(x.Excluded), x.Description)
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showSessionCache(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.SessionCache(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("session-cache"), newGrid("Listener", "Address", "Kept", "Limit")
	for _, s := range list {
		kept, limit := strconv.Itoa(s.Kept), strconv.Itoa(s.Limit)
		e.Add(Entry(s.Listener, T("address", s.Address), T("kept", kept), T("limit", limit)))
		g.row(s.Listener, s.Address, kept, limit)
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

// rulesOf are the names that are asked for; none for all.
func rulesOf(in *invocation) ([]string, error) {
	if !in.Has("all") && !in.Has("list") {
		return nil, refusal(mgmt.CodeInvalidCommand, "%s -> rules is missing, expected all or list",
			strings.ReplaceAll(in.Command.Words, " ", " -> "))
	}
	if in.Has("all") {
		return nil, nil
	}
	return in.Values("list"), nil
}

// showHits has the shape that clients of the API read: times in seconds since
// 1970, 0 for never.
func showHits(ctx context.Context, in *invocation) (*Result, error) {
	names, err := rulesOf(in)
	if err != nil {
		return nil, err
	}
	hits, err := in.m.RuleHits(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	rules, g := E("rules"), newGrid("Rule", "Hits", "First hit", "Last hit")
	for _, h := range hits {
		if !wanted(names, h) {
			continue
		}
		count := strconv.FormatUint(h.Count, 10)
		rules.Add(Entry(h.Rule, T("latest", "yes"), T("hit-count", count), T("last-hit-timestamp", unix(h.Last)),
			T("last-reset-timestamp", "0"), T("first-hit-timestamp", unix(h.First)),
			T("rule-creation-timestamp", "0"), T("rule-modification-timestamp", "0")))
		g.row(h.Rule, count, stamp(h.First), stamp(h.Last))
	}
	text := g.text()
	for _, h := range hits {
		if h.Rule == "" && len(names) == 0 {
			text += "No rule (" + string(h.Kind) + "): " + strconv.FormatUint(h.Count, 10) + "\n"
		}
	}
	return &Result{Text: text, Elements: []*Element{E("rule-hit-count", E("vsys", Entry("vsys1",
		E("rule-base", Entry("decryption", rules)))))}}, nil
}

func wanted(names []string, h plane.Hit) bool {
	if h.Rule == "" {
		return false
	}
	for _, n := range names {
		if n == h.Rule {
			return true
		}
	}
	return len(names) == 0
}

func unix(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.Unix(), 10)
}

func clearHits(ctx context.Context, in *invocation) (*Result, error) {
	names, err := rulesOf(in)
	if err != nil {
		return nil, err
	}
	n, err := in.m.ResetHits(ctx, in.caller, names...)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		return message("Successfully reset the hit counts of %d of %d rules", n, len(names)), nil
	}
	return message("Successfully reset all hit counts"), nil
}

func knownRules(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	hits, err := m.RuleHits(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, h := range hits {
		if h.Rule != "" && len(found) < 100 {
			found = append(found, Option{h.Rule, string(h.Kind)})
		}
	}
	return found
}

func explain(ctx context.Context, in *invocation) (*Result, error) {
	q := plane.Query{Host: in.Value("destination-host"), SNI: in.Value("sni"), Port: uint16(number(in, "destination-port"))}
	if in.Value("type") == "inbound" {
		q.Kind = "inbound"
	}
	var err error
	if q.Client, err = one(in, "source"); err != nil {
		return nil, err
	}
	if in.Has("destination") {
		if q.Server, err = one(in, "destination"); err != nil {
			return nil, err
		}
		if q.Host == "" && q.Kind == "" {
			q.Host = q.Server.String()
		}
	}
	e, err := in.m.Explain(ctx, in.caller, q)
	if err != nil {
		return nil, err
	}
	list := []*Element{
		T("rule", e.Rule), T("action", string(e.Action)), T("reason", e.Reason), T("profile", e.Profile),
		T("certificates", strings.Join(e.Certificates, ", ")), T("keys", e.Keys),
	}
	for _, n := range e.Notes {
		list = append(list, T("note", n))
	}
	return &Result{Elements: []*Element{E("rules", Entry(or(e.Rule, "(none)"), list[1:]...))}, Text: pairs(list...)}, nil
}

// one is an argument that is one address, not a prefix.
func one(in *invocation, name string) (netip.Addr, error) {
	a, err := netip.ParseAddr(in.Value(name))
	if err != nil {
		return a, refusal(mgmt.CodeInvalidCommand, "test -> decryption-policy-match -> %s: got %s, expected one IP address", name, shown(in.Value(name)))
	}
	return a, nil
}
