package certstore

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"

	"moongate/internal/gw/keys"
	gwvault "moongate/internal/gw/vault"
	"moongate/internal/keyfile"
)

// Vault seals private keys; the gateway's is a vault.Vault.
type Vault interface {
	Seal(kind string, plain []byte) (string, error)
	Open(kind, sealed string) ([]byte, error)
	// Locked says why it can do neither now; nil where it can. An error of
	// Seal and Open matches vault.ErrLocked then.
	Locked() error
}

// SealKind is the kind of secret that a private key is to the vault; what is
// sealed is its PKCS #8.
const SealKind = "private-key"

// Keys is the Provider of a gateway that has software keys beside those on its
// HSM: itself it passes on to the HSM, and a Store that is made with it opens
// the software keys of its configuration with the vault.
type Keys struct {
	keys.Provider
	vault Vault
}

// NewKeys returns the Provider of both.
func NewKeys(hsm keys.Provider, vault Vault) *Keys { return &Keys{hsm, vault} }

func (k *Keys) software(sealed string, public crypto.PublicKey) keys.Provider {
	return &software{vault: k.vault, sealed: sealed, public: public}
}

// softwareProvider is the further half of a Provider that has software keys.
type softwareProvider interface {
	software(sealed string, public crypto.PublicKey) keys.Provider
}

// errUnreadable: a software key does not open, or is another certificate's.
var errUnreadable = errors.New("the sealed private key cannot be used")

// software is one software key. It stays sealed until it is used first. From
// then on the parsed key is in this process's memory, which is neither dumped
// nor read by others (package harden), as long as the Store is: what Go's
// cryptography needs of it cannot be kept from the heap. Its PKCS #8 is wiped
// as soon as it is parsed.
type software struct {
	vault  Vault
	sealed string
	public crypto.PublicKey

	mu  sync.Mutex
	key crypto.Signer // guarded by mu; nil until used
}

// Key opens the key; errors wrap errUnreadable, or keys.ErrUnavailable while the
// vault is locked.
func (s *software) Key(_ context.Context, public crypto.PublicKey) (keys.Key, error) {
	if !keyfile.SamePublic(s.public, public) {
		return nil, fmt.Errorf("looking up a key: %w", keys.ErrNotFound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		key, err := openKey(s.vault, s.sealed, public)
		if err != nil {
			return nil, err
		}
		s.key = key
	}
	return softwareKey{s.key}, nil
}

// Status is that of a key that needs nobody, once the vault is not locked.
func (s *software) Status() keys.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil && s.vault != nil {
		if err := s.vault.Locked(); err != nil {
			return keys.Status{Stage: "vault", Cause: err.Error()}
		}
	}
	return keys.Status{Ready: true}
}

// openKey opens a sealed private key and requires that it is the public one's.
func openKey(vault Vault, sealed string, public crypto.PublicKey) (crypto.Signer, error) {
	if vault == nil {
		return nil, fmt.Errorf("%w: there is no vault to open it", errUnreadable)
	}
	der, err := vault.Open(SealKind, sealed)
	if errors.Is(err, gwvault.ErrLocked) {
		return nil, fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	defer clear(der)
	key, err := keyfile.ParseKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if !keyfile.SamePublic(key.Public(), public) {
		return nil, fmt.Errorf("%w: it does not belong to the certificate", errUnreadable)
	}
	return key, nil
}

// sealKey seals a private key.
func sealKey(vault Vault, key crypto.Signer) (keyPlace, error) {
	if vault == nil {
		return keyPlace{}, errors.New("sealing a private key: there is no vault")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPlace{}, fmt.Errorf("encoding a private key: %w", err)
	}
	defer clear(der)
	sealed, err := vault.Seal(SealKind, der)
	if errors.Is(err, gwvault.ErrLocked) {
		return keyPlace{}, fmt.Errorf("sealing a private key: %w: %w", keys.ErrUnavailable, err)
	}
	if err != nil {
		return keyPlace{}, fmt.Errorf("sealing a private key: %w", err)
	}
	return keyPlace{sealed: sealed}, nil
}

// softwareKey is a keys.Key that lets nobody at what it is.
type softwareKey struct{ private crypto.Signer }

func (k softwareKey) Public() crypto.PublicKey { return k.private.Public() }

func (k softwareKey) Bind(ctx context.Context) crypto.Signer {
	bound := softwareSigner{ctx, k.private}
	if private, isRSA := k.private.(*rsa.PrivateKey); isRSA {
		return softwareRSA{bound, private}
	}
	return bound
}

type softwareSigner struct {
	ctx     context.Context // of the handshake
	private crypto.Signer
}

func (s softwareSigner) Public() crypto.PublicKey { return s.private.Public() }

func (s softwareSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return s.private.Sign(orRandom(random), digest, opts)
}

// softwareRSA decrypts too. Padding is no oracle: crypto/tls asks with the
// length of a session key, and gets random bytes where the padding is wrong.
type softwareRSA struct {
	softwareSigner
	rsa *rsa.PrivateKey
}

func (s softwareRSA) Decrypt(random io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return s.rsa.Decrypt(orRandom(random), ciphertext, opts)
}

// orRandom is what a signer on an HSM does not need.
func orRandom(random io.Reader) io.Reader {
	if random == nil {
		return rand.Reader
	}
	return random
}
