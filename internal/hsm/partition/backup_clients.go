package partition

import (
	"errors"
	"slices"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// restoreClients registers the backup's clients, in one transaction, and takes
// over whether their addresses are checked. A client keeps what of its
// partitions is here. It needs mu.
func (h *HSM) restoreClients(plan *restorePlan, replace bool) error {
	if err := h.checkClients(plan, replace); err != nil {
		return err
	}
	var gone, fresh []*clientRecord
	for _, c := range plan.clients {
		gone = append(gone, h.registered(c)...)
		client := *c
		client.Partitions = slices.DeleteFunc(slices.Clone(c.Partitions), func(id object.ID) bool { return h.partitions[id] == nil })
		fresh = append(fresh, &client)
	}
	err := h.store.Update(func(tx *store.Tx) error {
		for _, c := range gone {
			// One may be in the way of two: by its name, and by its certificate.
			if err := tx.DeleteRecord(kindClient, c.Name); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		for _, c := range fresh {
			if err := save(tx, kindClient, c.Name, c); err != nil {
				return err
			}
		}
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		record.AddressCheck = plan.manifest.AddressCheck
		return save(tx, kindHSM, kindHSM, &record)
	})
	if err != nil {
		return err
	}
	h.addressCheck = plan.manifest.AddressCheck
	for _, c := range gone {
		delete(h.clients, c.Fingerprint)
	}
	for _, c := range fresh {
		h.clients[c.Fingerprint] = c
	}
	for _, c := range gone {
		h.disconnect(c.Fingerprint)
	}
	return nil
}
