package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/BurntSushi/toml"

	"moongate/internal/durable"
)

// maxHSMs is how many one group may have.
const maxHSMs = 16

// groupName is that of the HA group that several HSMs are.
const groupName = "moongate"

// hsmDir is the directory of an HSM, by its number from 1: hsm, hsm2, hsm3.
func (l layout) hsmDir(number int) string {
	if number == 1 {
		return filepath.Join(l.dir, "hsm")
	}
	return filepath.Join(l.dir, "hsm"+strconv.Itoa(number))
}

func (l layout) hsmCertificate(number int) string {
	return filepath.Join(l.hsmDir(number), "server.pem")
}

// hsmSettingsFile is an HSM's configuration, in its directory.
const hsmSettingsFile = "hsm.toml"

// hsmName is what an HSM is called by the others, and by the gateway.
func hsmName(number int) string { return "hsm" + strconv.Itoa(number) }

// hsms is how many HSMs the data directory has: the first one, and those after
// it whose configuration was written.
func (l layout) hsms() int {
	n := 1
	for n < maxHSMs && exists(filepath.Join(l.hsmDir(n+1), hsmSettingsFile)) {
		n++
	}
	return n
}

// howMany is how many HSMs a start has: as many as are asked for, or as there
// are. One that is there is not left out: the others would wait for it.
func (l layout) howMany(asked int) (int, error) {
	there := l.hsms()
	switch {
	case asked == 0:
		return there, nil
	case asked < 1 || asked > maxHSMs:
		return 0, fmt.Errorf("-hsms=%d; expected 1 to %d", asked, maxHSMs)
	case asked < there:
		return 0, fmt.Errorf("-hsms=%d, and %s has %d HSMs, which are one group: leave -hsms out; `cmu ha remove` takes one out of a group", asked, l.dir, there)
	}
	return asked, nil
}

// HSMPorts are those of an HSM behind the first one, kept in its own
// configuration.
type HSMPorts struct{ Client, Shell, Figures int }

// furtherSettings is what is written into the configuration of an HSM behind
// the first one: its client port too, which of the first one the gateway's
// configuration says alone.
type furtherSettings struct {
	NTLS listening `toml:"ntls"`
	hsmSettings
}

// furtherPorts reads the ports of the HSMs behind the first one, and chooses
// them for those that are new: beside the first one's where they can be had,
// free ones otherwise.
func furtherPorts(l layout, first Ports, n int) ([]HSMPorts, error) {
	used := map[int]bool{}
	for _, port := range []int{first.HSM, first.HSMShell, first.HSMFigures, first.Proxy, first.Inbound, first.Origin, first.Web, first.Shell, first.Figures} {
		used[port] = true
	}
	var list []HSMPorts
	for number := 2; number <= n; number++ {
		ports, err := readFurtherPorts(filepath.Join(l.hsmDir(number), hsmSettingsFile))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		used[ports.Client], used[ports.Shell], used[ports.Figures] = true, true, true
	}
	for number := 2; number <= n; number++ {
		ports, err := readFurtherPorts(filepath.Join(l.hsmDir(number), hsmSettingsFile))
		if errors.Is(err, os.ErrNotExist) {
			ports, err = chooseFurther(first, number, used)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, ports)
	}
	return list, nil
}

func readFurtherPorts(path string) (HSMPorts, error) {
	var s furtherSettings
	if _, err := toml.DecodeFile(path, &s); errors.Is(err, os.ErrNotExist) {
		return HSMPorts{}, err
	} else if err != nil {
		return HSMPorts{}, fmt.Errorf("the HSM's configuration is not usable: %s: %w", path, err)
	}
	p := HSMPorts{portIn(s.NTLS.Listen), portIn(s.SSH.Listen), portIn(s.Metrics.Listen)}
	if p.Client == 0 {
		return HSMPorts{}, fmt.Errorf("the HSM's configuration %s has no port at ntls.listen, where its clients are served; put it back", path)
	}
	return p, nil
}

func chooseFurther(first Ports, number int, used map[int]bool) (HSMPorts, error) {
	var p HSMPorts
	for _, c := range []struct {
		port *int
		near int
	}{
		{&p.Client, first.HSM + number - 1}, {&p.Shell, first.HSMShell + number - 1}, {&p.Figures, first.HSMFigures + 10*(number-1)},
	} {
		var err error
		if *c.port, err = freeNear(c.near, used); err != nil {
			return p, fmt.Errorf("choosing a port for HSM %d: %w", number, err)
		}
		used[*c.port] = true
	}
	return p, nil
}

// freeNear is that port where it can be had, another free one otherwise.
func freeNear(port int, used map[int]bool) (int, error) {
	if !used[port] {
		if l, err := net.Listen("tcp", local(port)); err == nil {
			return port, l.Close()
		}
	}
	for range 100 {
		l, err := net.Listen("tcp", local(0))
		if err != nil {
			return 0, err
		}
		got := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if !used[got] {
			return got, nil
		}
	}
	return 0, errors.New("no port is free")
}

func writeFurtherSettings(path string, p HSMPorts) error {
	var b bytes.Buffer
	b.WriteString("# `moongate-hsm config` prints a file with every key.\n")
	s := furtherSettings{NTLS: listening{local(p.Client)}, hsmSettings: hsmSettings{SSH: listening{local(p.Shell)}, Metrics: listening{local(p.Figures)}}}
	if err := toml.NewEncoder(&b).Encode(s); err != nil {
		return err
	}
	return durable.WriteFile(path, b.Bytes(), 0o600)
}

// hsm is one of the HSMs of a start.
type hsm struct {
	number  int
	server  string // its name in the gateway's configuration and in the group
	address string // of its client port
	shell   int    // port
	tool    hsmTool
	program *program // once it was started
}

// hsmsOf are the HSMs of a start, the first one first.
func (u *up) hsmsOf() []*hsm {
	list := []*hsm{{number: 1, server: hsmName(1), address: local(u.ports.HSM), shell: u.ports.HSMShell}}
	if u.configured != nil && u.configured.HSM != nil && len(u.configured.HSM.Servers) > 0 {
		list[0].server = u.configured.HSM.Servers[0].Name
	}
	for i, p := range u.further {
		list = append(list, &hsm{number: i + 2, server: hsmName(i + 2), address: local(p.Client), shell: p.Shell})
	}
	for _, h := range list {
		h.tool = hsmTool{u.program("moongate-hsm"), u.l.hsmDir(h.number)}
	}
	return list
}

// unconfigured are the HSMs that the gateway's configuration does not name.
func (u *up) unconfigured() []*hsm {
	if u.configured == nil || u.configured.HSM == nil {
		return nil
	}
	var list []*hsm
	for _, h := range u.hsms[1:] {
		known := slices.ContainsFunc(u.configured.HSM.Servers, func(s configServer) bool {
			return s.Name == h.server || net.JoinHostPort(s.Address, strconv.Itoa(int(s.Port))) == h.address
		})
		if !known {
			list = append(list, h)
		}
	}
	return list
}
