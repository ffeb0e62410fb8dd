// Package embedded is `moongate up`: an HSM and a gateway on one machine, as
// two processes, so that the gateway's memory holds no key in the
// demonstration either. The first start makes everything: passwords, HSM,
// partition, CAs, registration, configuration. Later starts go on with what is
// there; a start that was interrupted is completed by the next.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"moongate/internal/durable"
	"moongate/internal/gw/config"
	gateway "moongate/internal/gw/daemon"
)

// Options say where and how.
type Options struct {
	// Dir is the data directory.
	Dir string
	// Programs is the directory with moongate and moongate-hsm.
	Programs string
	// Listen is the address that proxy and inbound listeners are opened on;
	// empty is that of the configuration, 127.0.0.1.
	Listen string
	// HSMs is how many network HSMs there are, 1 to 16; 0 is as many as there are
	// already, one at first. Several are one HA group.
	HSMs int
	// Ports are for the first start. HSMs behind the first one have ports beside
	// its, or free ones.
	Ports Ports
	// Out gets what a person reads; Logger the rest.
	Out    io.Writer
	Logger *slog.Logger
}

// Up provisions what is missing, starts both processes, and supervises them
// until ctx is done.
func Up(ctx context.Context, opts Options) error {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return err
	}
	opts.Dir = dir
	l := layout{dir}
	if err := makeTop(l.dir); err != nil {
		return err
	}
	lock, err := durable.NewLock(filepath.Join(l.dir, lockFile))
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("another `moongate up` runs on this data directory: %w", err)
	} else if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := durable.RemoveTemps(l.dir); err != nil {
		return err
	}

	hsms, err := l.howMany(opts.HSMs)
	if err != nil {
		return err
	}
	ports := opts.Ports
	var configured *config.Snapshot
	if configured, err = gateway.Running(l.gateway()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the gateway's configuration is not usable:\n%w", err)
	} else if err == nil {
		hsm, err := readHSMSettings(l.hsmSettings())
		if err != nil {
			return err
		}
		ports = portsOf(configured, hsm)
		if opts.Ports != DefaultPorts && opts.Ports != (Ports{}) && opts.Ports != ports {
			fmt.Fprintf(opts.Out, "NOTE: ports are for the first start; the gateway's configuration and %s hold.\n", l.hsmSettings())
		}
	} else if err := ports.choose(opts.Listen); err != nil {
		return err
	}
	cred, err := loadOrMakeCredentials(l)
	if err != nil {
		return err
	}
	ca, err := loadOrMakeAuthority(l.originAuthority())
	if err != nil {
		return err
	}
	further, err := furtherPorts(l, ports, hsms)
	if err != nil {
		return err
	}
	u := &up{opts: opts, l: l, configured: configured, ports: ports, further: further, cred: cred, ca: ca}
	u.hsms = u.hsmsOf()
	u.chooseUsers()
	return u.run(ctx)
}

// makeTop makes the data directory. Others may pass through it, for the
// programs run as users of their own, but not look into it. A directory that
// holds other things is not taken over.
func makeTop(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking into the data directory: %w", err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lost+found" })
	if len(entries) > 0 && !exists(filepath.Join(dir, lockFile)) {
		return fmt.Errorf("%s holds something else (%s): name a data directory that is empty or not there yet", dir, entries[0].Name())
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := durable.Mkdir(dir); err != nil {
		return err
	}
	return os.Chmod(dir, 0o711)
}

// lockFile is the first thing in a data directory.
const lockFile = "lock"

type up struct {
	opts Options
	l    layout
	// configured is what an earlier start, or an administrator, has written;
	// nil at the first start.
	configured *config.Snapshot
	ports      Ports
	further    []HSMPorts // of the HSMs behind the first one
	hsms       []*hsm
	cred       Credentials
	ca         *authority

	hsmUser, gatewayUser *user
}

func (u *up) chooseUsers() {
	var why string
	u.hsmUser, why = userFor(hsmUser, hsmUserID, u.l.hsm(), u.program("moongate-hsm"))
	if u.hsmUser != nil {
		u.gatewayUser, why = userFor(gatewayUser, gatewayUserID, u.l.gateway().Dir(), u.program("moongate"))
	}
	if u.hsmUser == nil || u.gatewayUser == nil {
		u.hsmUser, u.gatewayUser = nil, nil
		u.opts.Logger.Warn("HSM and gateway run as the same user: one could read the other's files", "because", why)
	}
}

func (u *up) program(name string) string { return filepath.Join(u.opts.Programs, name) }

func (u *up) say(format string, args ...any) { fmt.Fprintf(u.opts.Out, format+"\n", args...) }

// run starts, in this order, HSM, origin and gateway, and stops them in the
// reverse order.
func (u *up) run(ctx context.Context) error {
	for _, h := range u.hsms {
		if err := u.makeHSM(ctx, h); err != nil {
			return err
		}
	}
	if ip := net.ParseIP(u.opts.Listen); u.opts.Listen != "" && !ip.IsLoopback() {
		u.say("WARNING: the proxy listens on %s: everybody who reaches this address can use it.", u.opts.Listen)
	}

	// Each stage has a context of its own, so that what was started last ends
	// first and nothing loses what it stands on.
	hsm, stopHSM := u.stage(ctx)
	defer stopHSM()
	origin, stopOrigin := u.stage(ctx)
	defer stopOrigin()
	gateway, stopGateway := u.stage(ctx)
	defer stopGateway()

	for _, h := range u.hsms {
		if err := u.startHSM(ctx, hsm, h); err != nil {
			return err
		}
	}
	// Provisioning ends with the HSM, too.
	provisioning, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(hsm.ctx, cancel)()
	if err := u.provision(provisioning); err != nil {
		return err
	}
	demo, err := newOrigin(local(u.ports.Origin), u.ca)
	if err != nil {
		return err
	}
	origin.group.Go(func() error { return demo.run(origin.ctx) })
	if err := u.startGateway(ctx, gateway); err != nil {
		return err
	}
	u.announce()

	var first error
	select {
	case <-ctx.Done():
		u.say("stopping")
	case <-hsm.ctx.Done():
	case <-origin.ctx.Done():
	case <-gateway.ctx.Done():
	}
	for _, s := range []*stage{gateway, origin, hsm} {
		s.cancel()
		if err := s.group.Wait(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// stage is a part that is started and stopped as one.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  *errgroup.Group
}

// stage does not end with parent's cancellation: run ends stages in order.
func (u *up) stage(parent context.Context) (*stage, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	group, ctx := errgroup.WithContext(ctx)
	s := &stage{ctx, cancel, group}
	return s, func() {
		cancel()
		_ = group.Wait() // run has told of its error
	}
}

// supervise starts a program in a stage and waits for its first sign of life,
// until ctx is done.
func (s *stage) supervise(ctx context.Context, p *program) error {
	ready := make(chan struct{})
	var once sync.Once
	s.group.Go(func() error { return p.run(s.ctx, func(string) { once.Do(func() { close(ready) }) }) })
	select {
	case <-ready:
		return nil
	case <-s.ctx.Done():
		return s.group.Wait()
	case <-ctx.Done():
		return fmt.Errorf("starting %s: %w", p.name, ctx.Err())
	}
}

// makeHSM makes an HSM where there is none, and its configuration.
func (u *up) makeHSM(ctx context.Context, h *hsm) error {
	label := "moongate"
	if h.number > 1 {
		label += strconv.Itoa(h.number)
	}
	if err := h.tool.ensureInitialized(ctx, u.cred, label); err != nil {
		return err
	}
	settings := filepath.Join(h.tool.dir, hsmSettingsFile)
	var err error
	switch {
	case h.number > 1 && !exists(settings):
		err = writeFurtherSettings(settings, u.further[h.number-2])
	case h.number == 1 && u.configured == nil:
		err = writeHSMSettings(settings, u.ports)
	}
	if err != nil {
		return err
	}
	if err := give(h.tool.dir, u.hsmUser); err != nil {
		return fmt.Errorf("giving the HSM's directory to its user: %w", err)
	}
	return nil
}

func (u *up) startHSM(ctx context.Context, s *stage, h *hsm) error {
	name := filepath.Base(h.tool.dir)
	log, err := openMessages(u.l.log(name))
	if err != nil {
		return err
	}
	args := []string{"-data", h.tool.dir, "serve"}
	if h.number == 1 { // the others have it in their configuration
		args = append(args, "-listen", h.address)
	}
	h.program = &program{name: strings.Replace(name, "hsm", "moongate-hsm", 1), path: h.tool.path, user: u.hsmUser, log: log, logger: u.opts.Logger, args: args}
	return s.supervise(ctx, h.program)
}

// provision makes what is missing between HSMs and gateway: registration, keys,
// certificates, group, configuration.
func (u *up) provision(ctx context.Context) error {
	if err := u.ensureLink(); err != nil {
		return fmt.Errorf("making the gateway's link to the HSM: %w", err)
	}
	for _, h := range u.hsms {
		if err := h.tool.ensureAccount(ctx, u.cred); err != nil {
			return err
		}
	}
	if err := u.hsms[0].tool.ensurePartition(ctx, u.cred, u.l.gateway().ClientCertificate()); err != nil {
		return err
	}
	if u.configured == nil {
		u.say("making CA keys on the HSM")
		c, err := dialHSM(ctx, u.l, u.hsms[0], u.cred)
		if err != nil {
			return err
		}
		defer c.Close()
		certificates, err := ensureCertificates(ctx, c, u.l)
		if err != nil {
			return err
		}
		if err := u.provisionGroup(ctx); err != nil {
			return err
		}
		if err := writeConfiguration(u.l.gateway().Config(), u.ports, u.hsms, certificates, u.ca.PEM()); err != nil {
			return err
		}
	} else {
		if err := republish(u.l, u.configured); err != nil {
			return err
		}
		// What has run before runs again, whatever an administrator changed.
		if err := u.provisionGroup(ctx); err != nil {
			u.say("WARNING: the HSMs are not one group: %v", err)
		}
	}
	if err := ensureFirstAdministrator(u.l, u.cred); err != nil {
		return fmt.Errorf("making the gateway's first administrator: %w", err)
	}
	if err := give(u.l.gateway().Dir(), u.gatewayUser); err != nil {
		return fmt.Errorf("giving the gateway's directory to its user: %w", err)
	}
	return nil
}

// provisionGroup makes several HSMs one: in one domain, with a partition each,
// in one group.
func (u *up) provisionGroup(ctx context.Context) error {
	if len(u.hsms) == 1 {
		return nil
	}
	if err := u.introduce(ctx); err != nil {
		return err
	}
	for _, h := range u.hsms[1:] {
		if err := h.tool.ensurePartition(ctx, u.cred, u.l.gateway().ClientCertificate()); err != nil {
			return err
		}
	}
	return u.ensureGroup(ctx)
}

func (u *up) startGateway(ctx context.Context, s *stage) error {
	log, err := openMessages(u.l.log("gateway"))
	if err != nil {
		return err
	}
	args := []string{"serve", "-data", u.l.gateway().Dir()}
	if u.opts.Listen != "" {
		args = append(args, "-listen", u.opts.Listen)
	}
	return s.supervise(ctx, &program{
		name: "moongate", path: u.program("moongate"), user: u.gatewayUser, log: log, logger: u.opts.Logger, args: args,
	})
}

func (u *up) announce() {
	for _, h := range u.hsms {
		name, of := "HSM", ""
		if len(u.hsms) > 1 {
			name, of = fmt.Sprintf("HSM %d", h.number), fmt.Sprintf(", process %d", h.program.pid.Load())
		}
		u.say("%-8s %s%s, data in %s, messages in %s", name, h.address, of, h.tool.dir, u.l.log(filepath.Base(h.tool.dir)))
		if h.shell != 0 {
			u.say("         its shell: ssh -p %d admin@127.0.0.1 (password: hsm-admin in the secrets)", h.shell)
		}
	}
	host := u.host()
	u.say("gateway  https://%s/ (web UI; XML API at /api/; certificate: %s), figures on http://%s/metrics", net.JoinHostPort(host, strconv.Itoa(u.ports.Web)), u.l.gateway().WebCertificate(), u.figures())
	u.say("         its shell: ssh -p %d %s@%s (password: gateway-admin in the secrets, until it is changed)", u.ports.Shell, gateway.FirstAdmin, host)
	u.say("         data in %s, messages in %s", u.l.gateway().Dir(), u.l.log("gateway"))
	u.say("records  %s (shown by `moongate log decryption`)", u.l.gateway().Log())
	u.say("secrets  %s (shown by `moongate credentials`)", u.l.credentials())
	u.say("CA       %s and %s: trust them where the browser is", u.l.published("forward-trust"), u.l.published("forward-trust-ecdsa"))
	u.say("")
	u.say("Try, from another terminal: through the forward proxy, then to the protected server.")
	u.say("curl --noproxy '' --proxy http://127.0.0.1:%d --cacert %s https://localhost:%d/", u.ports.Proxy, shellWord(u.l.published("forward-trust-ecdsa")), u.ports.Origin)
	u.say("curl --noproxy '*' --cacert %s https://localhost:%d/", shellWord(u.l.published("inbound-demo-ecdsa")), u.ports.Inbound)
	u.adviseGateway()
	u.adviseKilling()
	u.say("")
	u.say("ready")
}

// host is where the gateway's management is.
func (u *up) host() string {
	if u.configured != nil {
		return u.configured.Management.Address.String()
	}
	return "127.0.0.1"
}

// figures is where the gateway's figures are.
func (u *up) figures() string { return net.JoinHostPort(u.host(), strconv.Itoa(u.ports.Figures)) }

// shellWord writes a path as one word of a shell's command line.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-+:@%,", r)
	}
	if strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
