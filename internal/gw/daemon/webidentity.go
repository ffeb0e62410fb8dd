package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"moongate/internal/gw/certstore"
	"moongate/internal/gw/config"
	"moongate/internal/gw/mgmt"
)

// webIdentity is what the HTTPS listener proves itself by: the certificate that
// the configuration names, or the one that the gateway made for itself. It
// follows the running configuration, and is a mgmt.Follower.
type webIdentity struct {
	own    *tls.Certificate
	store  func(*config.Snapshot) (*certstore.Store, error)
	logger *slog.Logger

	current atomic.Pointer[presented]
}

// presented is one configuration's choice.
type presented struct {
	entry    *certstore.Entry // nil for the gateway's own
	min, max uint16
}

// Prepare finds the certificate that a snapshot names.
func (w *webIdentity) Prepare(s *config.Snapshot) (mgmt.Prepared, error) {
	p := &presented{min: uint16(s.Management.MinVersion), max: uint16(s.Management.MaxVersion)}
	if name := s.Management.Certificate; name != "" {
		store, err := w.store(s)
		if err == nil {
			p.entry, err = store.Certificate(name)
		}
		if err != nil {
			return nil, fmt.Errorf("the management's certificate: %w", err)
		}
	}
	return &nextIdentity{w, p}, nil
}

// Begin is Prepare and Apply; with an error it presents the gateway's own.
func (w *webIdentity) Begin(s *config.Snapshot) error {
	next, err := w.Prepare(s)
	if err != nil {
		return err
	}
	next.Apply()
	return nil
}

type nextIdentity struct {
	of   *webIdentity
	next *presented
}

// Apply presents it from the next handshake on.
func (n *nextIdentity) Apply() { n.of.current.Store(n.next) }

// Discard has nothing to give back.
func (n *nextIdentity) Discard() {}

// keyTime is how long a handshake waits for a key on the HSM before it has the
// gateway's own certificate instead: who must come in to mend the way to the HSM
// comes in.
const keyTime = 3 * time.Second

func (w *webIdentity) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{*w.own}}
			if p := w.current.Load(); p != nil {
				c.MinVersion, c.MaxVersion = max(p.min, tls.VersionTLS12), p.max
				if pair := w.configured(hello.Context(), p.entry); pair != nil {
					c.Certificates = []tls.Certificate{*pair}
				}
			}
			return c, nil
		},
	}
}

// configured is the configured certificate, bound to a handshake; nil for the
// gateway's own.
func (w *webIdentity) configured(ctx context.Context, entry *certstore.Entry) *tls.Certificate {
	if entry == nil {
		return nil
	}
	first, cancel := context.WithTimeout(ctx, keyTime)
	defer cancel()
	key, err := entry.Key(first)
	if err != nil {
		w.logger.Warn("the management presents its own certificate", "instead of", entry.Name, "because", err)
		return nil
	}
	return &tls.Certificate{Certificate: entry.Presented(), PrivateKey: key.Bind(ctx), Leaf: entry.Leaf()}
}
