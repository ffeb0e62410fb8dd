package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/passphrase"
)

// Bounds of an administrator's password, in bytes.
const (
	MinPassword = 8
	MaxPassword = 256
)

// ErrHash is matched by the errors of CheckHash.
var ErrHash = errors.New("this is no hash of a password that this gateway makes")

var hashEncoding = base64.RawStdEncoding.Strict()

// hash is a password's hash: Argon2id's text with what it derives, as in
//
//	$argon2id$v=19$m=65536,t=2,p=2$SALT$HASH
type hash struct {
	kdf     passphrase.KDF
	derived [passphrase.Size]byte
}

func (h hash) String() string {
	return h.kdf.String() + "$" + hashEncoding.EncodeToString(h.derived[:])
}

// Hash makes the hash of a password of MinPassword to MaxPassword bytes, as the
// configuration holds it. Each is 64 MiB of work: others wait while
// checksAtATime are being made, so that whoever may ask for one cannot take the
// gateway's memory by asking for many.
func Hash(password []byte) (string, error) { return hashAt(passphrase.Login, password) }

// making holds one for each hash that is being made.
var making = make(chan struct{}, checksAtATime)

func hashAt(c passphrase.Cost, password []byte) (string, error) {
	if len(password) < MinPassword || len(password) > MaxPassword {
		return "", fmt.Errorf("the password has %d bytes; expected %d to %d", len(password), MinPassword, MaxPassword)
	}
	making <- struct{}{}
	defer func() { <-making }()
	kdf := passphrase.New(c)
	return hash{kdf, kdf.Derive(password)}.String(), nil
}

// CheckHash refuses a text that Hash could not have made, at whatever cost.
func CheckHash(text string) error {
	_, err := parseHash(text)
	return err
}

// parseHash reads a hash; there is one text of each.
func parseHash(text string) (hash, error) {
	cut := strings.LastIndexByte(text, '$')
	if cut < 0 || len(text) > 256 {
		return hash{}, fmt.Errorf("%w: expected $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH", ErrHash)
	}
	kdf, err := passphrase.Parse(text[:cut])
	if err != nil {
		return hash{}, fmt.Errorf("%w: %w", ErrHash, err)
	}
	derived, err := hashEncoding.DecodeString(text[cut+1:])
	if err != nil || len(derived) != passphrase.Size {
		return hash{}, fmt.Errorf("%w: what follows the last $ is not %d bytes in base64", ErrHash, passphrase.Size)
	}
	h := hash{kdf: kdf}
	copy(h.derived[:], derived)
	if h.String() != text {
		return hash{}, fmt.Errorf("%w: it is not in its canonical form", ErrHash)
	}
	return h, nil
}

// fits reports whether a password is the one of the hash, after the work that
// the hash asks for.
func (h hash) fits(password []byte) bool {
	derived := h.kdf.Derive(password)
	defer clear(derived[:])
	return subtle.ConstantTimeCompare(derived[:], h.derived[:]) == 1
}

// decoy is a hash of no password, for who has none or does not exist.
func decoy(c passphrase.Cost) hash {
	h := hash{kdf: passphrase.New(c)}
	rand.Read(h.derived[:])
	return h
}
