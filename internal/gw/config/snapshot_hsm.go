package config

import "net/netip"

// HSMProvider is the kind of an HSM.
type HSMProvider string

const (
	NetworkHSM HSMProvider = "network" // safenet-network
	PKCS11HSM  HSMProvider = "pkcs11"
)

// HSM is what holds the private keys.
type HSM struct {
	Provider HSMProvider
	Servers  []HSMServer   // of a NetworkHSM, one at least, in the configuration's order
	HA       *HSMGroup     // of two servers or more; nil: the first one is used alone
	Version  uint16        // of the protocol with network HSMs; 0 for the newest that both know
	Module   *PKCS11Module // of a PKCS11HSM
	Source   HSMSource     // where connections to network HSMs leave from
}

// HSMServer is a network HSM.
type HSMServer struct {
	Name    string // the administrator's word for it
	Address string // IPv4, IPv6 without brackets, or a host name
	Port    uint16
	SSHPort uint16 // of its administration
}

// HSMGroup is a high-availability group of all servers.
type HSMGroup struct {
	Name  string
	Retry int // how often a lost connection is tried again before calls go elsewhere
}

// PKCS11Module is a module on this machine.
type PKCS11Module struct {
	Path  string // of its file
	Token string // the label of the token in it
	// CryptoUser: log in as the user of that name that Thales Luna has beside
	// PKCS#11's.
	CryptoUser bool
}

// HSMSource is a service route.
type HSMSource struct {
	Interface string     // "" for any
	Address   netip.Addr // of the interface, if one is named; zero for its own choice
}

// IsZero reports that the machine's routes decide.
func (s HSMSource) IsZero() bool { return s == HSMSource{} }
