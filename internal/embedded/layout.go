package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/BurntSushi/toml"

	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
)

// layout is where everything is below the data directory.
type layout struct{ dir string }

func (l layout) hsm() string             { return l.hsmDir(1) }
func (l layout) hsmRootKey() string      { return filepath.Join(l.hsm(), "device.key") }
func (l layout) hsmSettings() string     { return filepath.Join(l.hsm(), hsmSettingsFile) }
func (l layout) gateway() gateway.Files  { return gateway.In(filepath.Join(l.dir, "gateway")) }
func (l layout) credentials() string     { return CredentialsFile(l.dir) }
func (l layout) originAuthority() string { return filepath.Join(l.dir, "origin.pem") }
func (l layout) log(name string) string  { return filepath.Join(l.dir, name+".log") }
func (l layout) published(name string) string {
	return filepath.Join(l.dir, name+".pem")
}

// CredentialsFile is where the generated passwords of a data directory are.
func CredentialsFile(dir string) string { return filepath.Join(dir, "credentials") }

// Names in the configuration that the first start writes.
const (
	partitionName = "gateway"
	clientName    = "gateway"
	proxyName     = "proxy"
	demoName      = "demonstration"
	originCAName  = "demonstration-origin-ca"
)

// Ports are chosen at the first start and kept in the gateway's configuration
// and, those of the HSM's shell and figures, in the HSM's from then on; 0 takes
// a free one. Web, Shell and Figures are those of the gateway's management.
type Ports struct {
	HSM, HSMShell, HSMFigures, Proxy, Inbound, Origin, Web, Shell, Figures int
}

// DefaultPorts are those that the documentation names.
var DefaultPorts = Ports{
	HSM: 1792, HSMShell: 2022, HSMFigures: 9179, Proxy: 8080, Inbound: 8443, Origin: 9443, Web: 4443, Shell: 2222, Figures: 9180,
}

// choose replaces zeros by free ports, and refuses ports that are taken before
// they become the configuration's. All are held until all are chosen, so that
// no two are the same. listen is Options.Listen.
func (p *Ports) choose(listen string) error {
	const own = "127.0.0.1"
	listen = cmp.Or(listen, own)
	for _, c := range []struct {
		port         *int
		address      string
		whose, given string
	}{
		{&p.HSM, own, "HSM", "hsm-port"}, {&p.HSMShell, own, "HSM's shell", "hsm-ssh-port"}, {&p.HSMFigures, own, "HSM's figures", "hsm-metrics-port"},
		{&p.Proxy, listen, "forward proxy", "proxy-port"},
		{&p.Inbound, listen, "inbound listener", "inbound-port"}, {&p.Origin, own, "demonstration origin", "origin-port"},
		{&p.Web, own, "gateway's XML API", "web-port"}, {&p.Shell, own, "gateway's shell", "ssh-port"},
		{&p.Figures, own, "gateway's figures", "gateway-metrics-port"},
	} {
		l, err := net.Listen("tcp", net.JoinHostPort(c.address, strconv.Itoa(*c.port)))
		if err != nil {
			return fmt.Errorf("the %s's port %d cannot be had: %w; name another with -%s, or 0 for a free one", c.whose, *c.port, err, c.given)
		}
		defer l.Close()
		*c.port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// portsOf reads the ports back from configurations that were written before.
// An administrator may have changed them: what is no longer there is 0.
func portsOf(snapshot *config.Snapshot, hsm hsmSettings) Ports {
	m := snapshot.Management
	p := Ports{
		HSMShell: portIn(hsm.SSH.Listen), HSMFigures: portIn(hsm.Metrics.Listen),
		Web: int(m.HTTPSPort), Shell: int(m.SSHPort), Figures: int(m.MetricsPort),
	}
	if snapshot.HSM != nil && len(snapshot.HSM.Servers) > 0 {
		p.HSM = int(snapshot.HSM.Servers[0].Port)
	}
	for _, l := range snapshot.Forward {
		if l.Name == proxyName {
			p.Proxy = int(l.Listen.Port())
		}
	}
	for _, l := range snapshot.Inbound {
		if l.Name == demoName {
			p.Inbound, p.Origin = int(l.Listen.Port()), int(l.ServerPort)
		}
	}
	return p
}

// hsmSettings is what the first start writes into the HSM's configuration file,
// and all that is read back of it.
type hsmSettings struct {
	SSH     listening `toml:"ssh"`
	Metrics listening `toml:"metrics"`
}

type listening struct {
	Listen string `toml:"listen"`
}

// readHSMSettings reads the HSM's configuration file; a data directory that an
// earlier version made has none.
func readHSMSettings(path string) (hsmSettings, error) {
	var s hsmSettings
	_, err := toml.DecodeFile(path, &s)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return s, fmt.Errorf("the HSM's configuration is not usable: %s: %w", path, err)
	}
	return s, nil
}

// portIn is the port of an address, or 0.
func portIn(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return n
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
