package keys

import (
	"context"
	"crypto"
	"crypto/elliptic"

	"moongate/client"
)

// HSM is what holds the keys of a Network: a *client.Client, which is one HSM,
// or a *ha.Group, which is several as one.
type HSM interface {
	FindKeyByPublic(ctx context.Context, public crypto.PublicKey) (client.Key, error)
	Key(ctx context.Context, id client.ID) (client.Key, error)
	Find(ctx context.Context, pattern client.Template, want ...client.AttributeType) ([]client.Found, error)

	GenerateEC(ctx context.Context, curve elliptic.Curve, public, private client.Template) (client.KeyPair, error)
	GenerateRSA(ctx context.Context, bits int, public, private client.Template) (client.KeyPair, error)
	GenerateAES(ctx context.Context, bytes int, t client.Template) (client.ID, error)
	Encrypt(ctx context.Context, id client.ID, plaintext, aad []byte) ([]byte, error)
	Decrypt(ctx context.Context, id client.ID, ciphertext, aad []byte) ([]byte, error)

	Ready(ctx context.Context) error
	Reset(ctx context.Context) error
	Status() client.Status
	Close() error
}
