package partition

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"iter"
	"os"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// restorePlan is what a backup holds, all of it checked, with its objects
// still in the spool.
type restorePlan struct {
	header     BackupHeader
	manifest   backupManifest
	partitions []plannedPartition
	clients    []*clientRecord
}

type plannedPartition struct {
	partitionBackup
	at   int64 // in the payload, of the first object
	live int   // objects that are not tombstones
}

// plan reads a backup to its end and copies it to spool: nothing is changed
// for a backup that is not whole.
func (h *HSM) plan(r io.Reader, spool io.Writer, secret []byte) (*restorePlan, error) {
	b, err := newBackupReader(io.TeeReader(r, spool), secret)
	if err != nil {
		return nil, err
	}
	plan := &restorePlan{header: b.header}
	kind, body, err := b.next()
	if err != nil {
		return nil, err
	}
	if kind != recordManifest || decodeStrict(body, &plan.manifest) != nil {
		return nil, refuseBackup("it does not begin with its manifest; restore it with the version that made it, or a newer one")
	}
	for {
		kind, body, err := b.next()
		if err != nil {
			return nil, err
		}
		switch {
		case kind == recordPartition && len(plan.clients) == 0:
			if err := h.planPartition(plan, b, body); err != nil {
				return nil, err
			}
		case kind == recordClient:
			if err := plan.addClient(body); err != nil {
				return nil, err
			}
		case kind == recordEnd && len(body) == 0:
			if err := b.finish(); err != nil {
				return nil, err
			}
			return plan, plan.complete()
		default:
			return nil, refuseBackup("a record of kind %d is out of its order", kind)
		}
	}
}

// planPartition reads a partition and passes its objects.
func (h *HSM) planPartition(plan *restorePlan, b *backupReader, body []byte) error {
	var p plannedPartition
	if err := decodeStrict(body, &p.partitionBackup); err != nil {
		return refuseBackup("a partition's record is malformed; restore it with the version that made it, or a newer one")
	}
	if err := h.checkRestored(&p.Record); err != nil {
		return err
	}
	for i, counts := range p.Uses {
		if _, err := decodeUses(i, counts); err != nil {
			return refuseBackup("the counters of partition %s are malformed", p.Record.Label)
		}
	}
	for _, other := range plan.partitions {
		if other.Record.ID == p.Record.ID || other.Record.Label == p.Record.Label || other.Record.Serial == p.Record.Serial {
			return refuseBackup("it holds partition %s twice", p.Record.Label)
		}
	}
	p.at = b.at
	for range p.Members {
		kind, body, err := b.next()
		if err != nil {
			return err
		}
		if kind != recordObject {
			return refuseBackup("partition %s has fewer objects than its record says", p.Record.Label)
		}
		o, err := store.DecodeRawObject(body)
		if err != nil {
			return refuseBackup("an object of partition %s is malformed", p.Record.Label)
		}
		if !o.Deleted {
			p.live++
		}
	}
	if p.live > h.maxObjects {
		return object.Errorf(object.ErrBusy, "partition %s has %d objects in the backup, and at most %d fit", p.Record.Label, p.live, h.maxObjects)
	}
	plan.partitions = append(plan.partitions, p)
	return nil
}

// checkRestored refuses a record that no HSM could work with. It is its
// domain's word, and so only what would do harm here is looked at.
func (h *HSM) checkRestored(r *partitionRecord) error {
	if err := checkName("partition", r.Label); err != nil {
		return err
	}
	if r.ID == (object.ID{}) || checkName("serial number", r.Serial) != nil {
		return refuseBackup("partition %s has no identity", r.Label)
	}
	for name, role := range r.Roles {
		if role == nil {
			return refuseBackup("role %s of partition %s is malformed", name, r.Label)
		}
		if err := h.policy.CheckKDF(role.Password.KDF); err != nil {
			return object.Errorf(object.CodeOf(err), "role %s of partition %s: %v", name, r.Label, err)
		}
	}
	for id, value := range r.Policies {
		info, known := id.Info()
		if !known || info.Check(value) != nil {
			return refuseBackup("policy %v of partition %s is %d; restore it with the version that made it, or a newer one", id, r.Label, value)
		}
	}
	return nil
}

func (plan *restorePlan) addClient(body []byte) error {
	c := new(clientRecord)
	if err := decodeStrict(body, c); err != nil {
		return refuseBackup("a client's record is malformed; restore it with the version that made it, or a newer one")
	}
	if err := checkName("client name", c.Name); err != nil {
		return err
	}
	if sum := sha256.Sum256(c.Certificate); c.Fingerprint != hex.EncodeToString(sum[:]) {
		return refuseBackup("client %s has another certificate than its fingerprint says", c.Name)
	}
	for _, other := range plan.clients {
		if other.Name == c.Name || other.Fingerprint == c.Fingerprint {
			return refuseBackup("it holds client %s twice", c.Name)
		}
	}
	plan.clients = append(plan.clients, c)
	return nil
}

func (plan *restorePlan) complete() error {
	if len(plan.partitions) != plan.header.Partitions || len(plan.clients) != plan.manifest.Clients || !plan.header.Whole && len(plan.clients) > 0 {
		return refuseBackup("it holds %d partitions and %d clients, and says %d and %d",
			len(plan.partitions), len(plan.clients), plan.header.Partitions, plan.manifest.Clients)
	}
	return nil
}

// objects iterates over a partition's objects in the spool; it may be used more
// than once.
func (p *plannedPartition) objects(spool *os.File, secret []byte) iter.Seq2[store.RawObject, error] {
	return func(yield func(store.RawObject, error) bool) {
		b, err := readBackupAt(spool, secret, p.at)
		if err != nil {
			yield(store.RawObject{}, err)
			return
		}
		for range p.Members {
			var o store.RawObject
			kind, body, err := b.next()
			if err == nil && kind != recordObject {
				err = refuseBackup("it changed while it was being restored")
			}
			if err == nil {
				o, err = store.DecodeRawObject(body)
			}
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// readBackupAt reads a backup in a file from a place in its payload on, where
// a record begins.
func readBackupAt(spool *os.File, secret []byte, at int64) (*backupReader, error) {
	const everything = 1<<63 - 1
	section := io.NewSectionReader(spool, 0, everything)
	b, err := newBackupReader(section, secret)
	if err != nil {
		return nil, err
	}
	n := at / chunkSize
	if _, err := section.Seek(n*(chunkSize+chunkOverhead), io.SeekCurrent); err != nil {
		return nil, err
	}
	b.chunks.next = uint64(n)
	if _, err := io.CopyN(io.Discard, b.chunks, at%chunkSize); err != nil {
		return nil, backupEnds(err)
	}
	return b, nil
}
