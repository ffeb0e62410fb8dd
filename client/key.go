package client

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"moongate/internal/hsm/object"
)

// Key is a private key on the HSM that signs. An RSA key is a crypto.Decrypter
// too; others must not be one (crypto/tls refuses them then), which is why this
// is an interface with several types behind it. A Key survives reconnects and
// may be used from many goroutines at once. X25519 keys do not sign and are no
// Key: see Client.DeriveECDH.
//
// Sign signs a digest of SHA-256, SHA-384 or SHA-512, as opts says. RSA keys
// sign by PKCS #1 v1.5, or PSS where opts is an *rsa.PSSOptions: a salt length
// that is Auto or EqualsHash is the digest's. ECDSA signatures are ASN.1.
// Ed25519 keys sign the message itself, with crypto.Hash(0) for opts, up to
// MaxMessage bytes (RFC 8032, section 5.1; neither pre-hashed nor with a
// context).
//
// Decrypt, of an RSA key, decrypts OAEP where opts is an *rsa.OAEPOptions with
// SHA-256, SHA-384 or SHA-512, the same for MGF1. It also decrypts the premaster
// secret of an RSA key exchange, or any short value whose length is known
// before: opts must be an *rsa.PKCS1v15DecryptOptions with a SessionKeyLen then.
// Where the padding or the length is wrong the answer is random bytes and no
// error, so that no caller can become a padding oracle (RFC 5246, section
// 7.4.7.1).
//
// Neither uses its reader: randomness is the HSM's.
type Key interface {
	crypto.Signer // Public returns an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey

	// ID names the key on the HSM.
	ID() ID
	// Label is the key's CKA_LABEL as it was when the Key was looked up.
	Label() string
	// WithContext returns the same key, whose uses end with ctx and carry its
	// operation id (WithOperation): bind one for each handshake.
	WithContext(ctx context.Context) Key
}

// handle is what both types of Key have.
type handle struct {
	client *Client
	ctx    context.Context // of every use
	id     ID
	label  string
}

func (h *handle) ID() ID        { return h.id }
func (h *handle) Label() string { return h.label }

type rsaKey struct {
	handle
	public *rsa.PublicKey
}

type ecdsaKey struct {
	handle
	public *ecdsa.PublicKey
}

type ed25519Key struct {
	handle
	public ed25519.PublicKey
}

var (
	_ crypto.Decrypter = (*rsaKey)(nil)
	_ Key              = (*rsaKey)(nil)
	_ Key              = (*ecdsaKey)(nil)
	_ Key              = (*ed25519Key)(nil)
)

func (k *rsaKey) Public() crypto.PublicKey     { return k.public }
func (k *ecdsaKey) Public() crypto.PublicKey   { return k.public }
func (k *ed25519Key) Public() crypto.PublicKey { return k.public }

func (k *rsaKey) WithContext(ctx context.Context) Key {
	bound := *k
	bound.ctx = ctx
	return &bound
}

func (k *ecdsaKey) WithContext(ctx context.Context) Key {
	bound := *k
	bound.ctx = ctx
	return &bound
}

func (k *ed25519Key) WithContext(ctx context.Context) Key {
	bound := *k
	bound.ctx = ctx
	return &bound
}

// keyAttributes are what a Key is made from.
var keyAttributes = []AttributeType{AttrClass, AttrLabel, AttrPublicKeyInfo}

// Key returns the private key with the given id. The context is for the
// look-up alone.
func (c *Client) Key(ctx context.Context, id ID) (Key, error) {
	t, err := c.Attributes(ctx, id, keyAttributes...)
	if err != nil {
		return nil, keyError(err)
	}
	return c.newKey(Found{ID: id, Attributes: t})
}

// PublicKey returns the public key of a private or public key object: an
// *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or, for X25519, an
// *ecdh.PublicKey.
func (c *Client) PublicKey(ctx context.Context, id ID) (crypto.PublicKey, error) {
	t, err := c.Attributes(ctx, id, AttrPublicKeyInfo)
	if err != nil {
		return nil, keyError(err)
	}
	spki, there := t.Get(AttrPublicKeyInfo)
	if !there {
		return nil, keyError(object.Errorf(ErrKeyType, "object %v has no public key", id))
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, keyError(fmt.Errorf("object %v: reading its public key: %w", id, err))
	}
	return public, nil
}

// FindKeyByPublic returns the private key that belongs to a public key.
func (c *Client) FindKeyByPublic(ctx context.Context, public crypto.PublicKey) (Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, &Error{Stage: StageKey, Err: err}
	}
	return c.findKey(ctx, object.Bytes(AttrPublicKeyInfo, spki), "the given public key")
}

// FindKeyByLabel returns the only private key with the given CKA_LABEL.
func (c *Client) FindKeyByLabel(ctx context.Context, label string) (Key, error) {
	return c.findKey(ctx, object.Text(AttrLabel, label), fmt.Sprintf("the label %q", label))
}

// FindKeyByKeyID returns the only private key with the given CKA_ID.
func (c *Client) FindKeyByKeyID(ctx context.Context, id []byte) (Key, error) {
	return c.findKey(ctx, object.Bytes(AttrID, id), fmt.Sprintf("the CKA_ID %x", id))
}

func (c *Client) findKey(ctx context.Context, by Attribute, what string) (Key, error) {
	pattern := object.New(object.Number(AttrClass, uint64(ClassPrivateKey)), by)
	list, err := c.Find(ctx, pattern, keyAttributes...)
	switch {
	case err != nil:
		return nil, keyError(err)
	case len(list) == 0:
		return nil, keyError(object.Errorf(ErrKeyHandle, "no private key with %s in partition %q", what, c.Status().Partition.Label))
	case len(list) > 1:
		return nil, keyError(object.Errorf(ErrKeyHandle, "%d private keys with %s in partition %q", len(list), what, c.Status().Partition.Label))
	}
	return c.newKey(list[0])
}

// KeyOf returns a Key of what is known of it already, and asks nobody: of a
// private key whose public half is an *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey. Whether the partition holds it is seen at its first use.
func (c *Client) KeyOf(id ID, label string, public crypto.PublicKey) (Key, error) {
	h := handle{client: c, ctx: context.Background(), id: id, label: label}
	switch public := public.(type) {
	case *rsa.PublicKey:
		return &rsaKey{h, public}, nil
	case *ecdsa.PublicKey:
		return &ecdsaKey{h, public}, nil
	case ed25519.PublicKey:
		return &ed25519Key{h, public}, nil
	case *ecdh.PublicKey:
		return nil, keyError(object.Errorf(ErrKeyType, "private key %v is for X25519, which does not sign; derive keys with it", id))
	}
	return nil, keyError(object.Errorf(ErrKeyType, "private key %v has a public key of type %T", id, public))
}

func (c *Client) newKey(found Found) (Key, error) {
	if class := found.Attributes.Class(); class != ClassPrivateKey {
		return nil, keyError(object.Errorf(ErrKeyType, "object %v is a %v object, expected a private key", found.ID, class))
	}
	spki, _ := found.Attributes.Get(AttrPublicKeyInfo)
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, keyError(fmt.Errorf("private key %v: reading its public key: %w", found.ID, err))
	}
	return c.KeyOf(found.ID, found.Attributes.Text(AttrLabel), public)
}

// keyError moves what the HSM says of a key to the stage of keys; troubles of
// the connection keep theirs.
func keyError(err error) error {
	switch object.CodeOf(err) {
	case ErrKeyHandle, ErrObjectNotFound:
		return &Error{Stage: StageKey, Err: inner(err), Fix: "list the partition's objects with `cmu list`"}
	case ErrKeyType:
		return &Error{Stage: StageKey, Err: inner(err)}
	}
	return stageError(StageKey, err)
}

// inner is err without an *Error around it.
func inner(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err
	}
	return err
}
