package embedded

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
)

// layout is where everything is below the data directory.
type layout struct{ dir string }

func (l layout) hsm() string             { return filepath.Join(l.dir, "hsm") }
func (l layout) hsmCertificate() string  { return filepath.Join(l.hsm(), "server.pem") }
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
	moduleName    = "embedded"
	partitionName = "gateway"
	clientName    = "gateway"
	proxyName     = "proxy"
	demoName      = "demonstration"
	originCAName  = "demonstration-origin-ca"
)

// Ports are chosen at the first start and kept in the gateway's configuration
// from then on; 0 takes a free one.
type Ports struct {
	HSM, Proxy, Inbound, Origin int
}

// DefaultPorts are those that the documentation names.
var DefaultPorts = Ports{HSM: 1792, Proxy: 8080, Inbound: 8443, Origin: 9443}

// choose replaces zeros by free ports. All are held until all are chosen, so
// that no two are the same.
func (p *Ports) choose() error {
	for _, port := range []*int{&p.HSM, &p.Proxy, &p.Inbound, &p.Origin} {
		if *port != 0 {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close()
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// readPorts reads the ports back from a configuration that was written before.
// An administrator may have changed it: what is no longer there is 0.
func readPorts(path string) (Ports, error) {
	snapshot, _, err := config.Load(path)
	if err != nil {
		return Ports{}, err
	}
	var p Ports
	if snapshot.HSM != nil {
		p.HSM = int(snapshot.HSM.Port)
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
	return p, nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
