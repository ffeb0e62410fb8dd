package config

import (
	"crypto/x509"
	"net/netip"
	"time"
)

// Snapshot is a whole configuration as the data plane uses it: checked,
// resolved, defaults filled in. Nobody writes to one, nor to anything that is
// reached from it; any number of goroutines may read.
type Snapshot struct {
	Hostname string
	HSM      *HSM // nil without an HSM

	Forward             []Listener
	Inbound             []InboundListener
	AllowedDestinations []AllowedDestination
	Limits              Limits

	Certificates   []Certificate
	ForwardTrust   CAPair
	ForwardUntrust CAPair // empty: what cannot be verified is blocked
	TrustedRoots   []*x509.Certificate
	Exclusions     []Exclusion

	Rules    []Rule // those that are not disabled, in their order
	Profiles []Profile

	Administrators []Administrator
	Management     Management
	Syslog         []SyslogProfile
	Forwarding     []LogForwarding
	Retention      Retention
}

// Listener accepts clients of the forward proxy.
type Listener struct {
	Name   string
	Listen netip.AddrPort
}

// InboundListener accepts clients of one protected server.
type InboundListener struct {
	Name          string
	Listen        netip.AddrPort
	ServerAddress string // IPv4, IPv6 without brackets, or a host name
	ServerPort    uint16
	ServerName    string // asked for and verified; "" for what the client asked for
}

// AllowedDestination is an exception from what the proxy refuses to reach:
// either a name as the client gives it, or a network that the address lies in.
type AllowedDestination struct {
	Host    string       // lower case; "" where Network is set
	Network netip.Prefix // of one address or more; zero where Host is set
	Port    uint16       // 0 for any, of networks alone
}

// Limits bound the data plane.
type Limits struct {
	MaxConnections int
	Handshake      time.Duration // of one leg
	Connect        time.Duration // of TCP, to a server
	Idle           time.Duration // without a byte either way
}

// Certificate is an entry of the certificate list that has a certificate, not
// only a request for one.
type Certificate struct {
	Name       string
	Chain      []*x509.Certificate // itself, then each one's issuer; at least itself
	OnHSM      bool                // its private key is on the HSM
	PrivateKey string              // its private key, sealed; "" where it is on the HSM or nowhere
	Revoked    bool
}

// HasKey reports that the gateway can use the certificate's private key.
func (c Certificate) HasKey() bool { return c.OnHSM || c.PrivateKey != "" }

// CAPair names the certificates of a CA by the kind of its key; "" for none.
type CAPair struct{ RSA, ECDSA string }

// IsZero reports that there is no CA of either kind.
func (p CAPair) IsZero() bool { return p == CAPair{} }

// Exclusion names servers that are not decrypted.
type Exclusion struct {
	Pattern     string // lower case: a host name, or *. and one
	Description string
	Excluded    bool // false: the entry has no effect
}

// Action is what a rule does, in the configuration's words.
type Action string

const (
	Decrypt   Action = "decrypt"
	NoDecrypt Action = "no-decrypt"
)

// RuleType is which traffic a rule is for, in the configuration's words.
type RuleType string

const (
	ForwardProxy      RuleType = "ssl-forward-proxy"
	InboundInspection RuleType = "ssl-inbound-inspection"
)

// Rule is a decryption rule. The first that matches decides.
type Rule struct {
	Name              string
	Action            Action
	Type              RuleType
	Source            []netip.Prefix // where the client is; empty for anywhere
	Destination       []netip.Prefix // where the server is; empty for anywhere
	NegateSource      bool           // the client is in none of Source
	NegateDestination bool           // the server is in none of Destination
	Hosts             []string       // what the client asks for: lower case, a name or *. and one; empty for any
	Services          []Service      // how the server is reached; empty for any
	LogSuccess        bool           // keep records of connections that went well
	LogFail           bool           // and of those that did not
	Certificates      []string       // names, of InboundInspection alone
	Profile           Profile        // the one that it names, or DefaultProfile
	Description       string
}

// Profile is a decryption profile.
type Profile struct {
	Name                 string // "" for the default
	BlockExpired         bool   // forward: the server's certificate has expired
	BlockUntrustedIssuer bool   // forward: its chain ends in no trusted root
	BlockSNIMismatch     bool   // forward: it is not for the name that was asked for
	MinVersion           TLSVersion
	MaxVersion           TLSVersion
	RSAKeyExchange       bool // TLS 1.2 without forward secrecy: taken inbound, offered to servers
	ECDHEKeyExchange     bool // of TLS 1.2; TLS 1.3 has no other

	// What is not blocked is relayed undecrypted.
	BlockUnsupportedVersion        bool // forward: the client or the server has no version from MinVersion to MaxVersion
	InboundBlockUnsupportedVersion bool // inbound: the client has none
	BlockHSMUnavailable            bool // forward: the HSM does not answer
	InboundBlockHSMUnavailable     bool
}

// TLSVersion is a protocol version as in the protocol (RFC 8446 section 4.1.2)
// and in crypto/tls, which packages that decide do not import.
type TLSVersion uint16

const (
	TLS12 TLSVersion = 0x0303
	TLS13 TLSVersion = 0x0304
)

func (v TLSVersion) String() string {
	switch v {
	case TLS12:
		return "TLS 1.2"
	case TLS13:
		return "TLS 1.3"
	default:
		return "unknown TLS version"
	}
}

// Certificate returns the certificate of that name.
func (s *Snapshot) Certificate(name string) (Certificate, bool) {
	for _, c := range s.Certificates {
		if c.Name == name {
			return c, true
		}
	}
	return Certificate{}, false
}

// Leaf is the certificate itself, without those that issued it.
func (c Certificate) Leaf() *x509.Certificate { return c.Chain[0] }
