package partition

import "context"

// InitOptions are what an HSM is initialised with.
type InitOptions struct {
	Label   string
	Officer []byte // the Security Officer's password
}

// Initialized reports whether there is an HSM: one that was zeroized, or never
// initialised, has no Security Officer, no partition and no client.
func (h *HSM) Initialized() bool { return true }

// Initialize makes an HSM of one that is not initialised; ErrExists where it
// is. Its FIPS policy is the process's, for as long as the process runs.
func (h *HSM) Initialize(ctx context.Context, who Operator, opts InitOptions) error {
	return errNotYet
}

// Zeroize destroys every key, partition, client and password of the HSM: the
// keys first. What is left is an HSM that is not initialised, its appliance
// users and its audit log.
func (o *Officer) Zeroize(ctx context.Context) error { return errNotYet }

// Zeroize does the same without a Security Officer, whose password may be lost.
// It is for who stands at the machine's own console.
func (h *HSM) Zeroize(ctx context.Context, who Operator) error { return errNotYet }
