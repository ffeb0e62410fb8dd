package mgmt

import (
	"context"
	"net"
	"time"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/keys"
)

// Info is what the gateway says of itself.
type Info struct {
	Hostname string
	// Address, Netmask and Gateway-facing names are of the first interface that
	// is not loopback; the loopback's where there is no other.
	Address  string
	Netmask  string
	IPv6     string // "" for none
	Version  string // Moongate's own
	Model    string
	Serial   string
	Time     time.Time
	Started  time.Time
	Versions int // number of the running version
	// Trouble says why the running configuration is not in use, or else what
	// of it does not work now; "" for nothing.
	Trouble string
	// HSM is the state of the way to the private keys.
	HSM keys.Status
}

// Uptime is how long the gateway has run.
func (i Info) Uptime() time.Duration { return i.Time.Sub(i.Started) }

// Model is what the gateway calls itself to programs that ask for a model.
const Model = "Moongate"

// defaultHostname is what a gateway without a configured name is called.
const defaultHostname = "moongate"

// SystemInfo tells of the gateway.
func (m *Manager) SystemInfo(ctx context.Context, c Caller) (Info, error) {
	if err := m.allow(c, admin.OpReadSystem, ""); err != nil {
		return Info{}, err
	}
	_, version := m.parts.Revisions.Running()
	info := Info{
		Hostname: m.Hostname(), Version: m.parts.Device.Version, Model: Model, Serial: m.parts.Device.Serial,
		Time: m.now(), Started: m.parts.Device.Started, Versions: version.Number, HSM: m.parts.HSM.Status(),
	}
	info.Address, info.Netmask, info.IPv6 = ownAddress()
	if err := m.Trouble(); err != nil {
		info.Trouble = err.Error()
	} else if err := m.parts.Vault.Locked(); err != nil {
		info.Trouble = err.Error()
	}
	return info, nil
}

// Hostname is the gateway's configured name: prompts have it. It is no secret.
func (m *Manager) Hostname() string {
	if s := m.Snapshot(); s != nil && s.Hostname != "" {
		return s.Hostname
	}
	return defaultHostname
}

// ownAddress is the address of the first interface that is up and not loopback.
func ownAddress() (address, mask, six string) {
	address, mask = "127.0.0.1", "255.0.0.0"
	all, err := net.InterfaceAddrs()
	if err != nil {
		return address, mask, six
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		switch four := n.IP.To4(); {
		case four != nil && address == "127.0.0.1":
			address, mask = four.String(), net.IP(n.Mask).String()
		case four == nil && six == "":
			six = n.String()
		}
	}
	return address, mask, six
}

// HSMState is the state of the way to the private keys on the HSM.
func (m *Manager) HSMState(ctx context.Context, c Caller) (keys.Status, error) {
	if err := m.allow(c, admin.OpReadSystem, "HSM"); err != nil {
		return keys.Status{}, err
	}
	return m.parts.HSM.Status(), nil
}

// HSMReady reports whether private keys on the HSM can be used; it is asked
// without an account.
func (m *Manager) HSMReady() bool { return m.parts.HSM.Status().Ready }

// VaultLocked reports whether software private keys wait for the HSM to unwrap
// the master key; it is asked without an account.
func (m *Manager) VaultLocked() bool { return m.parts.Vault.Locked() != nil }

// Still does something while nobody changes the candidate, or the running
// configuration: a backup.
func (m *Manager) Still(do func() error) error {
	m.committing.Lock()
	defer m.committing.Unlock()
	m.editing.Lock()
	defer m.editing.Unlock()
	return do()
}
