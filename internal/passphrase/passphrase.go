// Package passphrase stretches what people choose, by Argon2id (RFC 9106): the
// passwords of administrators, and the passphrases of files.
//
// A derivation is written in the form of the password hashing competition,
// which says by itself how it was made:
//
//	$argon2id$v=19$m=65536,t=2,p=2$SALT
//
// with SALT, 16 bytes, in base64 without padding. There is one text of each.
package passphrase

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost is what one derivation takes.
type Cost struct {
	Memory  uint32 // KiB
	Time    uint32 // passes over it
	Threads uint8  // lanes
}

var (
	// Login is the cost of a password that is asked for at logins: some tenth
	// of a second of one core.
	Login = Cost{Memory: 64 << 10, Time: 2, Threads: 2}
	// File is the cost of a passphrase that guards a file, which its thief can
	// try at leisure.
	File = Cost{Memory: 256 << 10, Time: 3, Threads: 2}
	// Least is the least that a text may say.
	Least = Cost{Memory: 8 << 10, Time: 1, Threads: 1}
)

// most is the most that a text may ask of us: a quarter of a gigabyte, and
// some seconds of one core.
var most = Cost{Memory: 256 << 10, Time: 16, Threads: 16}

// Size of what is derived, in bytes.
const Size = 32

const saltSize = 16

// maxText bounds the text of a derivation, in bytes.
const maxText = 64

// KDF is a derivation: its cost and its salt.
type KDF struct {
	Cost
	Salt [saltSize]byte
}

// ErrText is matched by the errors of [Parse].
var ErrText = errors.New("this is no Argon2id derivation")

// New returns a derivation with a fresh salt.
func New(c Cost) KDF {
	k := KDF{Cost: c}
	rand.Read(k.Salt[:]) // never fails: the program ends instead
	return k
}

// String is the text of a derivation.
func (k KDF) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s", argon2.Version, k.Memory, k.Time, k.Threads, base64.RawStdEncoding.EncodeToString(k.Salt[:]))
}

// Parse reads the text of a derivation; one that is not known, out of bounds or
// not in its canonical form is refused.
func Parse(text string) (KDF, error) {
	if len(text) > maxText {
		return KDF{}, fmt.Errorf("%w: it has %d bytes, at most %d", ErrText, len(text), maxText)
	}
	bad := fmt.Errorf("%w: expected $argon2id$v=%d$m=KIB,t=PASSES,p=LANES$SALT", ErrText, argon2.Version)
	var k KDF
	parts := strings.Split(text, "$")
	if len(parts) != 5 {
		return KDF{}, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &k.Memory, &k.Time, &k.Threads); n != 3 || err != nil {
		return KDF{}, bad
	}
	salt, err := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	if err != nil || len(salt) != saltSize {
		return KDF{}, bad
	}
	copy(k.Salt[:], salt)
	if k.String() != text {
		return KDF{}, bad
	}
	if err := k.check(); err != nil {
		return KDF{}, err
	}
	return k, nil
}

func (c Cost) check() error {
	within := func(what string, n, low, high uint32) error {
		if n < low || n > high {
			return fmt.Errorf("%w: %s is %d, expected %d to %d", ErrText, what, n, low, high)
		}
		return nil
	}
	return errors.Join(
		within("m (KiB)", c.Memory, Least.Memory, most.Memory),
		within("t", c.Time, Least.Time, most.Time),
		within("p", uint32(c.Threads), uint32(Least.Threads), uint32(most.Threads)),
	)
}

// Derive turns a passphrase into a key. It takes k.Memory KiB while it runs:
// let few run at a time. The cost must be one that Parse takes, or it panics.
func (k KDF) Derive(passphrase []byte) [Size]byte {
	if err := k.check(); err != nil {
		panic("passphrase: " + err.Error()) // texts are checked by Parse, and programs name a cost of this package
	}
	stretched := argon2.IDKey(passphrase, k.Salt[:], k.Time, k.Memory, k.Threads, Size)
	defer clear(stretched)
	return [Size]byte(stretched)
}
