package vault

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A sealed secret is text that an element of the configuration can hold: Prefix,
// then in base64url without padding the data key's id (8 bytes), the secret's
// random id (16), the nonce (12), and the padded secret under AES-256-GCM with
// its tag. The kind of secret, its id and the data key's are what it is bound
// to: not its place in the configuration, so that it can be renamed, cloned and
// loaded from an older version.
const (
	// Prefix begins every sealed secret, and nothing else may begin with it.
	Prefix = "-AQ=="
	// MaxSecret is the longest secret in bytes.
	MaxSecret = 64 << 10

	maxKind = 64
)

var (
	encoding  = base64.RawURLEncoding.Strict()
	maxSealed = len(Prefix) + encoding.EncodedLen(keyIDSize+overhead+(MaxSecret/padding+1)*padding)
)

var (
	// ErrNotSealed: the text is not a secret that a vault of this format
	// sealed.
	ErrNotSealed = errors.New("this is not a secret that a gateway of this kind sealed; give it in the clear, and it will be sealed")
	// ErrUnknownKey: the secret is sealed under a data key that is not in the
	// keyring.
	ErrUnknownKey = errors.New("this secret was sealed by another gateway, or under a data key that is gone; restore that gateway's vault, or give the secret anew")
	// ErrChanged: the sealed text was changed, or is a secret of another kind.
	ErrChanged = errors.New("this sealed secret was changed, or belongs to an element of another kind; give the secret anew")
)

// sealedSecret is a sealed text, taken apart.
type sealedSecret struct {
	keyID string
	body  []byte // id, nonce, ciphertext, tag
}

func (s *sealedSecret) id() []byte { return s.body[:secretIDSize] }

func (s *sealedSecret) text() string {
	raw, err := hex.DecodeString(s.keyID)
	if err != nil {
		panic("vault: " + err.Error()) // ids are checked when the keyring is read
	}
	return Prefix + encoding.EncodeToString(append(raw, s.body...))
}

// parseSealed reads a sealed text; there is one encoding.
func parseSealed(text string) (*sealedSecret, error) {
	digits, ok := strings.CutPrefix(text, Prefix)
	// encoding skips line ends, which would be a second encoding.
	if !ok || len(text) > maxSealed || strings.ContainsAny(digits, "\r\n") {
		return nil, ErrNotSealed
	}
	raw, err := encoding.DecodeString(digits)
	if err != nil || len(raw) < keyIDSize+overhead+padding || (len(raw)-keyIDSize-overhead)%padding != 0 {
		return nil, ErrNotSealed
	}
	return &sealedSecret{hex.EncodeToString(raw[:keyIDSize]), raw[keyIDSize:]}, nil
}

// IsSealed reports whether a text has the form of a sealed secret. It does not
// say that this vault can open it.
func IsSealed(text string) bool {
	_, err := parseSealed(text)
	return err == nil
}

func checkKind(kind string) error {
	if len(kind) == 0 || len(kind) > maxKind {
		return fmt.Errorf("vault: a kind of secret has %d bytes; expected 1 to %d", len(kind), maxKind)
	}
	return nil
}

func secretContext(kind, keyID string) []byte { return contextOf("moongate secret", kind, keyID) }

// Seal seals a secret of at most MaxSecret bytes for an element of the given
// kind, such as "private-key": only under the same kind does it open again. Two
// calls for one secret return two texts.
func (v *Vault) Seal(kind string, plain []byte) (string, error) {
	return v.sealAs(kind, newSecretID(), plain)
}

func (v *Vault) sealAs(kind string, id, plain []byte) (string, error) {
	if err := checkKind(kind); err != nil {
		return "", err
	}
	if len(plain) > MaxSecret {
		return "", fmt.Errorf("a secret of %d bytes is too long; at most %d are sealed", len(plain), MaxSecret)
	}
	padded := pad(plain)
	defer clear(padded)
	var text string
	err := v.withRing(func(r *ring) error {
		keyID, k := r.active()
		s := sealedSecret{keyID, seal(nil, k, secretContext(kind, keyID), id, padded)}
		text = s.text()
		return nil
	})
	return text, err
}

// Open opens what Seal sealed for this kind. The error is ErrNotSealed,
// ErrUnknownKey or ErrChanged. The caller clears what it returns when it is
// done with it.
func (v *Vault) Open(kind, sealed string) ([]byte, error) {
	if err := checkKind(kind); err != nil {
		return nil, err
	}
	s, err := parseSealed(sealed)
	if err != nil {
		return nil, err
	}
	var plain []byte
	err = v.withRing(func(r *ring) error {
		k := r.find(s.keyID)
		if k == nil {
			return ErrUnknownKey
		}
		padded, err := unseal(k, secretContext(kind, s.keyID), s.body)
		if err != nil {
			return ErrChanged
		}
		if plain, err = unpad(padded); err != nil {
			return ErrChanged
		}
		return nil
	})
	return plain, err
}
