package mech

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"

	"moongate/internal/hsm/object"

	"golang.org/x/crypto/argon2"
)

// Names of password derivations.
const (
	KDFArgon2id = "argon2id"      // RFC 9106
	KDFPBKDF2   = "pbkdf2-sha256" // RFC 8018 with HMAC-SHA-256; SP 800-132
)

// KDF turns a password into a key, slowly. It is stored beside what the key
// opens, as JSON; Check it after reading it back.
type KDF struct {
	Name       string `json:"name"`
	Salt       []byte `json:"salt"`                 // 16 random bytes
	Time       uint32 `json:"time,omitempty"`       // argon2id: passes
	Memory     uint32 `json:"memory,omitempty"`     // argon2id: KiB
	Threads    uint8  `json:"threads,omitempty"`    // argon2id: lanes
	Iterations uint32 `json:"iterations,omitempty"` // pbkdf2
}

const saltSize = 16

// Bounds of what a stored record may ask of us.
const (
	minTime, maxTime             = 1, 16
	minMemory, maxMemory         = 8 << 10, 1 << 20 // KiB: 8 MiB to 1 GiB
	minThreads, maxThreads       = 1, 16
	minIterations, maxIterations = 100_000, 10_000_000
)

// NewKDF returns a derivation with a fresh salt and the cost of today:
// Argon2id, or what is approved in FIPS mode, PBKDF2.
func NewKDF(p Policy) KDF {
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails: the program ends instead
	if p.FIPS {
		return KDF{Name: KDFPBKDF2, Salt: salt, Iterations: 600_000}
	}
	return KDF{Name: KDFArgon2id, Salt: salt, Time: 2, Memory: 64 << 10, Threads: 2}
}

// CheckKDF refuses a derivation that is unknown, out of bounds, or that the
// policy does not allow.
func (p Policy) CheckKDF(k KDF) error {
	if k.Name == KDFArgon2id && p.FIPS {
		return object.Errorf(object.ErrMechanism, "password is kept by %s, which is not approved in FIPS mode; set the password again", k.Name)
	}
	return k.check()
}

func (k KDF) check() error {
	if len(k.Salt) != saltSize {
		return object.Errorf(object.ErrDataInvalid, "password salt has %d bytes, expected %d", len(k.Salt), saltSize)
	}
	within := func(what string, n, low, high uint32) error {
		if n < low || n > high {
			return object.Errorf(object.ErrDataInvalid, "%s %s is %d, expected %d to %d", k.Name, what, n, low, high)
		}
		return nil
	}
	switch k.Name {
	case KDFArgon2id:
		if k.Iterations != 0 {
			return within("iterations", k.Iterations, 0, 0)
		}
		if err := within("time", k.Time, minTime, maxTime); err != nil {
			return err
		}
		if err := within("memory", k.Memory, minMemory, maxMemory); err != nil {
			return err
		}
		return within("threads", uint32(k.Threads), minThreads, maxThreads)
	case KDFPBKDF2:
		if k.Time != 0 || k.Memory != 0 || k.Threads != 0 {
			return object.Errorf(object.ErrDataInvalid, "%s has parameters of %s", k.Name, KDFArgon2id)
		}
		return within("iterations", k.Iterations, minIterations, maxIterations)
	}
	return object.Errorf(object.ErrDataInvalid, "password derivation %q is not known", k.Name)
}

// Derive turns a password into 32 bytes. A derivation that is unknown or out
// of bounds is refused (ErrDataInvalid). Argon2id takes k.Memory KiB while it
// runs: let few run at a time.
func (k KDF) Derive(password []byte) ([32]byte, error) {
	var out [32]byte
	if err := k.check(); err != nil {
		return out, err
	}
	var key []byte
	if k.Name == KDFArgon2id {
		key = argon2.IDKey(password, k.Salt, k.Time, k.Memory, k.Threads, uint32(len(out)))
	} else {
		var err error
		if key, err = pbkdf2.Key(sha256.New, string(password), k.Salt, int(k.Iterations), len(out)); err != nil {
			return out, object.Errorf(object.ErrGeneral, "%s: %v", k.Name, err)
		}
	}
	copy(out[:], key)
	clear(key)
	return out, nil
}
