package daemon

import (
	"context"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/partition"
	"moongate/internal/hsm/server"
)

// backend lets a server serve an HSM: the two are strangers to each other, and
// only the types of what they hand over differ.
type backend struct{ hsm *partition.HSM }

func (b backend) Attach(ctx context.Context, peer server.Peer) (server.Client, error) {
	a, err := b.hsm.Attach(ctx, peer.Fingerprint.String(), peer.Remote)
	if err != nil {
		return nil, err
	}
	return attachment{a}, nil
}

type attachment struct{ a *partition.Attachment }

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

func (c attachment) AuditCheckpoint(context.Context) (object.AuditCheckpoint, error) {
	return object.AuditCheckpoint{}, object.Errorf(object.ErrNotSupported, "not built yet")
}

func (c attachment) AuditProof(context.Context, uint64) (object.AuditProof, error) {
	return object.AuditProof{}, object.Errorf(object.ErrNotSupported, "not built yet")
}

func (c attachment) Close() {}
