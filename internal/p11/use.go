package p11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"time"

	"moongate/internal/hsm/object"
)

// use runs an operation with a key. A handle that turns out to be of the past
// is looked up again, once.
func (t *Token) use(ctx context.Context, id object.ID, name string, do func(session uint, n *entry) ([]byte, error)) ([]byte, error) {
	for again := false; ; again = true {
		n, of, err := t.objects.object(ctx, id)
		if err != nil {
			return nil, err
		}
		out, err := run(ctx, t, call[[]byte]{
			name: name, limit: t.options.HangLimit,
			do: func(e *era, session uint) ([]byte, error) {
				if e != of {
					return nil, errEraOver
				}
				return do(session, n)
			},
		})
		code, _ := errors.AsType[CKR](err)
		stale := errors.Is(err, errEraOver) || code == ckrKeyHandleInvalid || code == ckrObjectHandleInvalid
		if !stale || again {
			return out, err
		}
		if _, err := t.objects.current(ctx, time.Now()); err != nil {
			return nil, err
		}
	}
}

// key returns a key for a use, which its attributes must not exclude.
func (s *session) key(ctx context.Context, id object.ID, use object.AttributeType) (*entry, error) {
	if err := s.loggedIn(); err != nil {
		return nil, err
	}
	n, _, err := s.token.objects.object(ctx, id)
	if err != nil {
		return nil, err
	}
	if class := n.attributes.Class(); class != object.ClassPrivateKey && class != object.ClassSecretKey {
		return nil, object.Errorf(object.ErrKeyType, "a %v object is not used through moongate-p11", class)
	}
	if n.always {
		return nil, object.Errorf(object.ErrKeyNotPermitted, "key %q wants the PIN for each use (CKA_ALWAYS_AUTHENTICATE), which no service can give; make one without", n.attributes.Text(object.AttrLabel))
	}
	if n.attributes.Has(use) && !n.attributes.Bool(use) {
		return nil, object.Errorf(object.ErrKeyNotPermitted, "key %q has %v false", n.attributes.Text(object.AttrLabel), use)
	}
	return n, nil
}

// has refuses a mechanism that the token has not.
func (t *Token) has(m object.MechanismType) error {
	if !t.can(uint(m)) {
		return object.Errorf(object.ErrMechanism, "token %q has no %v", t.Slot().Label, m)
	}
	return nil
}

// Sign signs a digest.
func (s *session) Sign(ctx context.Context, _ object.OperationID, id object.ID, m object.Mechanism, digest []byte) ([]byte, object.Receipt, error) {
	n, err := s.key(ctx, id, object.AttrSign)
	if err != nil {
		return nil, nil, err
	}
	how, data, err := s.token.signing(n, m, digest)
	if err != nil {
		return nil, nil, err
	}
	out, err := s.token.use(ctx, id, "C_Sign", func(session uint, n *entry) ([]byte, error) {
		return s.token.module.Sign(session, how, n.handle, data)
	})
	if err != nil {
		return nil, nil, refusal("signing", err)
	}
	if want := signatureSize(n); len(out) != want {
		return nil, nil, object.Errorf(object.ErrDeviceError, "signing: the module gave %d bytes, a signature of this key has %d", len(out), want)
	}
	if public, is := n.public.(*rsa.PublicKey); is && !isSignature(public, m, digest, out) {
		s.token.log.Error("the module gave a wrong signature, which is not passed on", "key", n.id, "mechanism", m.Type.String())
		return nil, nil, object.Errorf(object.ErrDeviceError, "signing: the module gave a signature that is not this key's; it is not passed on")
	}
	return out, nil, nil
}

// isSignature checks an RSA signature, which takes a thirtieth of the time of
// making one: a faulty one can give the private key away (Boneh, DeMillo and
// Lipton, EUROCRYPT 1997).
func isSignature(public *rsa.PublicKey, m object.Mechanism, digest, signature []byte) bool {
	hash := map[object.Hash]crypto.Hash{object.HashSHA256: crypto.SHA256, object.HashSHA384: crypto.SHA384, object.HashSHA512: crypto.SHA512}[m.Hash]
	if m.Type == object.MechRSAPSS {
		return rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: int(m.SaltLength)}) == nil
	}
	return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
}

// signatureSize is a signature's length in bytes.
func signatureSize(n *entry) int {
	switch public := n.public.(type) {
	case *rsa.PublicKey:
		return public.Size()
	case *ecdsa.PublicKey:
		return 2 * orderSize(public)
	}
	return 0
}

func orderSize(public *ecdsa.PublicKey) int { return (public.Params().N.BitLen() + 7) / 8 }

// signing says how the module is to sign, and what.
func (t *Token) signing(n *entry, m object.Mechanism, digest []byte) (Mechanism, []byte, error) {
	if m.SessionKeyLen != 0 || len(m.AAD) != 0 || len(m.IV) != 0 || len(m.Salt) != 0 || len(m.Info) != 0 || len(m.Peer) != 0 {
		return Mechanism{}, nil, object.Errorf(object.ErrMechanismParam, "%v takes a hash, and for PSS a salt length, and nothing else", m.Type)
	}
	if m.Hash != object.HashNone && (m.Hash.Size() == 0 || m.Hash.Size() != len(digest)) {
		return Mechanism{}, nil, object.Errorf(object.ErrDataLength, "the digest has %d bytes, its hash makes %d", len(digest), m.Hash.Size())
	}
	how := Mechanism{Type: uint(m.Type)}
	switch m.Type {
	case object.MechRSAPKCS, object.MechRSAPSS:
		if _, is := n.public.(*rsa.PublicKey); !is {
			return Mechanism{}, nil, wrongKey(n, m.Type)
		}
		if m.Hash == object.HashNone {
			return Mechanism{}, nil, object.Errorf(object.ErrMechanismParam, "%v needs a hash: SHA-256, SHA-384 or SHA-512", m.Type)
		}
		if m.Type == object.MechRSAPKCS {
			return how, append([]byte(digestInfo[m.Hash]), digest...), t.has(m.Type)
		}
		if size := uint32(len(digest)); m.SaltLength == 0 || m.SaltLength > size {
			return Mechanism{}, nil, object.Errorf(object.ErrMechanismParam, "PSS salt length is %d, expected 1 to %d", m.SaltLength, size)
		}
		how.PSS = &PSS{Hash: uint(m.Hash), MGF: mgfOf[m.Hash], SaltLength: uint(m.SaltLength)}
		return how, append([]byte(nil), digest...), t.has(m.Type)
	case object.MechECDSA:
		public, is := n.public.(*ecdsa.PublicKey)
		if !is {
			return Mechanism{}, nil, wrongKey(n, m.Type)
		}
		if size := len(digest); size != 32 && size != 48 && size != 64 {
			return Mechanism{}, nil, object.Errorf(object.ErrDataLength, "digest has %d bytes, expected 32, 48 or 64 (SHA-256, SHA-384, SHA-512)", size)
		}
		// The leftmost bits of a digest that is longer than the order (FIPS 186-5,
		// section 6.4.1): not every module cuts it off by itself. The orders of
		// P-256 and P-384 are of whole bytes.
		return how, append([]byte(nil), digest[:min(len(digest), orderSize(public))]...), t.has(m.Type)
	}
	return Mechanism{}, nil, object.Errorf(object.ErrMechanism, "%v is not done through moongate-p11; CKM_RSA_PKCS, CKM_RSA_PKCS_PSS and CKM_ECDSA are", m.Type)
}

func wrongKey(n *entry, m object.MechanismType) error {
	if n.public == nil {
		return object.Errorf(object.ErrKeyType, "the public half of key %q is not known: put its public key or its certificate on the token, with the same CKA_ID (%x)",
			n.attributes.Text(object.AttrLabel), valueOf(n.attributes, object.AttrID))
	}
	return object.Errorf(object.ErrKeyType, "key %q is not one for %v", n.attributes.Text(object.AttrLabel), m)
}

func valueOf(t object.Template, typ object.AttributeType) []byte {
	value, _ := t.Get(typ)
	return value
}

// digestInfo is what stands before the digest in a signature of RSASSA-PKCS1-v1_5
// (RFC 8017, section 9.2, note 1): CKM_RSA_PKCS signs what it is given.
var digestInfo = map[object.Hash]string{
	object.HashSHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	object.HashSHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	object.HashSHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

// mgfOf are the CKG_ numbers of MGF1 (PKCS#11 v3.1, section 6.1.8).
var mgfOf = map[object.Hash]uint{object.HashSHA256: 2, object.HashSHA384: 3, object.HashSHA512: 4}

// maxRandomCall is how much one call of C_GenerateRandom asks for: some modules
// take no more.
const maxRandomCall = 1024

func (t *Token) random(ctx context.Context, n int) ([]byte, error) {
	out, err := run(ctx, t, call[[]byte]{
		name: "C_GenerateRandom", limit: t.options.HangLimit,
		do: func(_ *era, session uint) ([]byte, error) {
			var all []byte
			for len(all) < n {
				want := min(n-len(all), maxRandomCall)
				some, err := t.module.Random(session, want)
				if err != nil {
					return nil, err
				}
				if len(some) != want {
					return nil, ckrDeviceError
				}
				all = append(all, some...)
			}
			return all, nil
		},
	})
	if err != nil {
		return nil, refusal("making random bytes", err)
	}
	return out, nil
}
