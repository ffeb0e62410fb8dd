package ops

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/plane"
)

func sessionCommands() []*Command {
	filter := []Arg{
		{Name: "ssl-decrypt", Within: "filter", Kind: Choice, Choices: yesOrNo, Help: "Only those that are decrypted, or are not"},
		{Name: "source", Within: "filter", Kind: Address, Value: "address", Help: "Only clients of this address or prefix"},
		{Name: "destination", Within: "filter", Kind: Address, Value: "address", Help: "Only servers of this address or prefix"},
		{Name: "destination-host", Within: "filter", Value: "name", Help: "Only those to this host"},
		{Name: "rule", Within: "filter", Value: "name", Help: "Only those that this rule decided"},
		{Name: "type", Within: "filter", Kind: Choice, Choices: []Option{{"forward", "Clients of the proxy"}, {"inbound", "Visitors of protected servers"}}, Help: "Only those of this kind"},
	}
	return []*Command{
		{Words: "show session all", Help: "Show the sessions under way", Args: filter, run: showSessions},
		{Words: "show session id", Help: "Show one session", Args: []Arg{
			{Name: "id", Bare: true, Required: true, Kind: Number, Min: 1, Value: "number", Help: "The session's number", known: knownSessions},
		}, run: showSession},
		{Words: "show session info", Help: "Count the sessions under way", run: sessionInfo},
		{Words: "clear session all", Help: "End all inspected sessions and the sessions with the HSM",
			Caution: "All inspected sessions end, and the sessions with the HSM are made anew. New handshakes wait meanwhile.",
			run:     clearSessions},
		{Words: "clear session id", Help: "End one session", Args: []Arg{
			{Name: "id", Bare: true, Required: true, Kind: Number, Min: 1, Value: "number", Help: "The session's number", known: knownSessions},
		}, run: clearSession},
		{Words: "show counter global", Help: "Show the data plane's counters", Args: []Arg{
			{Name: "name", Value: "name", Help: "Only those whose names begin so"},
		}, run: showCounters},
	}
}

var yesOrNo = []Option{{"yes", ""}, {"no", ""}}

// addressOf is the address of address:port; invalid where there is none.
func addressOf(s string) netip.Addr {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// prefixOf reads what an Address argument takes.
func prefixOf(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked()
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen())
}

func (in *invocation) keep(s *plane.Session) bool {
	if v := in.Value("ssl-decrypt"); v != "" && s.Decrypted != (v == "yes") {
		return false
	}
	if v := in.Value("source"); v != "" && !prefixOf(v).Contains(addressOf(s.Client)) {
		return false
	}
	if v := in.Value("destination"); v != "" && !prefixOf(v).Contains(addressOf(s.Server)) {
		return false
	}
	if v := in.Value("destination-host"); v != "" && !strings.EqualFold(s.SNI, v) && !strings.EqualFold(hostOf(s.Target), v) {
		return false
	}
	if v := in.Value("rule"); v != "" && s.Rule != v {
		return false
	}
	if v := in.Value("type"); v != "" && string(s.Kind) != v {
		return false
	}
	return true
}

func hostOf(target string) string {
	if i := strings.LastIndexByte(target, ':'); i > 0 {
		return strings.Trim(target[:i], "[]")
	}
	return target
}

func showSessions(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.Sessions(ctx, in.caller, in.keep)
	if err != nil {
		return nil, err
	}
	r, g := &Result{}, newGrid("ID", "Type", "State", "Client", "Target", "Server", "Decrypt", "Rule", "Age", "Bytes")
	for i := range list {
		s := &list[i]
		r.Elements = append(r.Elements, E("entry", sessionFields(s)...))
		g.row(fmt.Sprint(s.ID), string(s.Kind), sessionState(s), s.Client, s.Target, s.Server, yesNo(s.Decrypted), s.Rule,
			time.Since(s.Start).Round(time.Second).String(), strconv.FormatInt(s.BytesUp+s.BytesDown, 10))
	}
	r.Text = g.text()
	if len(list) == 0 {
		r.Text = "No Active Sessions\n"
	}
	return r, nil
}

// sessionState is INIT before the decision, ACTIVE afterwards.
func sessionState(s *plane.Session) string {
	if s.Action == "" {
		return "INIT"
	}
	return "ACTIVE"
}

func sessionFields(s *plane.Session) []*Element {
	source, destination := s.Client, s.Server
	port := func(ap string) string { _, p, _ := cutLast(ap); return p }
	return []*Element{
		T("idx", fmt.Sprint(s.ID)),
		T("vsys", "vsys1"),
		T("application", "ssl"),
		T("state", sessionState(s)),
		T("type", strings.ToUpper(string(s.Kind))),
		T("source", hostOf(source)), T("sport", port(source)),
		T("dst", hostOf(destination)), T("dport", port(destination)),
		T("target", s.Target), T("sni", s.SNI),
		T("proto", "6"),
		T("ssl-decrypt", yesNo(s.Decrypted)), T("decrypt-mirror", "no"),
		T("action", s.Action), T("security-rule", s.Rule), T("reason", s.Reason), T("bypass", string(s.Bypass)),
		T("tls-version", s.Version),
		T("start-time", stamp(s.Start)),
		T("total-byte-count", strconv.FormatInt(s.BytesUp+s.BytesDown, 10)),
		T("c2s-bytes", strconv.FormatInt(s.BytesUp, 10)), T("s2c-bytes", strconv.FormatInt(s.BytesDown, 10)),
		T("log-id", s.Flow),
	}
}

func cutLast(ap string) (before, after string, found bool) {
	i := strings.LastIndexByte(ap, ':')
	if i < 0 {
		return ap, "", false
	}
	return ap[:i], ap[i+1:], true
}

func showSession(ctx context.Context, in *invocation) (*Result, error) {
	id := uint64(number(in, "id"))
	list, err := in.m.Sessions(ctx, in.caller, func(s *plane.Session) bool { return s.ID == id })
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, refusal(mgmt.CodeNotPresent, "session %d is not there, or not any more", id)
	}
	fields := sessionFields(&list[0])
	return &Result{Elements: fields, Text: pairs(fields...)}, nil
}

func sessionInfo(ctx context.Context, in *invocation) (*Result, error) {
	info, err := in.m.SessionInfo(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	list := []*Element{
		T("num-max", strconv.Itoa(info.Limit)),
		T("num-active", strconv.Itoa(info.Active)),
		T("num-tcp", strconv.Itoa(info.Active)),
		T("num-udp", "0"),
		T("num-ssl-decrypt", strconv.Itoa(info.Decrypted)),
	}
	return &Result{Elements: list, Text: pairs(list...)}, nil
}

func clearSessions(ctx context.Context, in *invocation) (*Result, error) {
	done, err := in.m.ClearSessions(ctx, in.caller, in.progress)
	if err != nil {
		return nil, err
	}
	list := []*Element{
		T("sessions-ended", strconv.Itoa(done.Sessions)),
		T("sessions-remaining", strconv.Itoa(done.Remaining)),
		T("handshakes-waited", strconv.Itoa(done.Waited)),
		T("handshakes-refused", strconv.Itoa(done.Refused)),
		T("hsm-state", hsmState(done.HSM.Ready)),
		T("hsm-down", done.Down.Round(time.Millisecond).String()),
		T("took", done.Took.Round(time.Millisecond).String()),
	}
	return &Result{Elements: []*Element{{Text: "All sessions cleared"}, E("cleared", list...)},
		Text: pairs(list...) + "All sessions cleared\n"}, nil
}

func clearSession(ctx context.Context, in *invocation) (*Result, error) {
	id := uint64(number(in, "id"))
	if err := in.m.EndSession(ctx, in.caller, id); err != nil {
		return nil, err
	}
	return message("session %d cleared", id), nil
}

func knownSessions(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	list, err := m.Sessions(ctx, c, nil)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for i := range list[:min(len(list), 20)] {
		found = append(found, Option{fmt.Sprint(list[i].ID), list[i].Client + " to " + list[i].Target})
	}
	return found
}

func showCounters(ctx context.Context, in *invocation) (*Result, error) {
	list, err := in.m.Counters(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	counters, g := E("counters"), newGrid("Name", "Value", "Description")
	for _, c := range list {
		if !strings.HasPrefix(c.Name, in.Value("name")) {
			continue
		}
		value := strconv.FormatUint(c.Value, 10)
		counters.Add(E("entry", T("name", c.Name), T("value", value), T("desc", c.Description)))
		g.row(c.Name, value, c.Description)
	}
	return &Result{Elements: []*Element{E("global", counters)}, Text: g.text()}, nil
}
