package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// Network is a few hosts around a router, in network namespaces of their own:
// nothing of it is seen on this machine's own interfaces, and nothing of it is
// left when this process ends, however it does.
//
// Where namespaces are not allowed (which takes root and iproute2), or where
// $MOONGATE_E2E_NETWORK is "loopback", hosts are addresses of this machine's
// loopback (127.0.0.0/8), and their services have the programs' ordinary ports.
type Network struct {
	// Namespaces says that the hosts have namespaces; Why says why they do not.
	Namespaces bool
	Why        string

	router *namespace // nil without namespaces
	guard  io.Closer  // keeps other networks away from the loopback addresses
	net    byte       // second byte of the loopback addresses

	mu    sync.Mutex
	hosts []*Host // guarded by mu
}

// Host is one of a network. A nil Host is this machine, by its loopback.
type Host struct {
	Name string
	// Address is where its services listen; Source is where it calls from.
	// They differ only without namespaces.
	Address, Source netip.Addr
	// SSHPort, ClientPort, WebPort are the ports of its services: the guide's,
	// or the programs' defaults.
	SSHPort, ClientPort, WebPort int

	network *Network
	ns      *namespace
	links   []string // the router's ends of its links

	mu    sync.Mutex
	rules []string // of the router, that are in force against it; guarded by mu
}

// networkEnv chooses loopback addresses.
const networkEnv = "MOONGATE_E2E_NETWORK"

// NewNetwork makes a network without hosts.
func NewNetwork(ctx context.Context) (*Network, error) {
	n := &Network{Namespaces: true}
	err := n.makeRouter(ctx)
	if os.Getenv(networkEnv) == "loopback" {
		err = errors.Join(fmt.Errorf("$%s says so", networkEnv), n.router.close())
	}
	if err == nil {
		return n, nil
	}
	n.Namespaces, n.Why, n.router = false, err.Error(), nil
	return n, n.takeLoopback()
}

func (n *Network) makeRouter(ctx context.Context) (err error) {
	for _, program := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(systemProgram(program)); err != nil {
			return fmt.Errorf("%w: iproute2 is missing", err)
		}
	}
	if n.router, err = newNamespace(); err != nil {
		return err
	}
	forward := func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) }
	if err := errors.Join(n.router.do(forward), n.router.ip(ctx, "link set lo up")); err != nil {
		return errors.Join(err, n.router.close())
	}
	return nil
}

// takeLoopback takes a part of the loopback's addresses that no other network
// has.
func (n *Network) takeLoopback() error {
	for range 100 {
		n.net = byte(1 + rand.IntN(254))
		l, err := net.Listen("tcp", netip.AddrPortFrom(n.loopback(netip.AddrFrom4([4]byte{})), 1792).String())
		if err == nil {
			n.guard = l
			return nil
		}
	}
	return errors.New("there is no room for another network on the loopback")
}

// loopback is what an address is without namespaces.
func (n *Network) loopback(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom4([4]byte{127, n.net, b[2], b[3]})
}

// routerAddress is the router's on every link.
const routerAddress = "169.254.1.1"

// Host adds a host with one link for each address (IPv4); the first is its
// Address and Source, where the default route goes. What it sends from another
// address goes by that one's link.
func (n *Network) Host(ctx context.Context, name string, addresses ...string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first, err := netip.ParseAddr(addresses[0])
	if err != nil {
		return nil, fmt.Errorf("adding host %s: %w", name, err)
	}
	if !n.Namespaces {
		h := &Host{Name: name, network: n, Address: n.loopback(first), Source: netip.MustParseAddr(loopback),
			SSHPort: 2022, ClientPort: 1792, WebPort: 4443}
		n.hosts = append(n.hosts, h)
		return h, nil
	}
	h := &Host{Name: name, network: n, Address: first, Source: first, SSHPort: 22, ClientPort: 1792, WebPort: 443}
	if h.ns, err = newNamespace(); err != nil {
		return nil, err
	}
	n.hosts = append(n.hosts, h)
	if err := h.ns.ip(ctx, "link set lo up"); err != nil {
		return nil, fmt.Errorf("adding host %s: %w", name, err)
	}
	for i, address := range addresses {
		if err := n.link(ctx, h, len(n.hosts), i, address); err != nil {
			return nil, fmt.Errorf("adding host %s: %w", name, err)
		}
	}
	return h, nil
}

// link gives a host a link with an address, eth0, eth1 and so on.
func (n *Network) link(ctx context.Context, h *Host, number, i int, address string) error {
	inside, outside := fmt.Sprintf("eth%d", i), fmt.Sprintf("h%dl%d", number, i)
	h.links = append(h.links, outside)
	err := n.router.ip(ctx,
		"link add "+outside+" type veth peer name "+inside+" netns "+h.ns.path(),
		"addr add "+routerAddress+"/32 dev "+outside,
		"link set "+outside+" up",
		"route add "+address+"/32 dev "+outside)
	if err != nil {
		return err
	}
	table := "main"
	if i > 0 {
		table = fmt.Sprint(100 + i)
		if err := h.ns.ip(ctx, "rule add from "+address+" lookup "+table); err != nil {
			return err
		}
	}
	return h.ns.ip(ctx,
		"addr add "+address+"/32 dev "+inside,
		"link set "+inside+" up",
		"route add "+routerAddress+" dev "+inside+" scope link table "+table,
		"route add default via "+routerAddress+" dev "+inside+" src "+address+" table "+table)
}

// Close ends the network. Processes on its hosts should have ended.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, h := range n.hosts {
		errs = append(errs, h.ns.close())
	}
	errs = append(errs, n.router.close())
	if n.guard != nil {
		errs = append(errs, n.guard.Close())
	}
	return errors.Join(errs...)
}

// At is an address of a port of the host.
func (h *Host) At(port int) string {
	if h == nil {
		return net.JoinHostPort(loopback, fmt.Sprint(port))
	}
	return netip.AddrPortFrom(h.Address, uint16(port)).String()
}

// IP is where services of the host listen.
func (h *Host) IP() string {
	if h == nil {
		return loopback
	}
	return h.Address.String()
}

// From is where the host calls from.
func (h *Host) From() string {
	if h == nil {
		return loopback
	}
	return h.Source.String()
}

func (h *Host) namespace() *namespace {
	if h == nil {
		return nil
	}
	return h.ns
}

// Do runs f on a thread that is on the host: sockets that f itself makes, and
// processes that it starts, are there. Goroutines that it starts are not.
func (h *Host) Do(f func() error) error { return h.namespace().do(f) }

// Dial connects from the host to an address.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on the host.
func (h *Host) Listen(port int) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", h.At(port))
		return err
	})
	return l, err
}

// ErrNoNamespaces is why a fault cannot be made between loopback addresses.
var ErrNoNamespaces = errors.New("there are no network namespaces")

// against puts a rule of the router's in force that drops packets in silence.
func (h *Host) against(ctx context.Context, selectors ...string) error {
	if h == nil || h.ns == nil {
		return ErrNoNamespaces
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range selectors {
		rule := s + " priority 10 blackhole"
		if err := h.network.router.ip(ctx, "rule add "+rule); err != nil {
			return err
		}
		h.rules = append(h.rules, rule)
	}
	return nil
}

// Cut drops all packets from and to the host, in silence, as a broken cable
// behind a switch does. Without namespaces: ErrNoNamespaces.
func (h *Host) Cut(ctx context.Context) error {
	return h.against(ctx, "from "+h.IP(), "to "+h.IP())
}

// Block drops packets to a TCP port of the host, in silence, as a firewall
// does.
func (h *Host) Block(ctx context.Context, port int) error {
	return h.against(ctx, fmt.Sprintf("to %s ipproto tcp dport %d", h.IP(), port))
}

// Slow lets bits pass to and from the host at a rate (tc's: "64kbit"), with a
// queue of two seconds.
func (h *Host) Slow(ctx context.Context, rate string) error {
	if h == nil || h.ns == nil {
		return ErrNoNamespaces
	}
	shape := " root tbf rate " + rate + " burst 1600 latency 2s"
	return errors.Join(
		h.network.router.ip(ctx, "tc qdisc replace dev "+h.links[0]+shape),
		h.ns.ip(ctx, "tc qdisc replace dev eth0"+shape))
}

// Mend ends what Cut, Block and Slow did.
func (h *Host) Mend(ctx context.Context) error {
	if h == nil || h.ns == nil {
		return ErrNoNamespaces
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, rule := range h.rules {
		if err := h.network.router.ip(ctx, "rule del "+strings.TrimSuffix(rule, " blackhole")); err != nil {
			return err
		}
	}
	h.rules = nil
	return errors.Join(
		h.network.router.ip(ctx, "tc qdisc replace dev "+h.links[0]+" root pfifo"),
		h.ns.ip(ctx, "tc qdisc replace dev eth0 root pfifo"))
}

// OnLoopback is a host of this machine, by an address of its loopback and free
// ports.
func OnLoopback(address string) *Host {
	return &Host{Name: address, Address: netip.MustParseAddr(address), Source: netip.MustParseAddr(loopback)}
}
