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
	// Checkpoint returns the newest signed checkpoint, which is on stable
	// storage, so that no crash takes it back.
	Checkpoint() []byte
	VerifierKey() string
	// ProveTree proves that the log of size records continues that of old.
	ProveTree(size, old int64) (tlog.TreeProof, error)
}

var _ auditLog = (*audit.Log)(nil)

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
func (c attachment) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	return object.AuditCheckpoint{Note: c.log.Checkpoint(), Verifier: c.log.VerifierKey()}, nil
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
	proof := object.AuditProof{Checkpoint: checkpoint}
	if size > uint64(tree.N) {
		return object.AuditProof{}, object.Errorf(object.ErrArgumentsBad, "the audit log has %d signed records, fewer than %d", tree.N, size)
	}
	if size == 0 { // every log continues an empty one
		return proof, nil
	}
	hashes, err := c.log.ProveTree(tree.N, int64(size))
	if err != nil {
		return object.AuditProof{}, err
	}
	for _, h := range hashes {
		proof.Hashes = append(proof.Hashes, h)
	}
	return proof, nil
}

func (c attachment) Close() { c.a.Close() }
