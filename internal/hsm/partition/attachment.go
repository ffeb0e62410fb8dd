package partition

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"moongate/internal/hsm/object"
)

// Attachment is one connection of a registered client.
type Attachment struct {
	h           *HSM
	name        string
	fingerprint string
	remote      string
	logins      knownLogins
}

// Attach admits a connection by the certificate's fingerprint (SHA-256, hex),
// which the TLS handshake has proved, and by the address it comes from.
func (h *HSM) Attach(ctx context.Context, fingerprint string, remote netip.AddrPort) (*Attachment, error) {
	a, err := h.attach(ctx, fingerprint, remote)
	if err == nil {
		return a, nil
	}
	if note, recorded := h.strangers.Admit(h.now()); recorded {
		if jerr := h.recordRefusal("client.attach", fingerprint, remote.String(), note, err); jerr != nil {
			return nil, jerr
		}
	}
	return nil, err
}

func (h *HSM) attach(ctx context.Context, fingerprint string, remote netip.AddrPort) (*Attachment, error) {
	h.mu.RLock()
	err := h.ready()
	c, check := h.clients[fingerprint], h.addressCheck
	h.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, object.Errorf(object.ErrNotRegistered, "no client has the certificate with fingerprint %s; register it with `client register`", fingerprint)
	}
	if check {
		if err := h.checkAddress(ctx, c, remote.Addr().Unmap()); err != nil {
			return nil, err
		}
	}
	return &Attachment{h: h, name: c.Name, fingerprint: fingerprint, remote: remote.String()}, nil
}

func (h *HSM) checkAddress(ctx context.Context, c *clientRecord, from netip.Addr) error {
	if c.Hostname == "" {
		if c.Address == from.WithZone("") {
			return nil
		}
		return object.Errorf(object.ErrAddress, "client %s is registered for %v and calls from %v; register it with -ip %v -replace, and assign its partitions again", c.Name, c.Address, from, from)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := h.lookup(ctx, c.Hostname)
	if err != nil {
		return object.Errorf(object.ErrAddress, "client %s is registered for host name %s, which does not resolve here", c.Name, c.Hostname)
	}
	for _, a := range addrs {
		if a.Unmap().WithZone("") == from.WithZone("") {
			return nil
		}
	}
	return object.Errorf(object.ErrAddress, "client %s is registered for host name %s, which is not %v", c.Name, c.Hostname, from)
}

// record returns the attachment's registration as it is now.
func (a *Attachment) record() (*clientRecord, error) {
	a.h.mu.RLock()
	defer a.h.mu.RUnlock()
	if c := a.h.clients[a.fingerprint]; c != nil {
		return c, nil
	}
	return nil, object.Errorf(object.ErrNotRegistered, "the registration of client %s was taken away", a.name)
}

// Partitions lists what is assigned to the client.
func (a *Attachment) Partitions() ([]object.PartitionInfo, error) {
	c, err := a.record()
	if err != nil {
		return nil, err
	}
	a.h.mu.RLock()
	defer a.h.mu.RUnlock()
	var list []object.PartitionInfo
	for _, id := range c.Partitions {
		if p := a.h.partitions[id]; p != nil {
			list = append(list, object.PartitionInfo{Label: p.label, Serial: p.serial})
		}
	}
	return list, nil
}

// OpenSession opens a session on an assigned partition, by label or serial
// number; an empty name is the only one that is assigned.
func (a *Attachment) OpenSession(name string) (*Session, error) {
	c, err := a.record()
	if err != nil {
		return nil, err
	}
	p, err := a.h.assigned(c, name)
	if err != nil {
		if note, recorded := a.h.outsiders.admit(a.name, a.h.now()); recorded {
			if jerr := a.h.recordRefusal("session.open", a.name, a.remote, note, err); jerr != nil {
				return nil, jerr
			}
		}
		return nil, err
	}
	return &Session{h: a.h, p: p, a: a, client: a.name, remote: a.remote}, nil
}

// Close ends the attachment: what it remembers of logins is wiped. Its sessions
// were closed before.
func (a *Attachment) Close() { a.logins.wipe() }

// assigned tells no difference between a partition that is not there and one
// that is another's.
func (h *HSM) assigned(c *clientRecord, name string) (*partition, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if name == "" {
		if len(c.Partitions) != 1 {
			return nil, object.Errorf(object.ErrNotAssigned, "client %s has %d partitions; name one, or assign one with `client assignPartition -c %s -p PARTITION`", c.Name, len(c.Partitions), c.Name)
		}
		if p := h.partitions[c.Partitions[0]]; p != nil {
			return p, nil
		}
		return nil, errors.New("assigned partition is missing")
	}
	if p, err := h.partitionNamed(name); err == nil && slices.Contains(c.Partitions, p.id) {
		return p, nil
	}
	return nil, object.Errorf(object.ErrNotAssigned, "partition %q is not assigned to client %s; assign it with `client assignPartition -c %s -p %s`", name, c.Name, c.Name, name)
}
