package client

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

// Key is a private key on the HSM. An RSA key is a crypto.Decrypter too; an
// ECDSA key must not be one (crypto/tls refuses it then), which is why this is
// an interface with two types behind it. A Key survives reconnects and may be
// used from many goroutines at once.
//
// Sign signs a digest of SHA-256, SHA-384 or SHA-512, as opts says. RSA keys
// sign by PKCS #1 v1.5, or PSS where opts is an *rsa.PSSOptions: a salt length
// that is Auto or EqualsHash is the digest's. ECDSA signatures are ASN.1.
//
// Decrypt, of an RSA key, decrypts the premaster secret of an RSA key exchange,
// or any short value whose length is known before: opts must be an
// *rsa.PKCS1v15DecryptOptions with a SessionKeyLen. Where the padding or the
// length is wrong the answer is random bytes and no error, so that no caller
// can become a padding oracle (RFC 5246, section 7.4.7.1).
//
// Neither uses its reader: randomness is the HSM's.
type Key interface {
	crypto.Signer // Public returns an *rsa.PublicKey or *ecdsa.PublicKey

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

var (
	_ crypto.Decrypter = (*rsaKey)(nil)
	_ Key              = (*rsaKey)(nil)
	_ Key              = (*ecdsaKey)(nil)
)

func (k *rsaKey) Public() crypto.PublicKey   { return k.public }
func (k *ecdsaKey) Public() crypto.PublicKey { return k.public }

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

func (c *Client) newKey(found Found) (Key, error) {
	if class := found.Attributes.Class(); class != ClassPrivateKey {
		return nil, keyError(object.Errorf(ErrKeyType, "object %v is a %v object, expected a private key", found.ID, class))
	}
	spki, _ := found.Attributes.Get(AttrPublicKeyInfo)
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, keyError(fmt.Errorf("private key %v: reading its public key: %w", found.ID, err))
	}
	h := handle{client: c, ctx: context.Background(), id: found.ID, label: found.Attributes.Text(AttrLabel)}
	switch public := public.(type) {
	case *rsa.PublicKey:
		return &rsaKey{h, public}, nil
	case *ecdsa.PublicKey:
		return &ecdsaKey{h, public}, nil
	}
	return nil, keyError(object.Errorf(ErrKeyType, "private key %v has a public key of type %T", found.ID, public))
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

func (k *rsaKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, err := wireHash(digest, opts)
	if err != nil {
		return nil, err
	}
	m := Mechanism{Type: MechRSAPKCS, Hash: hash}
	if pss, is := opts.(*rsa.PSSOptions); is {
		m.Type = MechRSAPSS
		switch {
		case pss.SaltLength == rsa.PSSSaltLengthAuto || pss.SaltLength == rsa.PSSSaltLengthEqualsHash:
			m.SaltLength = uint32(hash.Size())
		case pss.SaltLength < 0 || pss.SaltLength > hash.Size():
			return nil, keyArgument(ErrMechanismParam, "a salt of %d bytes, at most the digest's %d", pss.SaltLength, hash.Size())
		default:
			m.SaltLength = uint32(pss.SaltLength)
		}
	}
	return k.use(wire.OpSign, m, digest, k.public.Size())
}

func (k *ecdsaKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, err := wireHash(digest, opts)
	if err != nil {
		return nil, err
	}
	size := (k.public.Curve.Params().N.BitLen() + 7) / 8
	signature, err := k.use(wire.OpSign, Mechanism{Type: MechECDSA, Hash: hash}, digest, 2*size)
	if err != nil {
		return nil, err
	}
	return ecdsaASN1(signature), nil
}

func (k *rsaKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	//lint:ignore SA1019 it is what crypto/tls asks with for RSA key exchange
	pkcs1, is := opts.(*rsa.PKCS1v15DecryptOptions)
	if !is || pkcs1 == nil || pkcs1.SessionKeyLen <= 0 {
		return nil, keyArgument(ErrMechanismParam, "decrypting with an RSA key needs *rsa.PKCS1v15DecryptOptions with the plaintext's length in SessionKeyLen: without it a caller can be made a padding oracle")
	}
	if len(ciphertext) != k.public.Size() {
		return nil, keyArgument(ErrEncryptedData, "the ciphertext has %d bytes, the key %d", len(ciphertext), k.public.Size())
	}
	if longest := k.public.Size() - 11; pkcs1.SessionKeyLen > longest {
		return nil, keyArgument(ErrMechanismParam, "SessionKeyLen is %d, at most %d for this key", pkcs1.SessionKeyLen, longest)
	}
	m := Mechanism{Type: MechRSAPKCS, SessionKeyLen: uint32(pkcs1.SessionKeyLen)}
	return k.use(wire.OpDecrypt, m, ciphertext, pkcs1.SessionKeyLen)
}

// use runs an operation whose result has the given size.
func (h *handle) use(op wire.Op, m Mechanism, data []byte, size int) ([]byte, error) {
	out, err := h.client.use(h.ctx, op, h.id, m, data)
	if err != nil {
		return nil, err
	}
	if len(out) != size {
		return nil, keyArgument(ErrDeviceError, "the HSM's %v has %d bytes, expected %d", op, len(out), size)
	}
	return out, nil
}

func keyArgument(code Code, format string, args ...any) error {
	return &Error{Stage: StageKey, Err: object.Errorf(code, format, args...)}
}

// wireHash is the hash that opts names, which the digest must fit.
func wireHash(digest []byte, opts crypto.SignerOpts) (Hash, error) {
	if opts == nil {
		return 0, keyArgument(ErrArgumentsBad, "signing without options; give the digest's crypto.Hash")
	}
	var hash Hash
	switch h := opts.HashFunc(); h {
	case crypto.SHA256:
		hash = HashSHA256
	case crypto.SHA384:
		hash = HashSHA384
	case crypto.SHA512:
		hash = HashSHA512
	default:
		return 0, keyArgument(ErrMechanismParam, "hash %d is not SHA-256, SHA-384 or SHA-512", h)
	}
	if len(digest) != hash.Size() {
		return 0, keyArgument(ErrDataLength, "the digest has %d bytes, %v has %d; sign the digest, not the message", len(digest), opts.HashFunc(), hash.Size())
	}
	return hash, nil
}

// ecdsaASN1 turns r || s into an ECDSA-Sig-Value (RFC 3279, section 2.2.3).
func ecdsaASN1(signature []byte) []byte {
	r := derInteger(signature[:len(signature)/2])
	s := derInteger(signature[len(signature)/2:])
	size := derIntegerSize(r) + derIntegerSize(s)
	out := make([]byte, 0, size+3)
	out = append(out, 0x30)
	if size >= 0x80 { // P-521
		out = append(out, 0x81)
	}
	out = append(out, byte(size))
	return appendDERInteger(appendDERInteger(out, r), s)
}

// derInteger strips leading zeros, but for the last.
func derInteger(v []byte) []byte {
	for len(v) > 1 && v[0] == 0 {
		v = v[1:]
	}
	return v
}

func derIntegerSize(v []byte) int {
	if v[0]&0x80 != 0 {
		return 3 + len(v)
	}
	return 2 + len(v)
}

func appendDERInteger(out, v []byte) []byte {
	out = append(out, 0x02, byte(derIntegerSize(v)-2))
	if v[0]&0x80 != 0 {
		out = append(out, 0)
	}
	return append(out, v...)
}
