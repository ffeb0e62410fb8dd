package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// partition is one partition in memory. While nobody is logged in it holds no
// key and no object.
type partition struct {
	id            object.ID
	label, serial string
	created       time.Time

	// gates admit one password check of a role at a time, see attempts.
	gates map[object.Role]*semaphore.Weighted

	// policies are those that were set; it is replaced as a whole. deciding is
	// held while one is set.
	policies atomic.Pointer[map[object.PolicyID]uint64]
	deciding sync.Mutex

	// deleted is set, once, when the partition is gone from the store or was
	// made anew: sessions on it are good for nothing.
	deleted atomic.Bool

	// changes admits one change at a time, so that memory follows the store
	// in the store's order.
	changes sync.Mutex

	// mu guards what follows. It may be held while a transaction begins, and
	// is not taken within one.
	mu     sync.RWMutex
	logins int
	// dismissed is set when an activated partition is to be locked after all
	// with the last logout.
	dismissed bool
	contents

	// uses and offers have locks of their own.
	uses   usage
	offers offers
}

// PartitionStatus describes a partition to an administrator.
type PartitionStatus struct {
	ID      object.ID `json:"id"`
	Label   string    `json:"label"`
	Serial  string    `json:"serial"`
	Created time.Time `json:"created"`
	// Active: the partition's key is in memory.
	Active   bool           `json:"active"`
	Roles    []RoleStatus   `json:"roles"`
	Policies []PolicyStatus `json:"policies"`
	Clients  []string       `json:"clients"`
}

// PolicyStatus describes a policy of a partition.
type PolicyStatus struct {
	Name    string `json:"name"`
	Value   uint64 `json:"value"`
	Default uint64 `json:"default"`
	// Text is the value as people read it: on, off, or a number.
	Text string `json:"text"`
	Help string `json:"help"`
}

// RoleStatus describes a role of a partition.
type RoleStatus struct {
	Role        string `json:"role"`
	Initialized bool   `json:"initialized"`
	Failures    int    `json:"failed_logins"`
	Locked      bool   `json:"locked"`
}

func (h *HSM) loadPartitions(tx *store.Tx) error {
	for id, err := range tx.Records(kindPartition) {
		if err != nil {
			return fmt.Errorf("reading partitions: %w", err)
		}
		var record partitionRecord
		if err := load(tx, kindPartition, id, &record); err != nil {
			return err
		}
		h.partitions[record.ID] = newPartition(&record)
	}
	return nil
}

func newPartition(record *partitionRecord) *partition {
	p := &partition{id: record.ID, label: record.Label, serial: record.Serial, created: record.Created, gates: map[object.Role]*semaphore.Weighted{}}
	for _, role := range partitionRoles {
		p.gates[role] = newGate()
	}
	p.policies.Store(&record.Policies)
	return p
}

// partitionNamed finds a partition by label or serial number. The caller holds mu.
func (h *HSM) partitionNamed(name string) (*partition, error) {
	for _, p := range h.partitions {
		if p.label == name || p.serial == name {
			return p, nil
		}
	}
	return nil, object.Errorf(object.ErrObjectNotFound, "there is no partition %q; `partition list` shows those that are", name)
}

// CreatePartition makes an empty partition whose roles have no password yet.
func (o *Officer) CreatePartition(ctx context.Context, label string) error {
	h := o.h
	return o.exclusively(ctx, "partition.create", label, func() error {
		if err := checkName("partition", label); err != nil {
			return err
		}
		if _, err := h.partitionNamed(label); err == nil {
			return object.Errorf(object.ErrExists, "there is a partition %q already; choose another label", label)
		}
		if len(h.partitions) >= MaxPartitions {
			return object.Errorf(object.ErrBusy, "%d partitions, and no more fit; delete one first", len(h.partitions))
		}
		record := partitionRecord{ID: object.NewID(), Label: label, Serial: NewSerial(), Created: h.now().UTC(), Roles: map[string]*roleRecord{}}
		err := h.store.Update(func(tx *store.Tx) error {
			if err := tx.CreatePartition(record.ID); err != nil {
				return err
			}
			return save(tx, kindPartition, partitionKey(record.ID), &record)
		})
		if err != nil {
			return err
		}
		h.partitions[record.ID] = newPartition(&record)
		return nil
	})
}

// DeletePartition destroys a partition with every key in it, takes it from the
// clients that it was assigned to, and ends their connections.
func (o *Officer) DeletePartition(ctx context.Context, name string) error {
	h := o.h
	return o.exclusively(ctx, "partition.delete", name, func() error {
		p, err := h.partitionNamed(name)
		if err != nil {
			return err
		}
		assigned := h.clientsOf(p.id)
		err = h.store.Update(func(tx *store.Tx) error {
			if err := tx.DeletePartition(p.id); err != nil {
				return err
			}
			if err := errors.Join(deleteUses(tx, p.id), deleteReplication(tx, p.id)); err != nil {
				return err
			}
			for _, c := range assigned {
				if err := save(tx, kindClient, c.Name, c.without(p.id)); err != nil {
					return err
				}
			}
			return tx.DeleteRecord(kindPartition, partitionKey(p.id))
		})
		if err != nil {
			return err
		}
		delete(h.partitions, p.id)
		p.deactivate(true)
		for _, c := range assigned {
			h.clients[c.Fingerprint] = c.without(p.id)
			h.disconnect(c.Fingerprint)
		}
		return nil
	})
}

// InitCryptoUser gives a partition its Crypto User, by the Crypto Officer's
// password. A Crypto User that exists gets the new password.
func (h *HSM) InitCryptoUser(ctx context.Context, who Operator, name string, officer, user []byte) error {
	return h.administer(ctx, who, "role.init", name+" cu", func() error {
		p, err := h.find(name)
		if err != nil {
			return err
		}
		return h.reseal(ctx, operatorPrefix+who.Name, p, object.RoleCryptoOfficer, officer, object.RoleCryptoUser, user)
	})
}

// ChangePassword gives a role a new password, by its old one.
func (h *HSM) ChangePassword(ctx context.Context, who Operator, name string, role object.Role, old, fresh []byte) error {
	return h.administer(ctx, who, "role.password", name+" "+role.String(), func() error {
		if err := checkRole(role); err != nil {
			return err
		}
		p, err := h.find(name)
		if err != nil {
			return err
		}
		return h.reseal(ctx, operatorPrefix+who.Name, p, role, old, role, fresh)
	})
}

// find returns a partition by label or serial number.
func (h *HSM) find(name string) (*partition, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err := h.ready(); err != nil {
		return nil, err
	}
	return h.partitionNamed(name)
}

func (h *HSM) idOf(name string) (object.ID, error) {
	p, err := h.find(name)
	if err != nil {
		return object.ID{}, err
	}
	return p.id, nil
}

func (h *HSM) byID(id object.ID) (*partition, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err := h.ready(); err != nil {
		return nil, err
	}
	if p := h.partitions[id]; p != nil {
		return p, nil
	}
	return nil, errGone
}

// Partitions lists every partition, by label.
func (h *HSM) Partitions() ([]PartitionStatus, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if err := h.ready(); err != nil {
		return nil, err
	}
	records := make(map[*partition]*partitionRecord, len(h.partitions))
	err := h.store.View(func(tx *store.Tx) error {
		for _, p := range h.partitions {
			record, err := loadPartition(tx, p.id)
			if err != nil {
				return err
			}
			records[p] = record
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// A partition's lock is never waited for in a transaction: who holds it
	// may be waiting for one of its own.
	list := make([]PartitionStatus, 0, len(records))
	for p, record := range records {
		list = append(list, h.describe(p, record))
	}
	slices.SortFunc(list, func(a, b PartitionStatus) int { return cmp.Compare(a.Label, b.Label) })
	return list, nil
}

// Partition describes one partition, by label or serial number.
func (h *HSM) Partition(name string) (PartitionStatus, error) {
	list, err := h.Partitions()
	if err != nil {
		return PartitionStatus{}, err
	}
	for _, p := range list {
		if p.Label == name || p.Serial == name {
			return p, nil
		}
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	_, err = h.partitionNamed(name)
	return PartitionStatus{}, err
}

// PartitionPolicies lists what the policies of a partition are set to, by number.
func (h *HSM) PartitionPolicies(name string) ([]object.PolicyValue, error) {
	p, err := h.find(name)
	if err != nil {
		return nil, err
	}
	return p.policyValues(), nil
}

func (p *partition) policyValues() []object.PolicyValue {
	var list []object.PolicyValue
	for _, info := range object.Policies() {
		list = append(list, object.PolicyValue{ID: info.ID, Value: p.policy(info.ID)})
	}
	return list
}

// Contents lists a partition's objects to somebody of the appliance who has the
// password of its Crypto Officer or Crypto User. It is a login like others, and
// ends with the list.
func (h *HSM) Contents(ctx context.Context, who Operator, name string, role object.Role, pw []byte) ([]object.Found, error) {
	list, err := h.contents(ctx, who, name, role, pw)
	err, recorded := refusalOf(err)
	if recorded {
		if jerr := h.recordLogin(ctx, who, role, name, err); jerr != nil {
			return nil, jerr
		}
	}
	return list, err
}

func (h *HSM) contents(ctx context.Context, who Operator, name string, role object.Role, pw []byte) ([]object.Found, error) {
	if !usesKeys(role) {
		return nil, object.Errorf(object.ErrUserType, "role %v does not see a partition's objects; expected co or cu", role)
	}
	p, err := h.find(name)
	if err != nil {
		return nil, err
	}
	o, err := h.openRole(ctx, operatorPrefix+who.Name, p, role, pw)
	if err != nil {
		return nil, err
	}
	if err := p.activate(h, o.key); err != nil {
		return nil, err
	}
	defer p.deactivate(false)
	p.mu.RLock()
	defer p.mu.RUnlock()
	var list []object.Found
	for _, place := range p.order {
		list = append(list, object.Found{ID: place.entry.id, Attributes: place.show(nil)})
	}
	return list, nil
}

// partitionRoles are the roles of a partition, in the order of their numbers.
var partitionRoles = []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser, object.RolePartitionOfficer}

func (r *partitionRecord) status(role object.Role) object.RoleStatus {
	s := object.RoleStatus{Role: role}
	if there := r.Roles[role.String()]; there != nil {
		s.Initialized, s.Failures, s.Locked = true, there.Password.Failures, there.locked()
	}
	return s
}

// describe needs mu.
func (h *HSM) describe(p *partition, record *partitionRecord) PartitionStatus {
	s := PartitionStatus{ID: p.id, Label: p.label, Serial: p.serial, Created: p.created, Active: p.active()}
	for _, role := range partitionRoles {
		r := record.status(role)
		s.Roles = append(s.Roles, RoleStatus{role.String(), r.Initialized, r.Failures, r.Locked})
	}
	for _, info := range object.Policies() {
		v := p.policy(info.ID)
		s.Policies = append(s.Policies, PolicyStatus{info.Name, v, info.Default, info.Format(v), info.Help})
	}
	for _, c := range h.clientsOf(p.id) {
		s.Clients = append(s.Clients, c.Name)
	}
	slices.Sort(s.Clients)
	return s
}
