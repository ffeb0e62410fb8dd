package partition

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// Backup writes an encrypted copy of the named partitions, by label or serial
// number, or of the whole HSM where none is named, while it runs. It is of one
// moment. Nobody who makes, keeps or restores one can read it: objects stay
// sealed under their partition's key, that under its roles' passwords, and all
// of it under the domain secret. See docs/backup.md.
//
// A partition in which no role's key is sealed for the domain yet is refused:
// one login does that. After an error, what was written to w is no backup.
func (o *Officer) Backup(ctx context.Context, w io.Writer, partitions ...string) error {
	h := o.h
	return o.act(ctx, "hsm.backup", backupOf(partitions), func() error {
		if err := h.saveUses(); err != nil {
			return err
		}
		// It is put together on this machine's disk first: w may be slow, and
		// a transaction must not wait for it.
		spool, err := h.store.Scratch()
		if err != nil {
			return err
		}
		defer spool.Close() // it is gone with that
		if err := h.writeBackup(ctx, spool, partitions); err != nil {
			return err
		}
		if _, err := spool.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("reading the backup: %w", err)
		}
		if _, err := io.Copy(w, contextReader{ctx, spool}); err != nil {
			return fmt.Errorf("writing the backup: %w", err)
		}
		return nil
	})
}

// backupOf names what a backup is of, for the audit.
func backupOf(partitions []string) string {
	if len(partitions) == 0 {
		return "the whole HSM"
	}
	const most = 900 // bytes of a record's detail
	text := strings.Join(partitions, " ")
	if len(text) > most {
		text = fmt.Sprintf("%s ... (%d partitions)", strings.ToValidUTF8(text[:most], ""), len(partitions))
	}
	return text
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// writeBackup writes a backup of one moment of the store.
func (h *HSM) writeBackup(ctx context.Context, w io.Writer, names []string) error {
	ids, err := h.backedUp(names)
	if err != nil {
		return err
	}
	secret, err := h.domain()
	if err != nil {
		return fmt.Errorf("reading the domain secret: %w", err)
	}
	defer clear(secret)
	header := BackupHeader{
		Serial: h.serial, Created: h.now().UTC().Truncate(time.Second), Whole: len(names) == 0, Partitions: len(ids),
	}
	if header.Domain, err = domainIdentity(secret); err != nil {
		return err
	}
	return h.store.View(func(tx *store.Tx) error {
		var record hsmRecord
		if err := loadHSM(tx, &record); err != nil {
			return err
		}
		clear(record.Domain)
		header.Label = record.Label
		b, err := newBackupWriter(w, secret, header)
		if err != nil {
			return err
		}
		var clients []*clientRecord
		if header.Whole {
			if clients, err = allClients(tx); err != nil {
				return err
			}
		}
		manifest := backupManifest{Store: h.store.ID(), FIPS: record.FIPS, AddressCheck: record.AddressCheck, Clients: len(clients)}
		if err := b.recordJSON(recordManifest, &manifest); err != nil {
			return err
		}
		for _, id := range ids {
			if err := h.backUpPartition(ctx, tx, b, id); err != nil {
				return err
			}
		}
		for _, c := range clients {
			if err := b.recordJSON(recordClient, c); err != nil {
				return err
			}
		}
		return b.end()
	})
}

// backedUp returns the partitions that are named, all where none is, in a
// stable order and each once.
func (h *HSM) backedUp(names []string) ([]object.ID, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var ids []object.ID
	if len(names) == 0 {
		for id := range h.partitions {
			ids = append(ids, id)
		}
	}
	for _, name := range names {
		p, err := h.partitionNamed(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, p.id)
	}
	slices.SortFunc(ids, func(a, b object.ID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids), nil
}

func allClients(tx *store.Tx) ([]*clientRecord, error) {
	var list []*clientRecord
	for id, err := range tx.Records(kindClient) {
		if err != nil {
			return nil, fmt.Errorf("reading clients: %w", err)
		}
		c := new(clientRecord)
		if err := load(tx, kindClient, id, c); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func (h *HSM) backUpPartition(ctx context.Context, tx *store.Tx, b *backupWriter, id object.ID) error {
	record, err := loadPartition(tx, id)
	if err != nil {
		return err
	}
	if err := h.checkPortable(record); err != nil {
		return err
	}
	raw, err := tx.Raw(id)
	if err != nil {
		return fmt.Errorf("backing up partition %s: %w", record.Label, err)
	}
	head := partitionBackup{Record: *record, Origin: raw.Origin, Sequence: raw.Sequence, LastHandle: raw.LastHandle, Members: raw.Members}
	if head.Uses, err = usesOf(tx, id); err != nil {
		return fmt.Errorf("backing up partition %s: %w", record.Label, err)
	}
	if err := b.recordJSON(recordPartition, &head); err != nil {
		return err
	}
	var buf []byte
	for o, err := range tx.RawObjects(id) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("backing up partition %s: %w", record.Label, err)
		}
		buf = o.Append(buf[:0])
		if err := b.record(recordObject, buf); err != nil {
			return err
		}
	}
	return nil
}

// checkPortable refuses a partition that no password would open on another
// HSM: its roles were made before there were domains, and nobody has logged in
// since.
func (h *HSM) checkPortable(record *partitionRecord) error {
	var old []string
	for role, r := range record.Roles {
		if len(r.Portable) == 0 {
			old = append(old, role)
		}
	}
	slices.Sort(old)
	if len(old) > 0 && len(old) == len(record.Roles) {
		return object.Errorf(object.ErrPINNotInitialized, "no role of partition %s could log in on another HSM yet; let one of them (%s) log in once, then back it up",
			record.Label, strings.Join(old, ", "))
	}
	if len(old) > 0 {
		h.log.Warn("roles that have not logged in since an update will not open this backup on another HSM", "partition", record.Label, "roles", old)
	}
	return nil
}
