package client

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"io"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/wire"
)

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

func (k *ed25519Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil {
		return nil, keyArgument(ErrArgumentsBad, "signing without options; give crypto.Hash(0): Ed25519 signs the message itself")
	}
	if opts.HashFunc() != 0 {
		return nil, keyArgument(ErrMechanismParam, "Ed25519 signs the message itself, not a digest of it; give crypto.Hash(0)")
	}
	if o, is := opts.(*ed25519.Options); is && o.Context != "" {
		return nil, keyArgument(ErrMechanismParam, "the HSM does not sign with a context (Ed25519ctx); leave it out")
	}
	return k.use(wire.OpSign, Mechanism{Type: MechEdDSA}, message, ed25519.SignatureSize)
}

func (k *rsaKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if len(ciphertext) != k.public.Size() {
		return nil, keyArgument(ErrEncryptedData, "the ciphertext has %d bytes, the key %d", len(ciphertext), k.public.Size())
	}
	switch opts := opts.(type) {
	case *rsa.OAEPOptions:
		if opts != nil {
			return k.decryptOAEP(ciphertext, opts)
		}
	//lint:ignore SA1019 it is what crypto/tls asks with for RSA key exchange
	case *rsa.PKCS1v15DecryptOptions:
		if opts != nil && opts.SessionKeyLen > 0 {
			return k.decryptSessionKey(ciphertext, opts.SessionKeyLen)
		}
	}
	return nil, keyArgument(ErrMechanismParam, "decrypting with an RSA key needs *rsa.OAEPOptions, or *rsa.PKCS1v15DecryptOptions with the plaintext's length in SessionKeyLen: without it a caller can be made a padding oracle")
}

func (k *rsaKey) decryptOAEP(ciphertext []byte, opts *rsa.OAEPOptions) ([]byte, error) {
	hash, known := hashes[opts.Hash]
	if !known {
		return nil, keyArgument(ErrMechanismParam, "hash %v is not SHA-256, SHA-384 or SHA-512", opts.Hash)
	}
	if opts.MGFHash != 0 && opts.MGFHash != opts.Hash {
		return nil, keyArgument(ErrMechanismParam, "MGF1 with %v beside %v: the HSM has one hash for both", opts.MGFHash, opts.Hash)
	}
	out, err := k.client.use(k.ctx, wire.OpDecrypt, k.id, Mechanism{Type: MechRSAOAEP, Hash: hash, AAD: opts.Label}, ciphertext)
	if err != nil {
		return nil, err
	}
	if longest := k.public.Size() - 2*hash.Size() - 2; len(out) > longest { // RFC 8017, section 7.1.1
		return nil, keyArgument(ErrDeviceError, "the HSM's plaintext has %d bytes, at most %d fit", len(out), longest)
	}
	return out, nil
}

func (k *rsaKey) decryptSessionKey(ciphertext []byte, size int) ([]byte, error) {
	if longest := k.public.Size() - 11; size > longest {
		return nil, keyArgument(ErrMechanismParam, "SessionKeyLen is %d, at most %d for this key", size, longest)
	}
	return k.use(wire.OpDecrypt, Mechanism{Type: MechRSAPKCS, SessionKeyLen: uint32(size)}, ciphertext, size)
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

var hashes = map[crypto.Hash]Hash{crypto.SHA256: HashSHA256, crypto.SHA384: HashSHA384, crypto.SHA512: HashSHA512}

// wireHash is the hash that opts names, which the digest must fit.
func wireHash(digest []byte, opts crypto.SignerOpts) (Hash, error) {
	if opts == nil {
		return 0, keyArgument(ErrArgumentsBad, "signing without options; give the digest's crypto.Hash")
	}
	hash, known := hashes[opts.HashFunc()]
	if !known {
		return 0, keyArgument(ErrMechanismParam, "hash %d is not SHA-256, SHA-384 or SHA-512", opts.HashFunc())
	}
	if len(digest) != hash.Size() {
		return 0, keyArgument(ErrDataLength, "the digest has %d bytes, %v has %d; sign the digest, not the message", len(digest), opts.HashFunc(), hash.Size())
	}
	return hash, nil
}
