package daemon

import (
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/hsmlink"
	"moongate/internal/gw/logstore"
	"moongate/internal/gw/mgmt"
)

// openLink opens the way to the HSMs.
func (p *parts) openLink() (err error) {
	p.link, err = hsmlink.New(hsmlink.Options{
		Dir: p.files.HSM(), Device: p.vault.Device(), Version: p.opts.Version,
		Logger: p.opts.Logger, Registerer: p.figures, Events: p.linkEvent,
	})
	if err == nil {
		p.onClose(p.link.Close)
	}
	return err
}

// linkEvent writes an event of the link's into the system log.
func (p *parts) linkEvent(e hsmlink.Event) {
	severity := map[hsmlink.Severity]logstore.Severity{
		hsmlink.Informational: logstore.Informational, hsmlink.Warning: logstore.Low, hsmlink.High: logstore.High, hsmlink.Critical: logstore.Critical,
	}[e.Severity]
	p.logs.System(logstore.Event{
		Time: time.Now(), Severity: severity, Type: "hsm", EventID: e.ID, Object: e.Object, Description: e.Text,
	})
}

// expected tells the link what the gateway is called, and which private keys the
// running configuration's certificates need on the HSM. It is a mgmt.Follower.
type expected struct{ link *hsmlink.Manager }

// Prepare collects them.
func (e expected) Prepare(s *config.Snapshot) (mgmt.Prepared, error) {
	next := &nextExpected{link: e.link, hostname: s.Hostname}
	for i := range s.Certificates {
		if c := &s.Certificates[i]; c.OnHSM {
			next.list = append(next.list, hsmlink.Expected{Certificate: c.Name, PublicKey: c.Leaf().PublicKey})
		}
	}
	return next, nil
}

// Begin is Prepare and Apply.
func (e expected) Begin(s *config.Snapshot) error {
	next, err := e.Prepare(s)
	if err == nil {
		next.Apply()
	}
	return err
}

type nextExpected struct {
	link     *hsmlink.Manager
	hostname string
	list     []hsmlink.Expected
}

func (n *nextExpected) Apply() {
	n.link.SetHostname(n.hostname)
	n.link.Expect(n.list)
}

func (n *nextExpected) Discard() {}
