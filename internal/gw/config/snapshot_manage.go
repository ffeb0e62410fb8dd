package config

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// AdminRole is what an administrator may do, in the configuration's words.
type AdminRole string

const (
	Superuser   AdminRole = "superuser"
	DeviceAdmin AdminRole = "deviceadmin"
	SuperReader AdminRole = "superreader"
)

// Administrator is an account.
type Administrator struct {
	Name         string
	PasswordHash string   // Argon2id, in PHC form; "" where no password opens it
	PublicKeys   []string // lines of an authorized_keys file, without options
	Role         AdminRole
}

// Management is how the gateway is administered.
type Management struct {
	Address     netip.Addr // of all its listeners
	HTTPSPort   uint16
	SSHPort     uint16
	MetricsPort uint16

	Certificate string     // the name of the XML API server's; "" for one that the gateway makes
	MinVersion  TLSVersion // of that server
	MaxVersion  TLSVersion

	ClientPage bool // for anybody

	IdleTimeout    time.Duration // of a session; 0 for none
	APIKeyLifetime time.Duration // 0 for no end
	FailedAttempts int           // in a row, after which an account is locked; 0 for never
	LockoutTime    time.Duration
}

// Retention is for how long and how much is logged.
type Retention struct {
	Traffic    time.Duration
	Decryption time.Duration
	System     time.Duration
	Config     time.Duration
	Size       int64 // bytes of all logs together
}

// SyslogProfile is a group of syslog servers, of which each gets every record.
type SyslogProfile struct {
	Name    string
	Servers []SyslogServer
}

// SyslogTransport is how records get to a server, in the configuration's words.
type SyslogTransport string

const (
	SyslogUDP SyslogTransport = "UDP"
	SyslogTCP SyslogTransport = "TCP"
	SyslogSSL SyslogTransport = "SSL"
)

// SyslogServer is one of such a group.
type SyslogServer struct {
	Name      string
	Address   string // IPv4, IPv6 without brackets, or a host name
	Port      uint16
	Transport SyslogTransport
	Facility  string              // LOG_USER, LOG_LOCAL0 … LOG_LOCAL7
	Roots     []*x509.Certificate // of SSL; nil for the system's
}

// LogForwarding is a row of a match list: which records of a log go where.
type LogForwarding struct {
	Log    string // system, config, traffic or decryption
	Name   string
	Filter string   // in the language of log filters; "" for every record
	Syslog []string // the names of syslog profiles
}

// Protocol is what a service is reached by, in the configuration's words.
type Protocol string

const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Service is what a rule's service member stands for.
type Service struct {
	Name     string
	Protocol Protocol
	Ports    []PortRange // at least one
}

// PortRange is ports from the first to the last, both of them in it.
type PortRange struct{ First, Last uint16 }

// Contains reports whether the port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }
