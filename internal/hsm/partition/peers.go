package partition

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// MaxPinned is how many other HSMs one may pin.
const MaxPinned = 64

// PinnedPeer is another HSM, whose identity the Security Officer has vouched
// for: partitions here may clone with partitions there, where their owners say
// so, and the domain may be shared with it.
type PinnedPeer struct {
	Name        string
	ID          object.HSMID
	Certificate []byte // DER
	Added       time.Time
}

// peerRecord is one of them, by its name.
type peerRecord struct {
	Name        string    `json:"name"`
	Certificate []byte    `json:"certificate"`
	Added       time.Time `json:"added"`
}

func (r *peerRecord) pinned() PinnedPeer {
	return PinnedPeer{Name: r.Name, ID: hsmID(r.Certificate), Certificate: r.Certificate, Added: r.Added}
}

// AddPeer pins another HSM by its identity's certificate, DER or PEM, which came
// by a way that the Security Officer trusts. ErrExists for a name that is taken
// and for an HSM that is pinned.
func (o *Officer) AddPeer(ctx context.Context, name string, cert []byte) error {
	h := o.h
	if block, rest := pem.Decode(cert); block != nil && block.Type == "CERTIFICATE" && len(bytes.TrimSpace(rest)) == 0 {
		cert = block.Bytes
	}
	id := hsmID(cert)
	return o.exclusively(ctx, "peer.add", fmt.Sprintf("%s: HSM %v", name, id), func() error {
		if err := checkName("peer", name); err != nil {
			return err
		}
		if strings.ContainsAny(name, "@:") {
			return object.Errorf(object.ErrArgumentsBad, "peer %q holds @ or :, which stand between names elsewhere; leave them out", name)
		}
		if _, err := parseIdentity(cert); err != nil {
			return err
		}
		_, own, err := h.identityOf()
		if err != nil {
			return err
		}
		if own == id {
			return object.Errorf(object.ErrArgumentsBad, "this is the identity of this HSM itself; take the other one's")
		}
		return h.store.Update(func(tx *store.Tx) error {
			there, err := pinnedPeers(tx)
			if err != nil {
				return err
			}
			for _, p := range there {
				switch {
				case p.ID == id && p.Name == name:
					return object.Errorf(object.ErrExists, "HSM %v is pinned as %s already", id, name)
				case p.ID == id:
					return object.Errorf(object.ErrExists, "HSM %v is pinned as %s already; take that name, or remove it first", id, p.Name)
				case p.Name == name:
					return object.Errorf(object.ErrExists, "peer %s is another HSM, %v; choose another name, or remove it first", name, p.ID)
				}
			}
			if len(there) >= MaxPinned {
				return object.Errorf(object.ErrBusy, "%d peers, and no more fit; remove one first", len(there))
			}
			return save(tx, kindPeer, name, &peerRecord{name, bytes.Clone(cert), h.now().UTC()})
		})
	})
}

// RemovePeer forgets another HSM, and takes its partitions from the lists of
// those that clone with them here. What was cloned stays where it is.
func (o *Officer) RemovePeer(ctx context.Context, name string) error {
	h := o.h
	return o.exclusively(ctx, "peer.remove", name, func() error {
		return h.store.Update(func(tx *store.Tx) error {
			peer, err := peerNamed(tx, name)
			if err != nil {
				return err
			}
			for id := range h.partitions {
				err := changeReplication(tx, id, func(r *replicationRecord) error {
					r.Peers = slices.DeleteFunc(r.Peers, func(l listedPeer) bool { return l.hsm() == peer.ID })
					return nil
				})
				if err != nil {
					return err
				}
			}
			return tx.DeleteRecord(kindPeer, name)
		})
	})
}

// Peers lists the HSMs that are pinned, by name.
func (h *HSM) Peers() ([]PinnedPeer, error) {
	if _, err := h.current(); err != nil {
		return nil, err
	}
	var list []PinnedPeer
	err := h.store.View(func(tx *store.Tx) (err error) {
		list, err = pinnedPeers(tx)
		return err
	})
	return list, err
}

func pinnedPeers(tx *store.Tx) ([]PinnedPeer, error) {
	var list []PinnedPeer
	for name, err := range tx.Records(kindPeer) {
		if err != nil {
			return nil, fmt.Errorf("reading peers: %w", err)
		}
		var record peerRecord
		if err := load(tx, kindPeer, name, &record); err != nil {
			return nil, err
		}
		list = append(list, record.pinned())
	}
	slices.SortFunc(list, func(a, b PinnedPeer) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

func peerNamed(tx *store.Tx, name string) (*PinnedPeer, error) {
	list, err := pinnedPeers(tx)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p.Name == name {
			return &p, nil
		}
	}
	return nil, object.Errorf(object.ErrObjectNotFound, "no peer is called %q; `hsm peer list` shows those that are pinned", name)
}

// peer is a pinned HSM with the key that it signs with.
type peer struct {
	PinnedPeer
	key *ecdsa.PublicKey
}

// peerNamed returns a pinned HSM by its name here.
func (h *HSM) peerNamed(name string) (*peer, error) {
	var pinned *PinnedPeer
	err := h.store.View(func(tx *store.Tx) (err error) {
		pinned, err = peerNamed(tx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	key, err := parseIdentity(pinned.Certificate)
	return &peer{*pinned, key}, err
}

// listed returns the pinned HSM with a partition that a partition here clones
// with; ErrPolicy where either is missing.
func (h *HSM) listed(p *partition, id object.HSMID, serial string) (*peer, error) {
	var found *PinnedPeer
	err := h.store.View(func(tx *store.Tx) error {
		list, err := pinnedPeers(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(p PinnedPeer) bool { return p.ID == id })
		if i < 0 {
			return object.Errorf(object.ErrPolicy, "HSM %v is not pinned on this one; its Security Officer pins it with `hsm peer add`", id)
		}
		found = &list[i]
		record, err := loadReplication(tx, p.id)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(record.Peers, func(l listedPeer) bool { return l.hsm() == id && l.Serial == serial }) {
			return object.Errorf(object.ErrPolicy, "partition %s of HSM %s is not on the list of peers of partition %s; its Crypto Officer or Partition Security Officer puts it there", serial, found.Name, p.label)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	key, err := parseIdentity(found.Certificate)
	return &peer{*found, key}, err
}
