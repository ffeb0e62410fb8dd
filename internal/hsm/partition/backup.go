package partition

import (
	"context"
	"io"
)

// Backup writes an encrypted copy of the named partitions, or of the whole HSM
// where none is named, while it runs. Nobody who makes, keeps or restores one
// can read it: see docs/backup.md.
func (o *Officer) Backup(ctx context.Context, w io.Writer, partitions ...string) error {
	return errNotYet
}

// Restored tells what Restore did.
type Restored struct {
	Partitions []string `json:"partitions"`
	Objects    int      `json:"objects"`
	Clients    int      `json:"clients"`
}

// Restore brings back what Backup wrote on this HSM or on another of its
// domain. A partition that is there already, by label or identity, is an error
// that names it, unless replace is set.
func (o *Officer) Restore(ctx context.Context, r io.Reader, replace bool) (Restored, error) {
	return Restored{}, errNotYet
}

// ExportDomain returns the HSM's domain secret sealed under a passphrase, and
// ImportDomain makes this HSM, which must hold no partition, one of that
// domain.
func (o *Officer) ExportDomain(ctx context.Context, passphrase []byte) ([]byte, error) {
	return nil, errNotYet
}

func (o *Officer) ImportDomain(ctx context.Context, sealed, passphrase []byte) error {
	return errNotYet
}
