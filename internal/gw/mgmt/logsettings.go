package mgmt

import (
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/logstore"
	"moongate/internal/syslog"
)

// checkLogSettings says what of a snapshot's log settings the logs would not
// take: a filter is in the logs' language, which the configuration does not
// know.
func checkLogSettings(s *config.Snapshot) error {
	for _, f := range s.Forwarding {
		if err := logstore.CheckFilter(logstore.Log(f.Log), f.Filter); err != nil {
			return fmt.Errorf("%s/log-settings/%s/match-list/%s/filter: %w", config.SharedPath, f.Log, config.EntryStep(f.Name), err)
		}
	}
	return nil
}

// useLogSettings makes the logs follow a snapshot.
func (m *Manager) useLogSettings(s *config.Snapshot) {
	m.parts.Logs.SetRetention(logstore.Split(s.Retention.Size, map[logstore.Log]time.Duration{
		logstore.Traffic: s.Retention.Traffic, logstore.Decryption: s.Retention.Decryption,
		logstore.System: s.Retention.System, logstore.Config: s.Retention.Config,
	}))
	servers, rules := forwarding(s)
	if err := m.parts.Logs.SetForwarding(servers, rules); err != nil {
		m.log.Error("forwarding logs", "err", err)
		m.event(logstore.High, "log", "forwarding", "", "log records are not forwarded: "+oneLine(err.Error()))
	}
}

// forwarding is what a snapshot forwards, and to whom.
func forwarding(s *config.Snapshot) ([]logstore.Server, []logstore.Forward) {
	var servers []logstore.Server
	named := map[string][]string{} // by profile
	for _, profile := range s.Syslog {
		for _, server := range profile.Servers {
			name := profile.Name + "/" + server.Name
			named[profile.Name] = append(named[profile.Name], name)
			servers = append(servers, logstore.Server{
				Name: name, Address: net.JoinHostPort(server.Address, strconv.Itoa(int(server.Port))),
				Transport: transports[server.Transport], Facility: facility(server.Facility), Roots: pool(server.Roots),
			})
		}
	}
	var rules []logstore.Forward
	for _, f := range s.Forwarding {
		rule := logstore.Forward{Name: f.Name, Log: logstore.Log(f.Log), Filter: f.Filter}
		for _, profile := range f.Syslog {
			rule.Servers = append(rule.Servers, named[profile]...)
		}
		slices.Sort(rule.Servers)
		rule.Servers = slices.Compact(rule.Servers)
		rules = append(rules, rule)
	}
	return servers, rules
}

var transports = map[config.SyslogTransport]syslog.Transport{
	config.SyslogUDP: syslog.UDP, config.SyslogTCP: syslog.TCP, config.SyslogSSL: syslog.TLS,
}

// facility is the number of RFC 5424, section 6.2.1; 1, user, for what is not
// one of the configuration's words.
func facility(word string) int {
	var local int
	if n, err := fmt.Sscanf(word, "LOG_LOCAL%d", &local); n == 1 && err == nil && local >= 0 && local <= 7 {
		return 16 + local
	}
	return 1
}

func pool(roots []*x509.Certificate) *x509.CertPool {
	if roots == nil {
		return nil
	}
	p := x509.NewCertPool()
	for _, r := range roots {
		p.AddCert(r)
	}
	return p
}
