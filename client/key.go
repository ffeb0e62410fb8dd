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

// Key is a private key on the HSM: a crypto.Signer, and for RSA a
// crypto.Decrypter. It is a small value that survives reconnects; it may be
// used from many goroutines at once.
type Key struct {
	client *Client
	ctx    context.Context // of every use; see WithContext
	id     ID
	label  string
	public crypto.PublicKey
}

var (
	_ crypto.Signer    = (*Key)(nil)
	_ crypto.Decrypter = (*Key)(nil)
)

// keyAttributes are what a Key is made from.
var keyAttributes = []AttributeType{AttrClass, AttrLabel, AttrPublicKeyInfo}

// Key returns the private key with the given id. The context is for the
// look-up alone.
func (c *Client) Key(ctx context.Context, id ID) (*Key, error) {
	t, err := c.Attributes(ctx, id, keyAttributes...)
	if err != nil {
		return nil, keyError(err)
	}
	return c.newKey(Found{ID: id, Attributes: t})
}

// FindKeyByPublic returns the private key that belongs to a public key.
func (c *Client) FindKeyByPublic(ctx context.Context, public crypto.PublicKey) (*Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, &Error{Stage: StageKey, Err: err}
	}
	return c.findKey(ctx, object.Bytes(AttrPublicKeyInfo, spki), "the given public key")
}

// FindKeyByLabel returns the only private key with the given CKA_LABEL.
func (c *Client) FindKeyByLabel(ctx context.Context, label string) (*Key, error) {
	return c.findKey(ctx, object.Text(AttrLabel, label), fmt.Sprintf("the label %q", label))
}

// FindKeyByKeyID returns the only private key with the given CKA_ID.
func (c *Client) FindKeyByKeyID(ctx context.Context, id []byte) (*Key, error) {
	return c.findKey(ctx, object.Bytes(AttrID, id), fmt.Sprintf("the CKA_ID %x", id))
}

func (c *Client) findKey(ctx context.Context, by Attribute, what string) (*Key, error) {
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

func (c *Client) newKey(found Found) (*Key, error) {
	if class := found.Attributes.Class(); class != ClassPrivateKey {
		return nil, keyError(object.Errorf(ErrKeyType, "object %v is a %v object, expected a private key", found.ID, class))
	}
	spki, _ := found.Attributes.Get(AttrPublicKeyInfo)
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, keyError(fmt.Errorf("private key %v: reading its public key: %w", found.ID, err))
	}
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return nil, keyError(object.Errorf(ErrKeyType, "private key %v has a public key of type %T", found.ID, public))
	}
	return &Key{client: c, ctx: context.Background(), id: found.ID, label: found.Attributes.Text(AttrLabel), public: public}, nil
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

// ID names the key on the HSM.
func (k *Key) ID() ID { return k.id }

// Label is the key's CKA_LABEL as it was when the Key was looked up.
func (k *Key) Label() string { return k.label }

// Public returns an *rsa.PublicKey or *ecdsa.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// WithContext returns the same key, whose uses end with ctx and carry its
// operation id: bind one for each handshake.
func (k *Key) WithContext(ctx context.Context) *Key {
	bound := *k
	bound.ctx = ctx
	return &bound
}

// Sign signs a digest of SHA-256, SHA-384 or SHA-512, as opts says. RSA keys
// sign by PKCS #1 v1.5, or PSS where opts is an *rsa.PSSOptions: a salt length
// that is Auto or EqualsHash is the digest's. ECDSA signatures are ASN.1. The
// randomness is the HSM's; the reader is not used.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, keyArgument(ErrArgumentsBad, "signing without options; give the digest's crypto.Hash")
	}
	hash, err := wireHash(opts.HashFunc())
	if err != nil {
		return nil, err
	}
	if len(digest) != hash.Size() {
		return nil, keyArgument(ErrDataLength, "the digest has %d bytes, %v has %d; sign the digest, not the message", len(digest), opts.HashFunc(), hash.Size())
	}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
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
		signature, err := k.client.Sign(k.ctx, k.id, m, digest)
		if err != nil {
			return nil, err
		}
		if len(signature) != public.Size() {
			return nil, keyArgument(ErrDeviceError, "the HSM's signature has %d bytes, expected %d", len(signature), public.Size())
		}
		return signature, nil
	case *ecdsa.PublicKey:
		signature, err := k.client.Sign(k.ctx, k.id, Mechanism{Type: MechECDSA, Hash: hash}, digest)
		if err != nil {
			return nil, err
		}
		if size := (public.Curve.Params().N.BitLen() + 7) / 8; len(signature) != 2*size {
			return nil, keyArgument(ErrDeviceError, "the HSM's signature has %d bytes, expected %d", len(signature), 2*size)
		}
		return ecdsaASN1(signature), nil
	}
	panic("unreachable: newKey admits RSA and ECDSA only")
}

// Decrypt decrypts the premaster secret of an RSA key exchange, or any short
// value whose length is known before: opts must be an
// *rsa.PKCS1v15DecryptOptions with a SessionKeyLen. Where the padding or the
// length is wrong the answer is random bytes and no error, so that no caller
// can become a padding oracle (RFC 5246, section 7.4.7.1). The reader is not
// used.
func (k *Key) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	public, is := k.public.(*rsa.PublicKey)
	if !is {
		return nil, keyArgument(ErrKeyType, "an ECDSA key does not decrypt")
	}
	//lint:ignore SA1019 it is what crypto/tls asks with for RSA key exchange
	pkcs1, is := opts.(*rsa.PKCS1v15DecryptOptions)
	if !is || pkcs1 == nil || pkcs1.SessionKeyLen <= 0 {
		return nil, keyArgument(ErrMechanismParam, "decrypting with an RSA key needs *rsa.PKCS1v15DecryptOptions with the plaintext's length in SessionKeyLen: without it a caller can be made a padding oracle")
	}
	if len(ciphertext) != public.Size() {
		return nil, keyArgument(ErrEncryptedData, "the ciphertext has %d bytes, the key %d", len(ciphertext), public.Size())
	}
	if pkcs1.SessionKeyLen > public.Size()-11 {
		return nil, keyArgument(ErrMechanismParam, "SessionKeyLen is %d, at most %d for this key", pkcs1.SessionKeyLen, public.Size()-11)
	}
	m := Mechanism{Type: MechRSAPKCS, SessionKeyLen: uint32(pkcs1.SessionKeyLen)}
	plaintext, err := k.client.use(k.ctx, wire.OpDecrypt, k.id, m, ciphertext)
	if err != nil {
		return nil, err
	}
	if len(plaintext) != pkcs1.SessionKeyLen {
		return nil, keyArgument(ErrDeviceError, "the HSM's plaintext has %d bytes, expected %d", len(plaintext), pkcs1.SessionKeyLen)
	}
	return plaintext, nil
}

func keyArgument(code Code, format string, args ...any) error {
	return &Error{Stage: StageKey, Err: object.Errorf(code, format, args...)}
}

func wireHash(h crypto.Hash) (Hash, error) {
	switch h {
	case crypto.SHA256:
		return HashSHA256, nil
	case crypto.SHA384:
		return HashSHA384, nil
	case crypto.SHA512:
		return HashSHA512, nil
	}
	return 0, keyArgument(ErrMechanismParam, "hash %d is not SHA-256, SHA-384 or SHA-512", h)
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
