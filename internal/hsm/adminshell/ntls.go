package adminshell

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"

	"moongate/internal/shell"
)

var ntlsCommands = []command{
	{words: "ntls show", roles: lookers, options: []option{optJSON}, needs: nothing, run: (*Shell).ntlsShow,
		help: "The client protocol: address, server certificate."},
	{words: "ntls bind", roles: operators, needs: nothing, control: true, run: (*Shell).ntlsBind,
		options: []option{{name: "address", value: "ADDRESS:PORT", required: true, operand: true, help: "where clients shall be served; an IPv6 address in square brackets"}, optForce},
		help:    "Serve clients at another address of this machine, now and after the next start. Ends their connections."},
	{words: "ntls ipcheck enable", roles: operators, run: ipcheck(true),
		help: "A client must come from the address it is registered for."},
	{words: "ntls ipcheck disable", roles: operators, run: ipcheck(false),
		help: "A client may come from anywhere."},
	{words: "ntls ipcheck show", roles: lookers, options: []option{optJSON}, run: (*Shell).ipcheckShow,
		help: "Whether the client's address is checked."},

	{words: "service list", roles: lookers, options: []option{optJSON}, needs: nothing, control: true, run: (*Shell).serviceList,
		help: "What the HSM serves, and where."},
	{words: "service status", roles: lookers, options: []option{optService, optJSON}, needs: nothing, control: true, run: (*Shell).serviceStatus,
		help: "Whether one service runs."},
	{words: "service restart", roles: operators, needs: nothing, control: true, run: (*Shell).serviceRestart,
		options: []option{{name: "service", value: "ntls", required: true, operand: true, help: "the client port", values: choices("ntls", "the client port")}, optForce},
		help:    "Open the client port anew, with the certificate that is on disk. Ends the clients' connections."},
}

var optService = option{name: "service", value: "SERVICE", required: true, operand: true, help: "ntls, ssh, metrics or syslog", values: serviceNames}

// listening is where clients are served.
func (s *Shell) listening() string {
	if s.appliance.Control != nil {
		for _, service := range s.appliance.Control.Services() {
			if service.Name == "ntls" && service.Address != "" {
				return service.Address
			}
		}
	}
	return s.appliance.Listen
}

// serverFingerprint is that of the certificate on disk: what clients pin next.
func (s *Shell) serverFingerprint() string {
	raw, err := os.ReadFile(s.appliance.Certificate)
	if block, _ := pem.Decode(raw); err == nil && block != nil {
		sum := sha256.Sum256(block.Bytes)
		return hex.EncodeToString(sum[:])
	}
	return s.appliance.Fingerprint
}

func (s *Shell) ntlsShow(_ context.Context, a args) error {
	listen, fingerprint := s.listening(), s.serverFingerprint()
	if a.has("json") {
		return s.printJSON(map[string]string{"listen": listen, "certificate": s.appliance.Certificate, "fingerprint": fingerprint})
	}
	t := s.table()
	fmt.Fprintf(t, "Listening on:\t%s\n", listen)
	fmt.Fprintf(t, "Server certificate:\t%s\n", s.appliance.Certificate)
	fmt.Fprintf(t, "SHA-256:\t%s\n", fingerprint)
	return t.Flush()
}

// confirmRestart asks where clients are connected.
func (s *Shell) confirmRestart(a args) error {
	n := s.appliance.Control.Figures().Connections
	if n == 0 {
		return nil
	}
	return s.confirm(a, fmt.Sprintf("%d client connections will be ended.", n), "restart NTLS")
}

// applianceDo runs and records an act on the appliance, behind the Security
// Officer where each change is (`sysconf forceSOLogin`).
func (s *Shell) applianceDo(ctx context.Context, action, about string, do func() error) error {
	if err := s.forced(ctx); err != nil {
		return err
	}
	return s.appliance.HSM.Act(ctx, s.who.Operator, action, about, do)
}

func (s *Shell) ntlsBind(ctx context.Context, a args) error {
	if err := s.confirmRestart(a); err != nil {
		return err
	}
	address := a.get("address")
	err := s.applianceDo(ctx, "ntls.bind", address, func() error { return s.appliance.Control.BindNTLS(ctx, address) })
	if err != nil {
		return err
	}
	s.successful("ntls bind")
	return nil
}

func ipcheck(on bool) func(*Shell, context.Context, args) error {
	return func(s *Shell, ctx context.Context, _ args) error {
		if err := s.registrarsDo(ctx, func(r registrar) error { return r.SetAddressCheck(ctx, on) }); err != nil {
			return err
		}
		fmt.Fprintf(s.term, "Client address check %s.\n", enabled(on))
		return nil
	}
}

// switchView is a setting that is on or off, as a script reads it.
type switchView struct {
	Enabled bool `json:"enabled"`
}

func (s *Shell) ipcheckShow(_ context.Context, a args) error {
	info, err := s.appliance.HSM.Info()
	if err != nil {
		return err
	}
	if a.has("json") {
		return s.printJSON(switchView{info.AddressCheck})
	}
	fmt.Fprintf(s.term, "Client address check %s.\n", enabled(info.AddressCheck))
	return nil
}

func serviceNames(s *Shell, _ args) []shell.Candidate {
	if s.appliance.Control == nil {
		return nil
	}
	var list []shell.Candidate
	for _, service := range s.appliance.Control.Services() {
		list = append(list, shell.Candidate{Word: service.Name, Help: cmp.Or(service.Address, service.Detail)})
	}
	return list
}

func (s *Shell) serviceList(_ context.Context, a args) error {
	list := s.appliance.Control.Services()
	return s.showServices(a, list, list)
}

func (s *Shell) serviceStatus(_ context.Context, a args) error {
	for _, service := range s.appliance.Control.Services() {
		if isOneOf(a.get("service"), service.Name) {
			return s.showServices(a, []Service{service}, service)
		}
	}
	return fmt.Errorf("%w: there is no service %q; `service list` shows those that there are", errUsage, a.get("service"))
}

// showServices prints services for people, or v for a script.
func (s *Shell) showServices(a args, list []Service, v any) error {
	if a.has("json") {
		return s.printJSON(v)
	}
	t := s.table()
	for _, service := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", service.Name, yesNo(service.Running, "running", "stopped"), service.Address, service.Detail)
	}
	return t.Flush()
}

func (s *Shell) serviceRestart(ctx context.Context, a args) error {
	if name := a.get("service"); !isOneOf(name, "ntls") {
		return fmt.Errorf("%w: %q cannot be restarted by itself; expected ntls", errUsage, name)
	}
	if err := s.confirmRestart(a); err != nil {
		return err
	}
	if err := s.applianceDo(ctx, "service.restart", "ntls", func() error { return s.appliance.Control.RestartNTLS(ctx) }); err != nil {
		return err
	}
	s.successful("service restart")
	return nil
}
