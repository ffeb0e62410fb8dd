package ops

import (
	"context"
	"fmt"
	"strings"
	"time"

	"moongate/internal/gw/mgmt"
)

func systemCommands() []*Command {
	return []*Command{
		{Words: "show clock", Help: "Show the gateway's time", run: showClock},
		{Words: "show system info", Help: "Show what this gateway is", run: showSystemInfo},
		{Words: "show plugins packages", Help: "Show plugins: there are none", run: showPlugins},
		{Words: "show high-availability state", Help: "Show whether gateways stand in for each other: they do not yet", run: showHA},
		{Words: "show high-availability all", Help: "Show whether gateways stand in for each other: they do not yet", run: showHA},
		{Words: "show admins", Help: "Show the administrators who are logged in",
			Args: []Arg{{Name: "all", Kind: Flag, Help: "Show every administrator's account"}}, run: showAdmins},
		{Words: "request password-hash", Help: "Make the hash of a password, for a configuration's phash",
			Args: []Arg{
				{Name: "password", Kind: Secret, Required: true, Prompt: "Enter password", Twice: true, Help: "The password"},
				{Name: "username", Help: "The account that it is for; changes nothing"},
			}, run: passwordHash},
	}
}

// APIVersion is the release of the API that clients choose their XML by; the
// gateway's own version is in moongate-version.
const APIVersion = "11.1.0"

func showClock(ctx context.Context, in *invocation) (*Result, error) {
	info, err := in.m.SystemInfo(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	text := info.Time.Format(time.UnixDate) + "\n"
	return &Result{Elements: []*Element{{Text: text}}, Text: text}, nil
}

func showSystemInfo(ctx context.Context, in *invocation) (*Result, error) {
	info, err := in.m.SystemInfo(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	state := "normal"
	if info.Trouble != "" {
		state = "degraded"
	}
	list := []*Element{
		T("hostname", info.Hostname),
		T("ip-address", info.Address),
		T("netmask", info.Netmask),
		T("ipv6-address", or(info.IPv6, "unknown")),
		T("time", info.Time.Format(time.ANSIC)),
		T("uptime", uptime(info.Uptime())),
		T("family", "vm"),
		T("model", info.Model),
		T("serial", info.Serial),
		T("sw-version", APIVersion),
		T("moongate-version", info.Version),
		T("app-version", "0-0"),
		T("av-version", "0"),
		T("threat-version", "0"),
		T("multi-vsys", "off"),
		T("operational-mode", "normal"),
		T("config-version", fmt.Sprint(info.Versions)),
		T("hsm-state", hsmState(info.HSM.Ready)),
		T("device-state", state),
	}
	if info.Trouble != "" {
		list = append(list, T("trouble", strings.ReplaceAll(info.Trouble, "\n", "; ")))
	}
	return &Result{Elements: []*Element{E("system", list...)}, Text: pairs(list...)}, nil
}

// VersionOf are the elements of the answer to type=version.
func VersionOf(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) ([]*Element, error) {
	info, err := m.SystemInfo(ctx, c)
	if err != nil {
		return nil, err
	}
	return []*Element{
		T("sw-version", APIVersion), T("multi-vsys", "off"), T("model", info.Model), T("serial", info.Serial),
		T("moongate-version", info.Version),
	}, nil
}

func hsmState(ready bool) string {
	if ready {
		return "up"
	}
	return "down"
}

func or(text, empty string) string {
	if text == "" {
		return empty
	}
	return text
}

func showPlugins(ctx context.Context, in *invocation) (*Result, error) {
	if _, err := in.m.SystemInfo(ctx, in.caller); err != nil {
		return nil, err
	}
	return &Result{Elements: []*Element{E("plugins")}, Text: "No plugins.\n"}, nil
}

func showHA(ctx context.Context, in *invocation) (*Result, error) {
	if _, err := in.m.SystemInfo(ctx, in.caller); err != nil {
		return nil, err
	}
	return &Result{Elements: []*Element{T("enabled", "no")}, Text: "High-Availability not enabled.\n"}, nil
}

func showAdmins(ctx context.Context, in *invocation) (*Result, error) {
	if in.Has("all") {
		return allAdmins(ctx, in)
	}
	list, err := in.m.WhoIsLoggedIn(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	admins, g := E("admins"), newGrid("Admin", "From", "Type", "Session-start", "Idle-for")
	for _, s := range list {
		from := "console"
		if s.From.IsValid() {
			from = s.From.String()
		}
		idle := s.Active.Sub(s.Since).Round(time.Second)
		if info, err := in.m.SystemInfo(ctx, in.caller); err == nil {
			idle = info.Time.Sub(s.Active).Round(time.Second)
		}
		way := strings.ToUpper(string(s.Via))
		since := s.Since.Format("01/02 15:04:05")
		wait := fmt.Sprintf("%02d:%02d:%02ds", int(idle.Hours()), int(idle.Minutes())%60, int(idle.Seconds())%60)
		admins.Add(E("entry", T("admin", s.Name), T("from", from), T("type", way), T("session-start", since),
			T("idle-for", wait), T("role", string(s.Role))))
		g.row(s.Name, from, way, since, wait)
	}
	return &Result{Elements: []*Element{admins}, Text: g.text()}, nil
}

// allAdmins lists the accounts of the running configuration.
func allAdmins(ctx context.Context, in *invocation) (*Result, error) {
	accounts, err := in.m.Get(ctx, in.caller, mgmt.Running, "/config/mgt-config/users/entry")
	if err != nil {
		return nil, err
	}
	e, g := E("admins"), newGrid("Admin", "Role")
	for _, a := range accounts {
		role := ""
		for _, p := range a.Children {
			if p.Name != "permissions" {
				continue
			}
			for _, based := range p.Children {
				for _, r := range based.Children {
					role = r.Name
				}
			}
		}
		e.Add(Entry(a.Entry, T("role", role)))
		g.row(a.Entry, role)
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}
