package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"moongate/internal/durable"
	"moongate/internal/gw/admin"
	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/jobs"
	"moongate/internal/gw/keys"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/plane"
	"moongate/internal/gw/revision"
	"moongate/internal/gw/vault"
)

// parts are what a gateway is made of, opened. They are closed in the reverse
// order.
type parts struct {
	files   Files
	opts    Options
	figures *prometheus.Registry

	vault     *vault.Vault
	revisions *revision.Store
	guard     *admin.Guard
	logs      *logstore.Store
	jobs      *jobs.Table
	hsm       *keys.Switch     // the way to the HSM
	link      *hsmlink.Manager // what that leads to
	keys      *certstore.Keys  // those there and the software ones
	plane     *plane.Plane
	serial    string

	closers []func() error
}

// openParts opens everything that is on the disk, and makes what is missing. It
// opens no port and waits for no HSM.
func openParts(opts Options) (p *parts, err error) {
	p = &parts{files: In(opts.Dir), opts: opts, figures: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	p.figures.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, dir := range []string{p.files.HSM(), p.files.Management()} {
		if err := durable.Mkdir(dir); err != nil {
			return p, err
		}
	}
	if p.serial, err = loadSerial(p.files.Serial()); err != nil {
		return p, err
	}
	p.hsm = keys.NewSwitch()
	_, missing := os.Stat(p.files.Vault())
	if p.vault, err = vault.Open(p.files.Vault(), vault.Options{Logger: opts.Logger, Wrapper: p.hsm}); err != nil {
		return p, fmt.Errorf("opening the vault: %w", err)
	}
	p.onClose(p.vault.Close)
	p.figures.MustRegister(figuresOf(p.vault)...)
	if missing != nil {
		opts.say("master key made: %s opens every secret of the configuration; keep it, and a backup (`moongate backup`), safe", p.vault.MasterKeyFile())
	}
	if err := checkImport(p.files, opts); err != nil {
		return p, err
	}
	if p.revisions, err = revision.Open(revision.Options{Dir: p.files.Revisions(), Import: p.files.Config(), Logger: opts.Logger}); err != nil {
		return p, err
	}
	if err := setAside(p.files, opts); err != nil {
		return p, err
	}
	if p.guard, err = admin.Open(admin.Options{Dir: p.files.Guard()}); err != nil {
		return p, err
	}
	if p.logs, err = logstore.Open(logstore.Options{Dir: p.files.Log(), Logger: opts.Logger, Registerer: p.figures}); err != nil {
		return p, err
	}
	p.onClose(p.logs.Close)
	if p.jobs, err = jobs.Open(jobs.Options{Path: p.files.Jobs(), Logger: opts.Logger}); err != nil {
		return p, err
	}
	p.onClose(p.jobs.Close)
	return p, p.makePlane()
}

// makePlane makes a data plane without a configuration yet.
func (p *parts) makePlane() (err error) {
	if err := p.openLink(); err != nil {
		return err
	}
	p.keys = certstore.NewKeys(p.hsm, p.vault)
	p.plane, err = plane.New(plane.Options{
		OpenHSM: p.link.Open,
		HSM:     p.hsm, Provider: p.keys, Sink: p.logs, Logger: p.opts.Logger, Registerer: p.figures, Listen: p.opts.Listen,
	})
	if err == nil {
		p.onClose(p.plane.Close)
	}
	return err
}

// checkImport refuses a configuration file that the first start would take over
// and that says what no gateway can do: everything that is wrong, with its line.
func checkImport(files Files, opts Options) error {
	if _, _, err := revision.ReadRunning(files.Revisions()); !errors.Is(err, revision.ErrNoValue) && !errors.Is(err, fs.ErrNotExist) {
		return nil // there is one already, or revision.Open says what is wrong
	}
	if _, err := os.Stat(files.Config()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, warnings, err := config.Load(files.Config())
	for _, w := range warnings {
		opts.Logger.Warn("configuration", "warning", w.String())
	}
	return err
}

// setAside renames the configuration file that the first start took over: from
// then on the configuration is changed by commits alone, and a file that looks
// as if it were read would mislead.
func setAside(files Files, opts Options) error {
	if _, err := os.Stat(files.Config()); err != nil {
		return nil
	}
	if _, err := os.Stat(files.Imported()); err == nil {
		opts.Logger.Warn("a configuration file is not read once there is a running configuration: load it and commit", "file", files.Config())
		return nil
	}
	if err := durable.Rename(files.Config(), files.Imported()); err != nil {
		return fmt.Errorf("setting the imported configuration aside: %w", err)
	}
	return nil
}

// manager makes the management of the parts.
func (p *parts) manager(followers ...mgmt.Follower) (*mgmt.Manager, error) {
	return mgmt.New(mgmt.Parts{
		Revisions: p.revisions, Vault: p.vault, Guard: p.guard, Jobs: p.jobs, Logs: p.logs, Plane: p.plane,
		HSM: p.hsm, Link: p.link, Keys: p.keys, Followers: append(followers, expected{p.link}), Logger: p.opts.Logger,
		Device: mgmt.Device{Version: p.opts.Version, Serial: p.serial, Started: time.Now()},
	})
}

// certificates are those of a snapshot.
func (p *parts) certificates(s *config.Snapshot) (*certstore.Store, error) {
	return certstore.New(s.Certificates, p.keys)
}

// waitForHSM gives the HSM a moment, so that the first clients find it there. A
// gateway whose HSM is away starts all the same.
func (p *parts) waitForHSM(ctx context.Context, s *config.Snapshot) {
	if s == nil || s.HSM == nil {
		return
	}
	first, cancel := context.WithTimeout(ctx, firstLogin)
	defer cancel()
	if err := p.hsm.Ready(first); err != nil && ctx.Err() == nil {
		p.opts.Logger.Warn("starting without the HSM: what needs a key fails until it is there", "cause", err)
		return
	}
	if err := p.vault.Unlock(first); err != nil && ctx.Err() == nil {
		p.opts.Logger.Warn("starting with a locked vault: software keys fail until it opens", "cause", err)
	}
}

const firstLogin = 3 * time.Second

func (p *parts) onClose(do func() error) { p.closers = append(p.closers, do) }

// close closes the parts, the last one first.
func (p *parts) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	return errors.Join(errs...)
}
