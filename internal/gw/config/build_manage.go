package config

import (
	"crypto/x509"
	"time"
)

func (s *Snapshot) management(root, device, shared view) {
	v := device.at("deviceconfig", "setting", "management")
	minutes := func(v view, name string) time.Duration { return time.Duration(v.integer(name)) * time.Minute }
	lockout := v.at("admin-lockout")
	s.Management = Management{
		Address:        must(listenOn(v.text("listen-address"))),
		HTTPSPort:      v.port("https-port"),
		SSHPort:        v.port("ssh-port"),
		MetricsPort:    v.port("metrics-port"),
		ClientPage:     v.yes("client-page"),
		IdleTimeout:    minutes(v, "idle-timeout"),
		APIKeyLifetime: minutes(v.at("api", "key"), "lifetime"),
		FailedAttempts: lockout.integer("failed-attempts"),
		LockoutTime:    minutes(lockout, "lockout-time"),
	}
	quota := v.at("quota-settings")
	expiry := quota.at("log-expiration-period")
	days := func(name string) time.Duration { return time.Duration(expiry.integer(name)) * 24 * time.Hour }
	s.Retention = Retention{
		Traffic:    days("traffic"),
		Decryption: days("decryption"),
		System:     days("system"),
		Config:     days("config"),
		Size:       int64(quota.integer("max-size")) << 20,
	}

	profiles := shared.at("ssl-tls-service-profile")
	profile := view{nil, profiles.row}
	if name := device.at("deviceconfig", "system").text("ssl-tls-service-profile"); name != "" {
		profile.node = profiles.node.find([]step{{entryName, name}})
		s.Management.Certificate = profile.text("certificate")
	}
	protocol := profile.at("protocol-settings")
	s.Management.MinVersion = version(protocol.text("min-version"))
	s.Management.MaxVersion = version(protocol.text("max-version"))

	for _, e := range root.at("mgt-config", "users").entries() {
		a := Administrator{Name: e.node.Entry, PasswordHash: e.text("phash")}
		if keys := e.text("public-key"); keys != "" {
			a.PublicKeys = must(parsePublicKeys(keys))
		}
		for _, role := range []AdminRole{Superuser, DeviceAdmin, SuperReader} {
			if e.at("permissions", "role-based").text(string(role)) == "yes" {
				a.Role = role
			}
		}
		s.Administrators = append(s.Administrators, a)
	}
}

func (s *Snapshot) forwarding(settings view) {
	for _, e := range settings.at("syslog").entries() {
		p := SyslogProfile{Name: e.node.Entry}
		for _, server := range e.at("server").entries() {
			p.Servers = append(p.Servers, s.syslogServer(server))
		}
		s.Syslog = append(s.Syslog, p)
	}
	for _, log := range logNames {
		for _, e := range settings.at(log, "match-list").entries() {
			f := LogForwarding{Log: log, Name: e.node.Entry, Filter: e.text("filter"), Syslog: e.at("send-syslog").members()}
			if f.Filter == allLogs {
				f.Filter = ""
			}
			s.Forwarding = append(s.Forwarding, f)
		}
	}
}

func (s *Snapshot) syslogServer(e view) SyslogServer {
	server := SyslogServer{
		Name:      e.node.Entry,
		Address:   e.text("server"),
		Transport: SyslogTransport(e.text("transport")),
		Facility:  e.text("facility"),
		Port:      514,
	}
	if server.Transport == SyslogSSL {
		server.Port = 6514
	}
	if e.at("port").node != nil {
		server.Port = e.port("port")
	}
	if ca, ok := s.Certificate(e.text("server-ca")); ok {
		server.Roots = []*x509.Certificate{ca.Leaf()}
	}
	return server
}

// services reads both lists: a name of the virtual system hides the same of shared.
func services(vsys, shared view) map[string]Service {
	found := map[string]Service{
		applicationDefault: {applicationDefault, TCP, []PortRange{{443, 443}}},
		serviceHTTP:        {serviceHTTP, TCP, []PortRange{{80, 80}, {8080, 8080}}},
		serviceHTTPS:       {serviceHTTPS, TCP, []PortRange{{443, 443}}},
	}
	for _, list := range []view{shared.at("service"), vsys.at("service")} {
		for _, e := range list.entries() {
			service := Service{Name: e.node.Entry}
			for _, protocol := range []Protocol{TCP, UDP} {
				if p := e.at("protocol", string(protocol)); p.node != nil {
					service.Protocol, service.Ports = protocol, must(parsePorts(p.text("port")))
				}
			}
			found[service.Name] = service
		}
	}
	return found
}
