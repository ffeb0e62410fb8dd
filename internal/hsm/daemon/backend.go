package daemon

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/server"
)

// backend lets a server serve an HSM: the two are strangers to each other, and
// only the types of what they hand over differ.
type backend struct {
	hsm *partition.HSM
	log auditLog
}

// auditLog is what clients may ask of the audit log: that it only grows. An
// *audit.Log is one.
type auditLog interface {
	// FreshCheckpoint returns a signed checkpoint of about now, which is on
	// stable storage, so that no crash takes it back.
	FreshCheckpoint(ctx context.Context) ([]byte, error)
	// ProveFrom returns one with the proof that its log continues that of old
	// records.
	ProveFrom(ctx context.Context, old int64) ([]byte, tlog.TreeProof, error)
	VerifierKey() string
}

var (
	_ auditLog          = (*audit.Log)(nil)
	_ server.Replicator = (*partition.Session)(nil)
)

func (b backend) Attach(ctx context.Context, peer server.Peer) (server.Client, error) {
	a, err := b.hsm.Attach(ctx, peer.Fingerprint.String(), peer.Remote)
	if err != nil {
		return nil, err
	}
	return attachment{a, b.log}, nil
}

type attachment struct {
	a   *partition.Attachment
	log auditLog
}

func (c attachment) Partitions(context.Context) ([]object.PartitionInfo, error) {
	return c.a.Partitions()
}

func (c attachment) OpenSession(_ context.Context, name string) (server.Session, error) {
	s, err := c.a.OpenSession(name)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// AuditCheckpoint is for every client that is admitted: the checkpoint says how
// many records there are, and nothing of them.
func (c attachment) AuditCheckpoint(ctx context.Context) (object.AuditCheckpoint, error) {
	note, err := c.log.FreshCheckpoint(ctx)
	if err != nil {
		return object.AuditCheckpoint{}, err
	}
	return object.AuditCheckpoint{Note: note, Verifier: c.log.VerifierKey()}, nil
}

func (c attachment) AuditProof(ctx context.Context, size uint64) (object.AuditProof, error) {
	checkpoint, err := c.AuditCheckpoint(ctx)
	if err != nil {
		return object.AuditProof{}, err
	}
	tree, err := audit.ParseCheckpoint(checkpoint.Note, checkpoint.Verifier)
	if err != nil {
		return object.AuditProof{}, err
	}
	if size > uint64(tree.N) {
		return object.AuditProof{}, object.Errorf(object.ErrArgumentsBad, "the audit log has %d signed records, fewer than %d", tree.N, size)
	}
	note, hashes, err := c.log.ProveFrom(ctx, int64(size))
	if err != nil {
		return object.AuditProof{}, err
	}
	proof := object.AuditProof{Checkpoint: object.AuditCheckpoint{Note: note, Verifier: checkpoint.Verifier}}
	for _, h := range hashes {
		proof.Hashes = append(proof.Hashes, h)
	}
	return proof, nil
}

func (c attachment) Close() { c.a.Close() }
