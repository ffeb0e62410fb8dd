package partition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Restored tells what Restore did.
type Restored struct {
	Partitions []string `json:"partitions"`
	Objects    int      `json:"objects"`
	Clients    int      `json:"clients"`
}

// Restore brings back what Backup wrote on this HSM or on another of its
// domain. A partition or client that is there already, by name or identity, is
// an error that names it (ErrExists), unless replace is set; a backup that is
// not whole, or of another domain, is refused (ErrDataInvalid). All of that is
// found before anything is changed.
//
// Then each partition is restored in one step, whole or not at all, and after
// them the clients of a backup of the whole HSM in one more. An error in
// between leaves the earlier ones restored, and Restored says which.
//
// What replaces a partition has the backup's objects, passwords and policies:
// keys that were destroyed since are back, those that were made since are
// gone. Change sequences and versions go forward all the same, and counts of
// wrong passwords are not lowered. Whoever is logged in to it is thrown out.
func (o *Officer) Restore(ctx context.Context, r io.Reader, replace bool) (Restored, error) {
	h, done := o.h, Restored{Partitions: []string{}}
	spool, err := h.store.Scratch()
	if err != nil {
		return done, err
	}
	defer spool.Close() // it is gone with that
	err = o.act(ctx, "hsm.restore", restoreMode(replace), func() error {
		secret, err := h.domain()
		if err != nil {
			return fmt.Errorf("reading the domain secret: %w", err)
		}
		defer clear(secret)
		plan, err := h.plan(contextReader{ctx, r}, spool, secret)
		if err != nil {
			return err
		}
		if err := h.checkPlan(plan, replace); err != nil {
			return err
		}
		for i := range plan.partitions {
			p := &plan.partitions[i]
			about := fmt.Sprintf("%s: backup of %s by HSM %s, %d objects", p.Record.Label, plan.header.Created.Format(time.RFC3339), plan.header.Serial, p.live)
			err := o.exclusively(ctx, "partition.restore", about, func() error {
				return h.restorePartition(plan, p, spool, secret, replace)
			})
			if err != nil {
				return err
			}
			done.Partitions = append(done.Partitions, p.Record.Label)
			done.Objects += p.live
		}
		if !plan.header.Whole {
			return nil
		}
		about := fmt.Sprintf("%d clients: backup of %s by HSM %s", len(plan.clients), plan.header.Created.Format(time.RFC3339), plan.header.Serial)
		if err := o.exclusively(ctx, "client.restore", about, func() error { return h.restoreClients(plan, replace) }); err != nil {
			return err
		}
		done.Clients = len(plan.clients)
		return nil
	})
	return done, err
}

func restoreMode(replace bool) string {
	if replace {
		return "what is there already is replaced"
	}
	return ""
}

// checkPlan refuses what can be seen beforehand, so that nothing is restored
// by half for it.
func (h *HSM) checkPlan(plan *restorePlan, replace bool) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.policy.FIPS && !plan.manifest.FIPS {
		return object.Errorf(object.ErrMechanism, "the backup is of an HSM that is not in FIPS mode, and this one is: what is in it may not be approved")
	}
	count := len(h.partitions)
	for i := range plan.partitions {
		there := h.occupants(&plan.partitions[i].Record)
		if len(there) > 0 && !replace {
			return object.Errorf(object.ErrExists, "partition %s (serial %s) is there already; restore with -replace to put it back to the backup's state, which takes away what was made since", there[0].label, there[0].serial)
		}
		count += 1 - len(there)
	}
	if count > MaxPartitions {
		return object.Errorf(object.ErrBusy, "with the backup's there would be %d partitions, and at most %d fit", count, MaxPartitions)
	}
	return h.checkClients(plan, replace)
}

// checkClients needs mu.
func (h *HSM) checkClients(plan *restorePlan, replace bool) error {
	count := len(h.clients)
	for _, c := range plan.clients {
		there := h.registered(c)
		if len(there) > 0 && !replace {
			return object.Errorf(object.ErrExists, "client %s is registered already; restore with -replace to take the backup's registrations", there[0].Name)
		}
		count += 1 - len(there)
	}
	if count > MaxClients {
		return object.Errorf(object.ErrBusy, "with the backup's there would be %d clients, and at most %d fit", count, MaxClients)
	}
	return nil
}

// occupants are the partitions that a restored one takes the place of: the
// same one, and those that have its label or serial number. It needs mu.
func (h *HSM) occupants(record *partitionRecord) []*partition {
	var list []*partition
	for _, p := range h.partitions {
		if p.id == record.ID || p.label == record.Label || p.serial == record.Serial {
			list = append(list, p)
		}
	}
	return list
}

// registered are the clients that a restored one takes the place of. It needs mu.
func (h *HSM) registered(c *clientRecord) []*clientRecord {
	var list []*clientRecord
	for _, other := range h.clients {
		if other.Name == c.Name || other.Fingerprint == c.Fingerprint {
			list = append(list, other)
		}
	}
	return list
}

// restorePartition puts one partition in its place, in one transaction. It
// needs mu.
func (h *HSM) restorePartition(plan *restorePlan, p *plannedPartition, spool *os.File, secret []byte, replace bool) error {
	there := h.occupants(&p.Record)
	if len(there) > 0 && !replace {
		return object.Errorf(object.ErrExists, "partition %s is there already", there[0].label)
	}
	var same bool
	var taken []*clientRecord // that lose a partition which is gone
	for _, old := range there {
		// No change that is under way may end up in what replaces it.
		old.changes.Lock()
		defer old.changes.Unlock()
		if old.id == p.Record.ID {
			same = true
			if err := old.uses.save(h.store, old.id); err != nil {
				return err
			}
		} else {
			taken = append(taken, h.clientsOf(old.id)...)
		}
	}
	record := p.Record
	if plan.manifest.Store != h.store.ID() {
		record.Roles = withoutRootSeals(record.Roles)
	}
	err := h.store.Update(func(tx *store.Tx) error {
		fresh := record
		if same {
			current, err := loadPartition(tx, record.ID)
			if err != nil {
				return err
			}
			fresh.Roles = keepCounts(record.Roles, current.Roles)
		}
		for _, old := range there {
			if old.id == record.ID {
				continue
			}
			if err := deletePartition(tx, old.id, h.clientsOf(old.id)); err != nil {
				return err
			}
		}
		put := tx.RestorePartition
		if same {
			put = tx.ReplacePartition
		}
		if err := put(p.raw(), p.objects(spool, secret)); err != nil {
			return err
		}
		if err := restoreUses(tx, record.ID, &p.Uses); err != nil {
			return err
		}
		return save(tx, kindPartition, partitionKey(record.ID), &fresh)
	})
	if err != nil {
		return err
	}
	h.showRestored(&record, there, taken)
	return nil
}

// showRestored lets memory follow the store. It needs mu.
func (h *HSM) showRestored(record *partitionRecord, there []*partition, taken []*clientRecord) {
	var cut []*clientRecord
	for _, old := range there {
		cut = append(cut, h.clientsOf(old.id)...)
		delete(h.partitions, old.id)
		old.deactivate(true)
	}
	h.partitions[record.ID] = newPartition(record)
	for _, c := range taken {
		for _, old := range there {
			if old.id != record.ID {
				h.clients[c.Fingerprint] = h.clients[c.Fingerprint].without(old.id)
			}
		}
	}
	for _, c := range cut {
		h.disconnect(c.Fingerprint)
	}
}

// deletePartition removes a partition and takes it from its clients.
func deletePartition(tx *store.Tx, id object.ID, assigned []*clientRecord) error {
	if err := tx.DeletePartition(id); err != nil {
		return err
	}
	if err := errors.Join(deleteUses(tx, id), deleteReplication(tx, id)); err != nil {
		return err
	}
	for _, c := range assigned {
		if err := save(tx, kindClient, c.Name, c.without(id)); err != nil {
			return err
		}
	}
	return tx.DeleteRecord(kindPartition, partitionKey(id))
}

// withoutRootSeals drops the seals that another HSM's root key is needed for.
func withoutRootSeals(roles map[string]*roleRecord) map[string]*roleRecord {
	fresh := make(map[string]*roleRecord, len(roles))
	for name, r := range roles {
		role := *r
		role.Key = nil
		fresh[name] = &role
	}
	return fresh
}

// keepCounts returns the backup's roles with the higher of both counts of wrong
// passwords, so that a restore unlocks nothing.
func keepCounts(backup, current map[string]*roleRecord) map[string]*roleRecord {
	fresh := make(map[string]*roleRecord, len(backup))
	for name, r := range backup {
		role := *r
		if now := current[name]; now != nil && now.Password.Failures >= role.Password.Failures {
			role.Password.Failures, role.Password.Last = now.Password.Failures, now.Password.Last
		}
		fresh[name] = &role
	}
	return fresh
}
