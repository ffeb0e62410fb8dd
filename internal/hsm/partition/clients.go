package partition

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// ClientStatus describes a registered client.
type ClientStatus struct {
	Name        string    `json:"name"`
	Address     string    `json:"address,omitempty"`
	Hostname    string    `json:"hostname,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	Registered  time.Time `json:"registered"`
	Partitions  []string  `json:"partitions"`
}

// Registration is what makes a client: its name, where it calls from (exactly
// one of Address and Hostname) and the certificate that it shows.
type Registration struct {
	Name        string
	Address     string
	Hostname    string
	Certificate []byte // PEM, one certificate
	// Replace takes an existing registration of this name away first.
	Replace bool
}

func (h *HSM) loadClients(tx *store.Tx) error {
	for id, err := range tx.Records(kindClient) {
		if err != nil {
			return fmt.Errorf("reading clients: %w", err)
		}
		c := new(clientRecord)
		if err := load(tx, kindClient, id, c); err != nil {
			return err
		}
		h.clients[c.Fingerprint] = c
	}
	return nil
}

// without returns a copy that the partition is not assigned to.
func (c *clientRecord) without(id object.ID) *clientRecord {
	fresh := *c
	fresh.Partitions = slices.DeleteFunc(slices.Clone(c.Partitions), func(other object.ID) bool { return other == id })
	return &fresh
}

// clientNamed, clientsOf and named need mu.
func (h *HSM) clientNamed(name string) (*clientRecord, error) {
	for _, c := range h.clients {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, object.Errorf(object.ErrObjectNotFound, "there is no client %q; `client list` shows those that are", name)
}

func (h *HSM) clientsOf(id object.ID) []*clientRecord {
	var list []*clientRecord
	for _, c := range h.clients {
		if slices.Contains(c.Partitions, id) {
			list = append(list, c)
		}
	}
	return list
}

func (h *HSM) named(client, name string) (*clientRecord, *partition, error) {
	c, err := h.clientNamed(client)
	if err != nil {
		return nil, nil, err
	}
	p, err := h.partitionNamed(name)
	return c, p, err
}

// RegisterClient admits a client by its certificate and address. With Replace
// an earlier registration of the name goes, with its partitions and its live
// connections, in the same step.
func (r *Registrar) RegisterClient(ctx context.Context, c Registration) error {
	h := r.h
	return r.exclusively(ctx, "client.register", c.Name, func() error {
		fresh, err := c.record(h.now())
		if err != nil {
			return err
		}
		old, _ := h.clientNamed(c.Name)
		if old != nil && !c.Replace {
			return object.Errorf(object.ErrExists, "client %q is registered already; remove it with `client delete -client %s`, or register with -replace; either takes its partitions away", c.Name, c.Name)
		}
		if other := h.clients[fresh.Fingerprint]; other != nil && other != old {
			return object.Errorf(object.ErrExists, "this certificate is registered already, for client %q; each client needs a certificate of its own", other.Name)
		}
		if old == nil && len(h.clients) >= MaxClients {
			return object.Errorf(object.ErrBusy, "%d clients, and no more fit; delete one first", len(h.clients))
		}
		if err := h.store.Update(func(tx *store.Tx) error { return save(tx, kindClient, fresh.Name, fresh) }); err != nil {
			return err
		}
		if old != nil {
			delete(h.clients, old.Fingerprint)
			h.disconnect(old.Fingerprint)
		}
		h.clients[fresh.Fingerprint] = fresh
		return nil
	})
}

func (r *Registration) record(now time.Time) (*clientRecord, error) {
	if err := checkName("client name", r.Name); err != nil {
		return nil, err
	}
	c := &clientRecord{Name: r.Name, Registered: now.UTC()}
	switch {
	case (r.Address == "") == (r.Hostname == ""):
		return nil, object.Errorf(object.ErrArgumentsBad, "a client is registered by exactly one of -ip and -hostname")
	case r.Address != "":
		addr, err := netip.ParseAddr(r.Address)
		if err != nil {
			return nil, object.Errorf(object.ErrArgumentsBad, "-ip %q is not an IP address", r.Address)
		}
		c.Address = addr.Unmap().WithZone("") // the zone is of one interface here
	default:
		if err := checkName("-hostname", r.Hostname); err != nil {
			return nil, err
		}
		c.Hostname = strings.ToLower(r.Hostname)
	}
	der, err := parseClientCertificate(r.Certificate)
	if err != nil {
		return nil, object.Errorf(object.ErrArgumentsBad, "the certificate of client %q %v", r.Name, err)
	}
	sum := sha256.Sum256(der)
	c.Certificate, c.Fingerprint = der, hex.EncodeToString(sum[:])
	return c, nil
}

// DeleteClient takes a client's registration away and ends its connections.
func (r *Registrar) DeleteClient(ctx context.Context, name string) error {
	h := r.h
	return r.exclusively(ctx, "client.delete", name, func() error {
		c, err := h.clientNamed(name)
		if err != nil {
			return err
		}
		if err := h.store.Update(func(tx *store.Tx) error { return tx.DeleteRecord(kindClient, name) }); err != nil {
			return err
		}
		delete(h.clients, c.Fingerprint)
		h.disconnect(c.Fingerprint)
		return nil
	})
}

// AssignPartition lets a client reach a partition.
func (r *Registrar) AssignPartition(ctx context.Context, client, name string) error {
	h := r.h
	return r.exclusively(ctx, "client.assignPartition", client+" "+name, func() error {
		c, p, err := h.named(client, name)
		if err != nil {
			return err
		}
		if slices.Contains(c.Partitions, p.id) {
			return object.Errorf(object.ErrExists, "partition %s is assigned to client %s already", p.label, c.Name)
		}
		fresh := *c
		fresh.Partitions = append(slices.Clone(c.Partitions), p.id)
		if err := h.store.Update(func(tx *store.Tx) error { return save(tx, kindClient, c.Name, &fresh) }); err != nil {
			return err
		}
		h.clients[c.Fingerprint] = &fresh
		return nil
	})
}

// RevokePartition takes a partition from a client and ends its connections.
func (r *Registrar) RevokePartition(ctx context.Context, client, name string) error {
	h := r.h
	return r.exclusively(ctx, "client.revokePartition", client+" "+name, func() error {
		c, p, err := h.named(client, name)
		if err != nil {
			return err
		}
		if !slices.Contains(c.Partitions, p.id) {
			return object.Errorf(object.ErrNotAssigned, "partition %s is not assigned to client %s", p.label, c.Name)
		}
		fresh := c.without(p.id)
		if err := h.store.Update(func(tx *store.Tx) error { return save(tx, kindClient, c.Name, fresh) }); err != nil {
			return err
		}
		h.clients[c.Fingerprint] = fresh
		h.disconnect(c.Fingerprint)
		return nil
	})
}

// SetAddressCheck says whether a client must come from the address that it is
// registered for. It is on unless it was turned off.
func (r *Registrar) SetAddressCheck(ctx context.Context, on bool) error {
	h := r.h
	return r.exclusively(ctx, "ntls.ipcheck", fmt.Sprint(on), func() error {
		err := h.updateHSM(func(record *hsmRecord) { record.AddressCheck = on })
		if err != nil {
			return err
		}
		h.addressCheck = on
		return nil
	})
}

// Clients lists every registered client, by name.
func (h *HSM) Clients() []ClientStatus {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]ClientStatus, 0, len(h.clients))
	for _, c := range h.clients {
		s := ClientStatus{Name: c.Name, Hostname: c.Hostname, Fingerprint: c.Fingerprint, Registered: c.Registered, Partitions: []string{}}
		if c.Address.IsValid() {
			s.Address = c.Address.String()
		}
		for _, id := range c.Partitions {
			if p := h.partitions[id]; p != nil {
				s.Partitions = append(s.Partitions, p.label)
			}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b ClientStatus) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Client describes one registered client.
func (h *HSM) Client(name string) (ClientStatus, error) {
	for _, c := range h.Clients() {
		if c.Name == name {
			return c, nil
		}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err := h.ready(); err != nil {
		return ClientStatus{}, err
	}
	_, err := h.clientNamed(name)
	return ClientStatus{}, err
}
