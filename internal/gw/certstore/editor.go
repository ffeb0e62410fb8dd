package certstore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
)

// HSM is where private keys are that the gateway does not have; a keys.Switch
// is one.
type HSM interface {
	keys.Provider
	keys.Maker
}

// Editor makes the edits that change a configuration's certificates. It applies
// none of them. It is safe for concurrent use.
//
// Its errors wrap config.ErrNotPresent and config.ErrNotUnique of names,
// *config.RefError, keys.ErrUnavailable and keys.ErrNotFound of the HSM, and
// keyfile.ErrPassphraseMissing and keyfile.ErrPassphraseWrong; all others say
// what is wrong with what was given. None repeats a key or a passphrase.
type Editor struct {
	vault Vault
	hsm   HSM
	now   func() time.Time
}

// NewEditor returns an Editor; now is the clock, time.Now where it is nil.
func NewEditor(vault Vault, hsm HSM, now func() time.Time) *Editor {
	if now == nil {
		now = time.Now
	}
	return &Editor{vault, hsm, now}
}

// hsmTimeout bounds the finding and the use of one key on the HSM.
const hsmTimeout = 20 * time.Second

// key returns the private key of an entry for use under ctx, wherever it is.
func (e *Editor) key(ctx context.Context, f found) (crypto.Signer, error) {
	switch {
	case f.key.onHSM:
		key, err := e.onHSM(ctx, f.public())
		if err != nil {
			return nil, fmt.Errorf("private key of certificate %q: %w", f.name, err)
		}
		return key.Bind(ctx), nil
	case f.key.sealed != "":
		key, err := openKey(e.vault, f.key.sealed, f.public())
		if err != nil {
			return nil, fmt.Errorf("private key of certificate %q: %w", f.name, err)
		}
		return key, nil
	}
	return nil, fmt.Errorf("certificate %q has no private key here: import it, or set private-key-on-hsm to yes if the HSM has it", f.name)
}

// onHSM finds the key that belongs to a public one, and proves that it works.
func (e *Editor) onHSM(ctx context.Context, public crypto.PublicKey) (keys.Key, error) {
	if err := e.hsmReady(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, hsmTimeout)
	defer cancel()
	key, err := e.hsm.Key(ctx, public)
	if errors.Is(err, keys.ErrNotFound) {
		return nil, fmt.Errorf("the HSM has no private key that belongs to it (%w): make or import it there first (cmu gen, cmu importkey), or import the certificate together with its key", err)
	}
	if err != nil {
		return nil, err
	}
	return key, Prove(ctx, key)
}

// hsmReady says at once that the HSM is away: an administrator waits.
func (e *Editor) hsmReady() error {
	if e.hsm == nil {
		return fmt.Errorf("%w: no HSM is configured", keys.ErrUnavailable)
	}
	if s := e.hsm.Status(); !s.Ready {
		return fmt.Errorf("%w: %s; try again when the HSM is back", keys.ErrUnavailable, s.Cause)
	}
	return nil
}

// Prove signs with a key and verifies the signature with its public half.
func Prove(ctx context.Context, key keys.Key) error {
	message := make([]byte, 32)
	rand.Read(message) // never fails (crypto/rand, since Go 1.24)
	digest := sha256.Sum256(message)
	signature, err := key.Bind(ctx).Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("signing with it: %w", err)
	}
	verified := false
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		verified = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	case *ecdsa.PublicKey:
		verified = ecdsa.VerifyASN1(public, digest[:], signature)
	}
	if !verified {
		return errors.New("signing with it: the signature does not verify; the key is another one, or the HSM works wrong")
	}
	return nil
}

// maxDays is twenty years, about.
const maxDays = 7300

// dates are those of a certificate of so many days from now, 365 for 0, begun
// an hour back for clocks that differ.
func (e *Editor) dates(days int) (notBefore, notAfter time.Time, err error) {
	if days == 0 {
		days = 365
	}
	if days < 1 || days > maxDays {
		return notBefore, notAfter, fmt.Errorf("a certificate of %d days, expected 1 to %d", days, maxDays)
	}
	now := e.now().UTC().Truncate(time.Second)
	return now.Add(-time.Hour), now.AddDate(0, 0, days), nil
}

// maxChain is what the configuration takes, in certificates.
const maxChain = 16

func chainFits(chain []*x509.Certificate) error {
	if len(chain) > maxChain {
		return fmt.Errorf("a chain of %d certificates, expected at most %d", len(chain), maxChain)
	}
	return nil
}

// KeyState tells how the private key of a certificate of a tree stands. It asks
// the HSM, under ctx.
func (e *Editor) KeyState(ctx context.Context, root *config.Node, name string) (State, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return "", err
	}
	if f.key.none() {
		return NoKey, nil
	}
	_, err = e.key(ctx, f)
	switch {
	case err == nil && f.key.onHSM:
		return Locked, nil
	case err == nil:
		return Software, nil
	case errors.Is(err, errUnreadable):
		return Unreadable, nil
	case errors.Is(err, keys.ErrNotFound):
		return Missing, nil
	}
	return Unavailable, nil
}
