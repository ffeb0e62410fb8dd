package ha

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"io"

	"moongate/client"
)

// groupKey is what all types of a Group's keys have: a private key by its UUID,
// which is the same on all members, so that it is valid for ever, whichever
// members come and go.
type groupKey struct {
	group *Group
	ctx   context.Context // of every use
	id    ID
	label string
	// public is an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
	public crypto.PublicKey
}

func (k *groupKey) ID() ID                   { return k.id }
func (k *groupKey) Label() string            { return k.label }
func (k *groupKey) Public() crypto.PublicKey { return k.public }

func (k *groupKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.use(func(key client.Key) ([]byte, error) { return key.Sign(nil, digest, opts) })
}

// use has a member do something with its copy of the key.
func (k *groupKey) use(f func(client.Key) ([]byte, error)) ([]byte, error) {
	return repeatable(k.ctx, k.group, need{key: k.id}, func(ctx context.Context, c *client.Client) ([]byte, error) {
		key, err := c.KeyOf(k.id, k.label, k.public)
		if err != nil {
			return nil, err
		}
		return f(key.WithContext(ctx))
	})
}

// Only RSA keys may be a crypto.Decrypter: crypto/tls refuses others that are.
type (
	rsaKey     struct{ groupKey }
	ecdsaKey   struct{ groupKey }
	ed25519Key struct{ groupKey }
)

var (
	_ crypto.Decrypter = (*rsaKey)(nil)
	_ client.Key       = (*rsaKey)(nil)
	_ client.Key       = (*ecdsaKey)(nil)
	_ client.Key       = (*ed25519Key)(nil)
)

// Decrypt decrypts as client.Key says.
func (k *rsaKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return k.use(func(key client.Key) ([]byte, error) {
		return key.(crypto.Decrypter).Decrypt(nil, ciphertext, opts)
	})
}

func (k *groupKey) with(ctx context.Context) groupKey {
	bound := *k
	bound.ctx = ctx
	return bound
}

func (k *rsaKey) WithContext(ctx context.Context) client.Key     { return &rsaKey{k.with(ctx)} }
func (k *ecdsaKey) WithContext(ctx context.Context) client.Key   { return &ecdsaKey{k.with(ctx)} }
func (k *ed25519Key) WithContext(ctx context.Context) client.Key { return &ed25519Key{k.with(ctx)} }

// KeyOf returns a Key of what is known of it already, and asks nobody, as
// client.Client.KeyOf does.
func (g *Group) KeyOf(id ID, label string, public crypto.PublicKey) (client.Key, error) {
	k := groupKey{group: g, ctx: context.Background(), id: id, label: label, public: public}
	switch public.(type) {
	case *rsa.PublicKey:
		return &rsaKey{k}, nil
	case *ecdsa.PublicKey:
		return &ecdsaKey{k}, nil
	case ed25519.PublicKey:
		return &ed25519Key{k}, nil
	}
	// A client's refusal has the words.
	return new(client.Client).KeyOf(id, label, public)
}

// key makes a member's key the group's.
func (g *Group) key(k client.Key, err error) (client.Key, error) {
	if err != nil {
		return nil, err
	}
	return g.KeyOf(k.ID(), k.Label(), k.Public())
}

// Key returns the private key with the given id. The context is for the look-up
// alone.
func (g *Group) Key(ctx context.Context, id ID) (client.Key, error) {
	return g.key(repeatable(ctx, g, need{key: id}, func(ctx context.Context, c *client.Client) (client.Key, error) {
		return c.Key(ctx, id)
	}))
}

// PublicKey returns the public key of a private or public key object.
func (g *Group) PublicKey(ctx context.Context, id ID) (crypto.PublicKey, error) {
	return repeatable(ctx, g, need{key: id}, func(ctx context.Context, c *client.Client) (crypto.PublicKey, error) {
		return c.PublicKey(ctx, id)
	})
}

// FindKeyByPublic returns the private key that belongs to a public key.
func (g *Group) FindKeyByPublic(ctx context.Context, public crypto.PublicKey) (client.Key, error) {
	return g.key(repeatable(ctx, g, need{all: true}, func(ctx context.Context, c *client.Client) (client.Key, error) {
		return c.FindKeyByPublic(ctx, public)
	}))
}

// FindKeyByLabel returns the only private key with the given CKA_LABEL.
func (g *Group) FindKeyByLabel(ctx context.Context, label string) (client.Key, error) {
	return g.key(repeatable(ctx, g, need{all: true}, func(ctx context.Context, c *client.Client) (client.Key, error) {
		return c.FindKeyByLabel(ctx, label)
	}))
}

// FindKeyByKeyID returns the only private key with the given CKA_ID.
func (g *Group) FindKeyByKeyID(ctx context.Context, id []byte) (client.Key, error) {
	return g.key(repeatable(ctx, g, need{all: true}, func(ctx context.Context, c *client.Client) (client.Key, error) {
		return c.FindKeyByKeyID(ctx, id)
	}))
}
