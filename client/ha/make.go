package ha

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"errors"

	"moongate/client"
)

// What makes objects: each is on all members that are there before it succeeds.
// They do what the methods of client.Client with their names do. None is
// repeatable.

func (g *Group) makePair(ctx context.Context, f func(context.Context, *client.Client) (client.KeyPair, error)) (client.KeyPair, error) {
	var pair client.KeyPair
	err := g.makeObjects(ctx, "Generate", need{none: true}, func(ctx context.Context, c *client.Client) ([]ID, error) {
		var err error
		pair, err = f(ctx, c)
		return []ID{pair.Public, pair.Private}, err
	})
	if err != nil {
		return client.KeyPair{}, err
	}
	return pair, nil
}

func (g *Group) makeOne(ctx context.Context, call string, n need, f func(context.Context, *client.Client) (ID, error)) (ID, error) {
	var id ID
	err := g.makeObjects(ctx, call, n, func(ctx context.Context, c *client.Client) ([]ID, error) {
		var err error
		id, err = f(ctx, c)
		return []ID{id}, err
	})
	if err != nil {
		return ID{}, err
	}
	return id, nil
}

// GenerateKeyPair makes a key pair.
func (g *Group) GenerateKeyPair(ctx context.Context, m client.MechanismType, public, private client.Template) (client.KeyPair, error) {
	return g.makePair(ctx, func(ctx context.Context, c *client.Client) (client.KeyPair, error) {
		return c.GenerateKeyPair(ctx, m, public, private)
	})
}

// GenerateRSA makes an RSA key pair of 2048, 3072 or 4096 bits.
func (g *Group) GenerateRSA(ctx context.Context, bits int, public, private client.Template) (client.KeyPair, error) {
	return g.makePair(ctx, func(ctx context.Context, c *client.Client) (client.KeyPair, error) {
		return c.GenerateRSA(ctx, bits, public, private)
	})
}

// GenerateEC makes a key pair on P-256, P-384 or P-521.
func (g *Group) GenerateEC(ctx context.Context, curve elliptic.Curve, public, private client.Template) (client.KeyPair, error) {
	return g.makePair(ctx, func(ctx context.Context, c *client.Client) (client.KeyPair, error) {
		return c.GenerateEC(ctx, curve, public, private)
	})
}

// GenerateEd25519 makes a key pair that signs whole messages.
func (g *Group) GenerateEd25519(ctx context.Context, public, private client.Template) (client.KeyPair, error) {
	return g.makePair(ctx, func(ctx context.Context, c *client.Client) (client.KeyPair, error) {
		return c.GenerateEd25519(ctx, public, private)
	})
}

// GenerateX25519 makes a key pair for DeriveECDH.
func (g *Group) GenerateX25519(ctx context.Context, public, private client.Template) (client.KeyPair, error) {
	return g.makePair(ctx, func(ctx context.Context, c *client.Client) (client.KeyPair, error) {
		return c.GenerateX25519(ctx, public, private)
	})
}

// GenerateSecret makes a generic secret key of so many bytes.
func (g *Group) GenerateSecret(ctx context.Context, bytes int, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Generate", need{none: true}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.GenerateSecret(ctx, bytes, t)
	})
}

// GenerateAES makes a secret key of 16, 24 or 32 bytes.
func (g *Group) GenerateAES(ctx context.Context, bytes int, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Generate", need{none: true}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.GenerateAES(ctx, bytes, t)
	})
}

// StoreCertificate stores an X.509 certificate.
func (g *Group) StoreCertificate(ctx context.Context, cert *x509.Certificate, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Store", need{none: true}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.StoreCertificate(ctx, cert, t)
	})
}

// StorePublicKey stores a public key.
func (g *Group) StorePublicKey(ctx context.Context, public crypto.PublicKey, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Store", need{none: true}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.StorePublicKey(ctx, public, t)
	})
}

// Unwrap is the reverse of Wrap.
func (g *Group) Unwrap(ctx context.Context, unwrapping ID, wrapped []byte, t client.Template) (ID, error) {
	return g.UnwrapWith(ctx, unwrapping, client.Mechanism{Type: client.MechAESKWP}, wrapped, t)
}

// UnwrapWith is the reverse of WrapWith.
func (g *Group) UnwrapWith(ctx context.Context, unwrapping ID, m client.Mechanism, wrapped []byte, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Unwrap", need{key: unwrapping}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.UnwrapWith(ctx, unwrapping, m, wrapped, t)
	})
}

// DeriveECDH makes a secret key of what a private key and another's public key
// share.
func (g *Group) DeriveECDH(ctx context.Context, base ID, peer crypto.PublicKey, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Derive", need{key: base}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.DeriveECDH(ctx, base, peer, t)
	})
}

// DeriveHKDF makes a secret key of another by RFC 5869.
func (g *Group) DeriveHKDF(ctx context.Context, base ID, hash client.Hash, salt, info []byte, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Derive", need{key: base}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.DeriveHKDF(ctx, base, hash, salt, info, t)
	})
}

// Derive makes a secret key of another key with a mechanism.
func (g *Group) Derive(ctx context.Context, base ID, m client.Mechanism, t client.Template) (ID, error) {
	return g.makeOne(ctx, "Derive", need{key: base}, func(ctx context.Context, c *client.Client) (ID, error) {
		return c.Derive(ctx, base, m, t)
	})
}

// ImportKey brings a key into the group that was made elsewhere: into one
// member, under a pair that is made there for this once, and then to the others,
// with the tombstones of that pair.
func (g *Group) ImportKey(ctx context.Context, key any, t client.Template) (ID, error) {
	ctx, cancel := g.lengthy(ctx)
	defer cancel()
	var id ID
	var imported error
	var touched []ID
	from, err := g.primary(ctx, need{none: true}, func(ctx context.Context, c *client.Client) error {
		before, err := sequenceOf(ctx, c)
		if err != nil {
			return nothingDone(err)
		}
		// What it does after its first step is not done again elsewhere.
		id, imported = c.ImportKey(ctx, key, t)
		if _, unknown := errors.AsType[*client.OutcomeUnknownError](imported); client.NotSent(imported) && id == (ID{}) && !unknown {
			return imported
		}
		states, err := changedSince(ctx, c, before)
		for _, s := range states {
			touched = append(touched, s.ID)
		}
		imported = errors.Join(imported, err)
		return nil
	})
	if err != nil {
		return ID{}, err
	}
	err = g.finish(ctx, "ImportKey", from, touched, func(ctx context.Context) error {
		return g.destroyAt(ctx, from, []ID{id})
	})
	return id, errors.Join(imported, err)
}
