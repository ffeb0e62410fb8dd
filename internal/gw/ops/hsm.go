package ops

import (
	"context"
	"fmt"
	"strings"
	"time"

	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/mgmt"
)

func hsmCommands() []*Command {
	server := Arg{Name: "server", Required: true, Value: "name", Help: "The module name of an HSM server of the running configuration", known: knownServers}
	any := server
	any.Required, any.Help = false, "Only this server's; all by default"
	return []*Command{
		{Words: "show hsm state", Help: "Show each HSM server: green or red, where it fails, why, and what to do", run: showHSMState},
		{Words: "show hsm info", Help: "Show each HSM server with every step on the way to its keys, its certificates and the gateway's own", run: showHSMInfo},
		{Words: "show hsm servers", Help: "Show the HSM servers with their addresses, partitions and versions", run: showHSMServers},
		{Words: "show hsm slots", Help: "Show the partitions that the gateway uses, and the group's", run: showHSMSlots},
		{Words: "show hsm client-address", Help: "Show the address that HSM servers see the gateway come from", run: showClientAddress},
		{Words: "show hsm client-certificate", Help: "Show the gateway's certificate, for `client register` on an HSM; scp fetches it, too", Args: []Arg{any}, run: showClientCertificate},
		{Words: "request hsm host-key", Help: "Ask an HSM server for its SSH host key, to compare with what the HSM prints", Args: []Arg{server}, run: hostKey},
		{Words: "request hsm authenticate", Help: "Make the gateway and an HSM server known to each other with the HSM administrator's password", Args: []Arg{server,
			{Name: "fingerprint", Value: "SHA256:...", Help: "That of the HSM's SSH host key, as request hsm host-key shows it; it may be left out when it was confirmed before"},
			{Name: "user", Help: "The HSM's administrator, admin by default"},
			{Name: "register", Kind: Choice, Choices: yesOrNo, Help: "Whether the HSM registers the gateway as a client, too; no by default"},
			{Name: "client-name", Value: "name", Help: "By which it is registered; the gateway's host name by default"},
			{Name: "replace", Kind: Choice, Choices: yesOrNo, Help: "Whether an earlier client of that name is removed first; no by default"},
			{Name: "partition", Help: "The partition that is assigned to it"},
			{Name: "so-password", Kind: Secret, Prompt: "Enter the HSM Security Officer's password", Help: "Where the HSM asks for it: sysconf forceSOLogin"},
			{Name: "password", Kind: Secret, Required: true, Prompt: "Enter HSM Administrator Password", Help: "The HSM administrator's password; it is used once and not kept"},
		}, run: authenticate},
		{Words: "request hsm server-certificate import", Help: "Import and install an HSM server's certificate, its server.pem, from a file that you brought by scp", Args: []Arg{server,
			{Name: "file", Required: true, Help: "The file's name", known: knownFiles}}, run: importServerCertificate},
		{Words: "request hsm server-certificate forget", Help: "Stop accepting one of several certificates of an HSM server", Args: []Arg{server,
			{Name: "fingerprint", Required: true, Help: "Its SHA-256, as show hsm info has it"}}, run: forgetServerCertificate},
		{Words: "request hsm client-certificate renew", Help: "Make the gateway's next certificate, which is used from when an HSM accepts it", run: renewClientCertificate},
		{Words: "request hsm login", Help: "Give the gateway the password of its partition", Args: []Arg{any,
			{Name: "role", Kind: Choice, Help: "As which it logs in, crypto-officer by default", Choices: []Option{
				{"crypto-officer", "Makes and uses keys"}, {"crypto-user", "Uses keys alone: enough for traffic"}}},
			{Name: "beside", Kind: Choice, Choices: yesOrNo, Help: "Whether the Crypto Officer's password is kept beside the Crypto User's, for what changes keys; no by default"},
			{Name: "partition", Help: "The partition's label, where several are assigned"},
			{Name: "keep", Kind: Choice, Choices: yesOrNo, Help: "Whether the password is kept, sealed, so that the gateway logs in by itself after a restart; yes by default"},
			{Name: "password", Kind: Secret, Required: true, Prompt: "Enter partition password", Help: "The partition's password"},
		}, run: hsmLogin},
		{Words: "request hsm logout", Help: "Have the gateway forget a partition's password", Args: []Arg{any},
			Caution: "Handshakes that need a key of the HSM fail until a password is given again.", run: hsmLogout},
		{Words: "request hsm reset", Help: "End the gateway's sessions with its HSMs, and make new ones",
			Caution: "Handshakes that need a key of the HSM wait until the sessions are back.", run: hsmReset},
	}
}

func knownServers(ctx context.Context, m *mgmt.Manager, c mgmt.Caller) []Option {
	status, err := m.HSMStatus(ctx, c)
	if err != nil {
		return nil // the command itself will say why
	}
	var found []Option
	for _, s := range status.Servers {
		found = append(found, Option{s.Name, s.Address})
	}
	return found
}

// color is the light of a server: green while it is authenticated.
func color(s *hsmlink.ServerStatus) hsmlink.Level {
	switch {
	case s.Problem != nil:
		return hsmlink.Red
	case s.State == hsmlink.StateAuthenticated:
		return hsmlink.Green
	}
	return hsmlink.Waiting
}

// serverElement is a server with its steps.
func serverElement(s *hsmlink.ServerStatus) *Element {
	e := Entry(s.Name, T("address", s.Address), T("status", string(color(s))), T("serial-number", s.Serial), T("partition", s.Partition),
		T("module-state", s.State), T("since", stamp(s.Since)), T("serving", yesNo(s.Serving)))
	if s.Problem != nil {
		e.Add(T("code", string(s.Problem.Code)), T("reason", s.Problem.Reason), T("fix", s.Problem.Fix))
	}
	stages := E("stages")
	for _, stage := range s.Stages {
		step := Entry(string(stage.Name), T("status", string(stage.Level)), T("since", stamp(stage.Since)))
		if stage.Detail != "" {
			step.Add(T("detail", stage.Detail))
		}
		if stage.Problem != nil {
			step.Add(T("code", string(stage.Problem.Code)), T("reason", stage.Problem.Reason), T("fix", stage.Problem.Fix))
		}
		stages.Add(step)
	}
	e.Add(stages)
	for _, missing := range []struct {
		name string
		list []string
	}{{"missing-keys", s.MissingKeys}, {"missing-wrapping-keys", s.MissingWrapping}} {
		if len(missing.list) > 0 {
			list := E(missing.name)
			for _, name := range missing.list {
				list.Add(T("member", name))
			}
			e.Add(list)
		}
	}
	return e
}

// noHSM is what is shown of a gateway without one.
const noHSM = "state: down\ncause: no HSM is configured: set deviceconfig system hsm-settings provider\n"

func showHSMState(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	root := E("hsm", T("provider", or(string(status.Provider), "none")), T("state", hsmState(status.Ready())), T("age", age(status)))
	servers, g := E("servers"), newGrid("Module", "Address", "Status", "Serial number", "Partition", "Module state", "Since")
	var below strings.Builder
	for i := range status.Servers {
		s := &status.Servers[i]
		servers.Add(serverElement(s))
		g.row(s.Name, s.Address, string(color(s)), s.Serial, s.Partition, s.State, stamp(s.Since))
		explainTo(&below, s)
	}
	root.Add(servers)
	if status.Group != nil {
		root.Add(groupElement(status))
		groupText(&below, status)
	}
	if len(status.Servers) == 0 {
		return &Result{Elements: []*Element{root}, Text: noHSM}, nil
	}
	head := pairs(T("state", hsmState(status.Ready())), T("provider", string(status.Provider)), T("age", age(status)))
	return &Result{Elements: []*Element{root}, Text: head + "\n" + g.text() + below.String()}, nil
}

func age(s hsmlink.Status) string { return s.Age(time.Now()).Round(100 * time.Millisecond).String() }

// explainTo writes why a server is red, and what to do.
func explainTo(b *strings.Builder, s *hsmlink.ServerStatus) {
	if s.Problem != nil {
		fmt.Fprintf(b, "\n%s fails at %s: %s\n", s.Name, s.State, s.Problem.Reason)
		if s.Problem.Fix != "" {
			fmt.Fprintf(b, "  fix: %s\n", s.Problem.Fix)
		}
	}
	if len(s.MissingKeys) > 0 {
		fmt.Fprintf(b, "\n%s lacks the private keys of: %s\n", s.Name, strings.Join(s.MissingKeys, ", "))
	}
	if len(s.MissingWrapping) > 0 {
		fmt.Fprintf(b, "\n%s lacks wrapping keys of the master key: %s\n  fix: request hsm ha synchronize password\n", s.Name, strings.Join(s.MissingWrapping, ", "))
	}
}

func showHSMInfo(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	root := E("hsm", T("provider", or(string(status.Provider), "none")), T("age", age(status)))
	var b strings.Builder
	fmt.Fprintf(&b, "provider: %s\n", or(string(status.Provider), "none"))
	if at := status.Source; at.Interface != "" || at.Address != "" {
		root.Add(E("source", T("interface", at.Interface), T("address", at.Address), T("dynamic", yesNo(at.Dynamic))))
		fmt.Fprintf(&b, "source: %s %s\n", at.Interface, at.Address)
		if at.Problem != nil {
			fmt.Fprintf(&b, "  %s\n", at.Problem)
		}
	}
	for i := range status.Servers {
		s := &status.Servers[i]
		e := serverElement(s)
		e.Add(T("hsm-serial-number", s.HSMSerial), T("software", s.Software), T("protocol", fmt.Sprint(s.Protocol)), T("role", s.Role), T("ssh-host-key", s.HostKey))
		pins := E("server-certificates")
		fmt.Fprintf(&b, "\n%s (%s): %s\n", s.Name, s.Address, s.State)
		fmt.Fprintf(&b, "  serial number: %s, partition: %s, logged in as: %s\n", or(s.Serial, "-"), or(s.Partition, "-"), or(s.Role, "-"))
		fmt.Fprintf(&b, "  HSM: %s, software %s, protocol %d\n", or(s.HSMSerial, "-"), or(s.Software, "-"), s.Protocol)
		for _, pin := range s.Pins {
			pins.Add(Entry(pin.Fingerprint, T("subject", pin.Subject), T("not-valid-after", stamp(pin.NotAfter)), T("until", stampOrNone(pin.Until))))
			fmt.Fprintf(&b, "  server certificate: %s", pin.Fingerprint)
			if !pin.Until.IsZero() {
				fmt.Fprintf(&b, " (the former one, accepted until %s)", stamp(pin.Until))
			}
			b.WriteString("\n")
		}
		e.Add(pins)
		root.Add(e)
		g := newGrid("Step", "Status", "Since", "Detail")
		for _, stage := range s.Stages {
			detail := stage.Detail
			if stage.Problem != nil {
				detail = stage.Problem.String()
			}
			g.row(string(stage.Name), string(stage.Level), stampOrNone(stage.Since), detail)
		}
		for line := range strings.Lines(g.text()) {
			b.WriteString("  " + line)
		}
		explainTo(&b, s)
	}
	if status.Group != nil {
		root.Add(groupElement(status))
		groupText(&b, status)
	}
	own := E("client-certificates")
	for _, c := range status.Client {
		own.Add(Entry(c.Fingerprint, T("subject", c.Subject), T("not-valid-after", stamp(c.NotAfter)), T("next", yesNo(c.Next)), T("accepted-by", strings.Join(c.AcceptedBy, ", "))))
		kind := "client certificate"
		if c.Next {
			kind = "next client certificate"
		}
		fmt.Fprintf(&b, "\n%s: %s, accepted by: %s\n", kind, c.Fingerprint, or(strings.Join(c.AcceptedBy, ", "), "none yet"))
	}
	root.Add(own)
	return &Result{Elements: []*Element{root}, Text: b.String()}, nil
}

func stampOrNone(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return stamp(t)
}

func showHSMServers(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("servers"), newGrid("Module", "Address", "Partition", "Role", "HSM", "Software", "Protocol")
	for i := range status.Servers {
		s := &status.Servers[i]
		e.Add(Entry(s.Name, T("address", s.Address), T("partition", s.Partition), T("role", s.Role), T("hsm-serial-number", s.HSMSerial),
			T("software", s.Software), T("protocol", fmt.Sprint(s.Protocol))))
		g.row(s.Name, s.Address, s.Partition, s.Role, s.HSMSerial, s.Software, fmt.Sprint(s.Protocol))
	}
	if len(status.Servers) == 0 {
		return &Result{Elements: []*Element{e}, Text: noHSM}, nil
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showHSMSlots(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("slots"), newGrid("Slot", "Label", "Serial number", "Server", "Use")
	slot := 0
	add := func(label, serial, server, use string) {
		e.Add(Entry(fmt.Sprint(slot), T("label", label), T("serial-number", serial), T("server", server), T("use", use)))
		g.row(fmt.Sprint(slot), label, serial, server, use)
		slot++
	}
	if group := status.Group; group != nil && group.Record.Epoch > 0 {
		add(group.Record.Label, group.Record.Serial, "-", "HA group, "+string(group.State))
	}
	for i := range status.Servers {
		if s := &status.Servers[i]; s.Serial != "" {
			use := "not used"
			if s.Serving {
				use = "used"
			}
			add(s.Partition, s.Serial, s.Name, use)
		}
	}
	if slot == 0 {
		return &Result{Elements: []*Element{e}, Text: "No slots: no HSM server is authenticated. See show hsm state\n"}, nil
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showClientAddress(ctx context.Context, in *invocation) (*Result, error) {
	status, err := in.m.HSMStatus(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	e, g := E("client-address"), newGrid("Server", "Address", "Certificate's file")
	for i := range status.Servers {
		file, err := in.m.HSMClientCertificate(ctx, in.caller, status.Servers[i].Name)
		if err != nil {
			return nil, err
		}
		e.Add(Entry(status.Servers[i].Name, T("address", file.Address), T("file", file.Name)))
		g.row(status.Servers[i].Name, file.Address, file.Name)
	}
	if len(status.Servers) == 0 {
		return &Result{Elements: []*Element{e}, Text: noHSM}, nil
	}
	return &Result{Elements: []*Element{e}, Text: g.text()}, nil
}

func showClientCertificate(ctx context.Context, in *invocation) (*Result, error) {
	server := in.Value("server")
	if server == "" {
		status, err := in.m.HSMStatus(ctx, in.caller)
		if err != nil {
			return nil, err
		}
		if len(status.Servers) == 0 {
			return nil, refusal(mgmt.CodeNotPossible, "no HSM is configured: set deviceconfig system hsm-settings provider")
		}
		server = status.Servers[0].Name
	}
	file, err := in.m.HSMClientCertificate(ctx, in.caller, server)
	if err != nil {
		return nil, err
	}
	e := E("client-certificate", T("file", file.Name), T("address", file.Address), T("fingerprint", file.Fingerprint), T("certificate", string(file.PEM)))
	return &Result{Elements: []*Element{e}, Text: fmt.Sprintf("file: %s\nfingerprint: %s\n%s", file.Name, file.Fingerprint, file.PEM)}, nil
}

func hostKey(ctx context.Context, in *invocation) (*Result, error) {
	server := in.Value("server")
	key, err := in.m.HSMHostKey(ctx, in.caller, server)
	if err != nil {
		return nil, err
	}
	state := "new"
	switch {
	case key.Known:
		state = "the one that was confirmed before"
	case key.Changed:
		state = "CHANGED: another one was confirmed before"
	}
	list := []*Element{T("server", server), T("algorithm", key.Algorithm), T("fingerprint", key.Fingerprint), T("state", state)}
	return &Result{Elements: []*Element{E("host-key", list...)}, Text: pairs(list...) +
		"Compare it with `sysconf fingerprint ssh` on the HSM, then give it: request hsm authenticate server " + Quote(server) + " fingerprint " + key.Fingerprint + "\n"}, nil
}

func authenticate(ctx context.Context, in *invocation) (*Result, error) {
	r := hsmlink.AuthenticateRequest{
		Fingerprint: in.Value("fingerprint"), User: in.Value("user"), Password: []byte(in.Value("password")), Register: in.Value("register") == "yes",
		ClientName: in.Value("client-name"), Replace: in.Value("replace") == "yes", Partition: in.Value("partition"), Officer: []byte(in.Value("so-password")),
	}
	defer clear(r.Password)
	defer clear(r.Officer)
	server := in.Value("server")
	steps := E("steps")
	err := in.m.HSMAuthenticate(ctx, in.caller, server, r, func(s hsmlink.Step) {
		if s.Err == nil {
			in.progress(s.Name + ": " + or(s.Detail, "done"))
			steps.Add(Entry(s.Name, T("detail", s.Detail)))
		}
	})
	if err != nil {
		return nil, err
	}
	done := fmt.Sprintf("Authenticated with HSM server %s", server)
	return &Result{Elements: []*Element{{Text: done}, steps}, Text: done + "\n"}, nil
}

func importServerCertificate(ctx context.Context, in *invocation) (*Result, error) {
	data, err := in.m.File(ctx, in.caller, in.Value("file"))
	if err != nil {
		return nil, err
	}
	server := in.Value("server")
	done, err := in.m.HSMImportServerCertificate(ctx, in.caller, server, data)
	if err != nil {
		return nil, err
	}
	return Imported(server, done), nil
}

// Imported says what became of a server certificate that was imported.
func Imported(server string, done hsmlink.Imported) *Result {
	text := fmt.Sprintf("Successfully imported the certificate of HSM server %s: SHA-256 %s", server, done.Pin.Fingerprint)
	if done.Unchanged {
		text += " (it was there already)"
	}
	for _, old := range done.Old {
		text += fmt.Sprintf("\nThe former one, %s, is accepted until %s", old.Fingerprint, stampOrNone(old.Until))
	}
	return said("%s", text)
}

func forgetServerCertificate(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.HSMForgetServerCertificate(ctx, in.caller, in.Value("server"), in.Value("fingerprint")); err != nil {
		return nil, err
	}
	return message("HSM server %s is not accepted with that certificate any more", in.Value("server")), nil
}

func renewClientCertificate(ctx context.Context, in *invocation) (*Result, error) {
	next, err := in.m.HSMRenewClientCertificate(ctx, in.caller)
	if err != nil {
		return nil, err
	}
	return message("The next client certificate is made: SHA-256 %s. Register it on each HSM under a second name; it is used from then on", next.Fingerprint), nil
}

func hsmLogin(ctx context.Context, in *invocation) (*Result, error) {
	r := hsmlink.LoginRequest{
		Server: in.Value("server"), Role: hsmlink.CryptoOfficer, Beside: in.Value("beside") == "yes", Password: []byte(in.Value("password")),
		Partition: in.Value("partition"), Keep: in.Value("keep") != "no",
	}
	if in.Value("role") == "crypto-user" {
		r.Role = hsmlink.CryptoUser
	}
	defer clear(r.Password)
	list, err := in.m.HSMLogin(ctx, in.caller, r)
	if err != nil {
		return nil, err
	}
	e := E("login")
	var b strings.Builder
	for _, s := range list {
		if s.Err != nil {
			e.Add(Entry(s.Server, T("result", "failed"), T("reason", s.Err.Error())))
			fmt.Fprintf(&b, "%s: %v\n", s.Server, s.Err)
			continue
		}
		if s.Note != "" { // what else was done: of the group
			e.Add(Entry(s.Server, T("result", "changed"), T("detail", s.Note)))
			fmt.Fprintf(&b, "%s: %s\n", s.Server, s.Note)
			continue
		}
		e.Add(Entry(s.Server, T("result", "authenticated"), T("partition", s.Partition.Label), T("serial-number", s.Partition.Serial)))
		fmt.Fprintf(&b, "%s: authenticated to partition %s, serial number %s\n", s.Server, s.Partition.Label, s.Partition.Serial)
	}
	return &Result{Elements: []*Element{e}, Text: b.String()}, nil
}

func hsmLogout(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.HSMLogout(ctx, in.caller, in.Value("server")); err != nil {
		return nil, err
	}
	return message("The gateway has forgotten the partition's password"), nil
}

func hsmReset(ctx context.Context, in *invocation) (*Result, error) {
	if err := in.m.HSMReset(ctx, in.caller); err != nil {
		return nil, err
	}
	return message("The sessions with the HSM were reset"), nil
}
