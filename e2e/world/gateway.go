package world

import (
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"moongate/client"
	"moongate/client/ha"
	"moongate/internal/gw/admin"
	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
	"moongate/internal/gw/flow"
	"moongate/internal/gw/logstore"
	"moongate/internal/selfsign"
)

// GatewaySettings say what a gateway is configured for.
type GatewaySettings struct {
	TrustedRoots []*x509.Certificate
	Allowed      []string // destinations on this host, host:port
	Exclusions   []string // names that are not decrypted
	Inbound      []Site
	// Profile sets fields of the forward rule's decryption profile, by path
	// below it: "ssl-forward-proxy/block-untrusted-issuer" to "yes".
	Profile map[string]string
	// InboundProfile does for the inbound rules.
	InboundProfile map[string]string
	// ForwardTrust is the RSA forward-trust CA, where its key is in the
	// partition already; nil makes one.
	ForwardTrust *x509.Certificate
	// NoECDSA leaves the ECDSA forward CAs out.
	NoECDSA bool
	// Host is where it runs; nil is this machine's loopback.
	Host *Host
}

// Site is a protected server.
type Site struct {
	Name       string // of the listener
	Server     string // host:port
	ServerName string // what the server proves to be; "" for what clients ask for
	Hosts      []string
	// RSAOnly leaves the ECDSA certificate out.
	RSAOnly bool
}

// kinds are the site's certificates, by what is added to its name, with
// whether they are ECDSA.
func (s Site) kinds() map[string]bool {
	if s.RSAOnly {
		return map[string]bool{"-rsa": false}
	}
	return map[string]bool{"-rsa": false, "-ecdsa": true}
}

// Gateway is a gateway that runs as a process, with its keys on an HSM.
type Gateway struct {
	Host    *Host // that it runs on
	Dir     string
	Proxy   string            // address of the forward proxy
	Inbound map[string]string // addresses by Site.Name
	// Web, SSH and Metrics are the addresses of the management: the XML API,
	// the command line, the figures. Admin is the password of the account
	// admin, a superuser.
	Web, SSH, Metrics, Admin string
	// Authorities are the forward CAs' certificates by name: forward-trust,
	// forward-trust-ecdsa, forward-untrust, forward-untrust-ecdsa; and the
	// sites' by NAME-rsa and NAME-ecdsa.
	Certificates map[string]*x509.Certificate
	// Env is added to the environment of processes that Start starts.
	Env []string

	program string
	files   gateway.Files

	mu      sync.Mutex
	process *Process // the newest; guarded by mu
	earlier []string // logs of those before; guarded by mu
}

const moduleName = "world"

// StartGateway makes a gateway below dir, which must exist, with the partition
// of a registered client as its own, and serves it on free ports.
func StartGateway(ctx context.Context, dir string, link *Registered, settings GatewaySettings) (*Gateway, error) {
	program, err := Program(ctx, "moongate")
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		Host: settings.Host,
		Dir:  filepath.Join(dir, "gateway"), Inbound: map[string]string{}, Certificates: map[string]*x509.Certificate{},
		program: program,
	}
	g.files = gateway.In(g.Dir)
	if err := g.install(link); err != nil {
		return nil, fmt.Errorf("making a gateway: %w", err)
	}
	if err := g.makeKeys(ctx, link, settings); err != nil {
		return nil, fmt.Errorf("making the gateway's keys: %w", err)
	}
	if err := g.configure(link, settings); err != nil {
		return nil, fmt.Errorf("configuring a gateway: %w", err)
	}
	return g, g.Start(ctx)
}

// install gives the gateway its link to the HSM.
func (g *Gateway) install(link *Registered) error {
	for _, dir := range []string{g.files.Dir(), g.files.HSM(), g.files.Log()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	copies := map[string]string{g.files.ClientCertificate(): link.Certificate, g.files.ClientKey(): link.Key}
	for name, h := range link.servers() {
		copies[g.files.ServerCertificate(name)] = h.ServerCertificate()
	}
	for to, from := range copies {
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(g.files.Partition(), []byte(link.Partition.Label), 0o600),
		os.WriteFile(g.files.Password(), []byte(link.Partition.CryptoOfficer), 0o600))
}

// keyMaker is an HSM or a group of them.
type keyMaker interface {
	GenerateEC(ctx context.Context, curve elliptic.Curve, public, private client.Template) (client.KeyPair, error)
	GenerateRSA(ctx context.Context, bits int, public, private client.Template) (client.KeyPair, error)
	Key(ctx context.Context, id client.ID) (client.Key, error)
	Close() error
}

// officer logs in as the Crypto Officer of a registered client's partition: on
// all members, where that is a group's.
func (r *Registered) officer(ctx context.Context, ways *forwarders) (keyMaker, error) {
	if r.group == nil {
		settings, err := r.Config(client.RoleCryptoOfficer)
		if err != nil {
			return nil, err
		}
		settings.Address = ways.to(settings.Address)
		return client.Dial(ctx, settings)
	}
	settings, err := r.group.Config(client.RoleCryptoOfficer, ways.to)
	if err != nil {
		return nil, err
	}
	group, err := ha.Open(settings)
	if err != nil {
		return nil, err
	}
	if err := group.ReadyAll(ctx); err != nil {
		return nil, errors.Join(err, group.Close())
	}
	return group, nil
}

func (g *Gateway) makeKeys(ctx context.Context, link *Registered, settings GatewaySettings) error {
	ways := &forwarders{from: g.Host}
	if link.group != nil {
		ways.from = link.group.Client
	}
	defer ways.close()
	c, err := link.officer(ctx, ways)
	if err = errors.Join(err, ways.err); err != nil {
		return err
	}
	defer c.Close()
	return g.makeKeysOn(ctx, c, settings)
}

func (g *Gateway) makeKeysOn(ctx context.Context, c keyMaker, settings GatewaySettings) error {
	for _, trust := range []string{"forward-trust", "forward-untrust"} {
		if trust == "forward-trust" && settings.ForwardTrust != nil {
			g.Certificates[trust] = settings.ForwardTrust
		} else if err := g.makeKey(ctx, c, trust, false, nil); err != nil {
			return err
		}
		if settings.NoECDSA {
			continue
		}
		if err := g.makeKey(ctx, c, trust+"-ecdsa", true, nil); err != nil {
			return err
		}
	}
	for _, site := range settings.Inbound {
		for kind, ec := range site.kinds() {
			if err := g.makeKey(ctx, c, site.Name+kind, ec, site.Hosts); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeKey makes a key and its certificate: a CA's without hosts.
func (g *Gateway) makeKey(ctx context.Context, c keyMaker, label string, ec bool, hosts []string) error {
	text := client.TextAttr(client.AttrLabel, label)
	private := client.NewTemplate(text, client.BoolAttr(client.AttrSign, true))
	var pair client.KeyPair
	var err error
	if ec {
		pair, err = c.GenerateEC(ctx, elliptic.P256(), client.NewTemplate(text), private)
	} else {
		private = private.With(client.BoolAttr(client.AttrDecrypt, len(hosts) > 0))
		pair, err = c.GenerateRSA(ctx, 2048, client.NewTemplate(text), private)
	}
	if err != nil {
		return err
	}
	key, err := c.Key(ctx, pair.Private)
	if err != nil {
		return err
	}
	request := selfsign.Request{
		Subject: pkix.Name{CommonName: label}, CA: len(hosts) == 0,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			request.Addresses = append(request.Addresses, ip)
		} else {
			request.Names = append(request.Names, host)
		}
	}
	der, err := selfsign.Certificate(key, request)
	if err != nil {
		return err
	}
	g.Certificates[label], err = x509.ParseCertificate(der)
	return err
}

const providerPath = config.DevicePath + "/deviceconfig/system/hsm-settings/provider"

func (g *Gateway) configure(link *Registered, settings GatewaySettings) error {
	b := config.NewBuilder()
	network := providerPath + "/safenet-network"
	for name, h := range link.servers() {
		host, port, err := net.SplitHostPort(h.Addr)
		if err != nil {
			return err
		}
		server := network + "/hsm-server/" + config.EntryStep(name)
		b.Set(server+"/server-address", host)
		b.Set(server+"/port", port)
		if _, shell, err := net.SplitHostPort(h.SSH); err == nil {
			b.Set(server+"/ssh-port", shell)
		}
	}
	if link.group != nil {
		b.Set(network+"/ha/ha-group-name", groupLabel)
	}
	return g.configureTraffic(b, settings)
}

// configureTraffic adds everything else to a configuration, and writes it.
func (g *Gateway) configureTraffic(b *config.Builder, settings GatewaySettings) error {
	ports, err := freePorts(4 + len(settings.Inbound))
	if err != nil {
		return err
	}
	if err := g.configureManagement(b, ports[1+len(settings.Inbound):]); err != nil {
		return err
	}
	if err := g.decryption(b, ports, settings); err != nil {
		return err
	}
	text, err := b.Bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(g.files.Config(), text, 0o600)
}

// setter takes values by their paths.
type setter interface {
	Set(path string, values ...string)
}

// decryption configures listeners, certificates and rules.
func (g *Gateway) decryption(b setter, ports []int, settings GatewaySettings) error {
	proxy := config.DevicePath + "/deviceconfig/setting/proxy"
	forward := proxy + "/forward/" + config.EntryStep("proxy")
	b.Set(forward+"/address", g.Host.IP())
	b.Set(forward+"/port", strconv.Itoa(ports[0]))
	g.Proxy = g.Host.At(ports[0])
	for _, allowed := range settings.Allowed {
		b.Set(proxy+"/allowed-destination", allowed)
	}

	decrypt := config.SharedPath + "/ssl-decrypt"
	for name, c := range g.Certificates {
		entry := config.SharedPath + "/certificate/" + config.EntryStep(name)
		b.Set(entry+"/public-key", certificatePEM(c))
		b.Set(entry+"/private-key-on-hsm", "yes")
	}
	for _, trust := range []string{"forward-trust", "forward-untrust"} {
		b.Set(decrypt+"/"+trust+"-certificate/rsa", trust)
		if !settings.NoECDSA {
			b.Set(decrypt+"/"+trust+"-certificate/ecdsa", trust+"-ecdsa")
		}
	}
	for i, root := range settings.TrustedRoots {
		name := fmt.Sprintf("root-%d", i)
		b.Set(config.SharedPath+"/certificate/"+config.EntryStep(name)+"/public-key", certificatePEM(root))
		b.Set(decrypt+"/trusted-root-CA", name)
	}
	for _, name := range settings.Exclusions {
		b.Set(decrypt+"/ssl-exclude-cert/"+config.EntryStep(name)+"/exclude", "yes")
	}
	rules := config.VsysPath + "/rulebase/decryption/rules/"
	profiles := config.VsysPath + "/profiles/decryption/"
	profile := func(name string, fields map[string]string) {
		for path, value := range fields {
			b.Set(profiles+config.EntryStep(name)+"/"+path, value)
		}
	}
	profile("forward", settings.Profile)
	profile("inbound", settings.InboundProfile)
	for i, site := range settings.Inbound {
		if err := g.configureSite(b, proxy, rules, ports[1+i], site, len(settings.InboundProfile) > 0); err != nil {
			return err
		}
	}
	rule := rules + config.EntryStep("forward")
	b.Set(rule+"/action", "decrypt")
	b.Set(rule + "/type/ssl-forward-proxy")
	if len(settings.Profile) > 0 {
		b.Set(rule+"/profile", "forward")
	}
	return nil
}

// configureManagement gives the management three ports and an administrator.
func (g *Gateway) configureManagement(b *config.Builder, ports []int) error {
	g.Admin = rand.Text()
	hash, err := admin.Hash([]byte(g.Admin))
	if err != nil {
		return err
	}
	account := "/config/mgt-config/users/" + config.EntryStep("admin")
	b.Set(account+"/phash", hash)
	b.Set(account+"/permissions/role-based/superuser", "yes")
	if g.Host != nil {
		ports[0], ports[1] = g.Host.WebPort, g.Host.SSHPort
	}
	for i, p := range []struct {
		name    string
		address *string
	}{{"https-port", &g.Web}, {"ssh-port", &g.SSH}, {"metrics-port", &g.Metrics}} {
		b.Set(config.DevicePath+"/deviceconfig/setting/management/"+p.name, strconv.Itoa(ports[i]))
		*p.address = g.Host.At(ports[i])
	}
	if g.Host != nil {
		b.Set(config.DevicePath+"/deviceconfig/setting/management/listen-address", g.Host.IP())
	}
	return nil
}

// OpenSSH returns the clients for an account of the gateway. Files go below
// dir, which must exist and be nobody else's.
func (g *Gateway) OpenSSH(dir, user, password string) (*OpenSSH, error) {
	return newOpenSSH(g.Host, g.SSH, dir, user, password)
}

func (g *Gateway) configureSite(b setter, proxy, rules string, port int, site Site, profile bool) error {
	host, serverPort, err := net.SplitHostPort(site.Server)
	if err != nil {
		return err
	}
	listener := proxy + "/inbound/" + config.EntryStep(site.Name)
	b.Set(listener+"/address", g.Host.IP())
	b.Set(listener+"/port", strconv.Itoa(port))
	b.Set(listener+"/server-address", host)
	b.Set(listener+"/server-port", serverPort)
	if site.ServerName != "" {
		b.Set(listener+"/server-name", site.ServerName)
	}
	g.Inbound[site.Name] = g.Host.At(port)
	rule := rules + config.EntryStep(site.Name)
	b.Set(rule+"/action", "decrypt")
	b.Set(rule+"/destination", host)
	for kind := range site.kinds() {
		b.Set(rule+"/type/ssl-inbound-inspection/certificates", site.Name+kind)
	}
	if profile {
		b.Set(rule+"/profile", "inbound")
	}
	return nil
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func certificatePEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// Start serves the gateway, after Stop or Kill9 too.
func (g *Gateway) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process != nil {
		g.earlier = append(g.earlier, g.process.Log())
	}
	process, err := startProcess(ctx, g.Host, g.Env, func(line string) bool { return strings.HasPrefix(line, "listening ") },
		g.program, "serve", "-data", g.Dir)
	if err != nil {
		return err
	}
	g.process = process
	return nil
}

// Process is the gateway's newest process.
func (g *Gateway) Process() *Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.process
}

// PID is that of the newest process.
func (g *Gateway) PID() int { return g.Process().PID }

// Close stops the gateway, if it runs.
func (g *Gateway) Close() error {
	if p := g.Process(); p != nil && p.Running() {
		return p.Stop()
	}
	return nil
}

// Log returns what the gateway printed, since it was made.
func (g *Gateway) Log() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.earlier, "") + g.process.Log()
}

// Records returns the flow records that were written, the oldest first.
func (g *Gateway) Records() ([]flow.Record, error) {
	reader := logstore.OpenReader(g.files.Log())
	defer reader.Close()
	var list []flow.Record
	var after int64
	for {
		entries, err := reader.Query(context.Background(), logstore.Query{Log: logstore.Traffic, Oldest: true, After: after, Limit: logstore.MaxLimit})
		if err != nil || len(entries) == 0 {
			return list, err
		}
		for _, e := range entries {
			var r flow.Record
			if err := json.Unmarshal(e.Record, &r); err != nil {
				return nil, fmt.Errorf("reading record %q: %w", e.Record, err)
			}
			list = append(list, r)
			after = e.Seq
		}
	}
}

// WaitRecord waits until there is a record that match recognises beyond the
// first n.
func (g *Gateway) WaitRecord(ctx context.Context, n int, match func(*flow.Record) bool) (*flow.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		list, err := g.Records()
		if err != nil {
			return nil, err
		}
		for i := min(n, len(list)); i < len(list); i++ {
			if match(&list[i]) {
				return &list[i], nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no such record among %d", len(list))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Gateway starts a gateway.
func (w Test) Gateway(link *Registered, settings GatewaySettings) *Gateway {
	w.t.Helper()
	g, err := StartGateway(w.t.Context(), w.Dir(), link, settings)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	w.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			w.t.Errorf("closing the gateway: %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the end of the gateway's log:\n%s", tail(g.Log()))
			if list, err := g.Records(); err == nil && len(list) > 0 {
				last, _ := json.MarshalIndent(list[max(0, len(list)-3):], "", " ")
				w.t.Logf("the last records: %s", last)
			}
		}
	})
	return g
}
