package partition

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/store"
)

// knownLogins remember the passwords that were right on one connection, so that
// its further sessions need no second derivation: an HMAC under a random key
// that is never written and is wiped with the connection. Where the partition's
// key is not in memory, or the role has another password or is locked by now, it
// says nothing, and neither does it of a wrong password: the slow way counts.
type knownLogins struct {
	mu    sync.Mutex
	key   *[32]byte              // guarded by mu; nil until the first login
	by    map[roleOf]*knownLogin // guarded by mu
	ended bool                   // guarded by mu
}

type roleOf struct {
	partition object.ID
	role      object.Role
}

type knownLogin struct {
	mac  [sha256.Size]byte
	salt []byte // of the role's record that the password opened
}

// remember keeps a password that was right.
func (k *knownLogins) remember(of roleOf, pw, salt []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return
	}
	if k.key == nil {
		k.key, k.by = new([32]byte), map[roleOf]*knownLogin{}
		rand.Read(k.key[:]) // never fails: the program ends instead
	}
	k.by[of] = &knownLogin{k.mac(of, pw), bytes.Clone(salt)}
}

// recall returns the salt of the record that the password opened; nil where it
// is not known.
func (k *knownLogins) recall(of roleOf, pw []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.by[of]
	if known == nil {
		return nil
	}
	mac := k.mac(of, pw)
	if subtle.ConstantTimeCompare(mac[:], known.mac[:]) != 1 {
		return nil
	}
	return known.salt
}

// mac needs mu.
func (k *knownLogins) mac(of roleOf, pw []byte) [sha256.Size]byte {
	m := hmac.New(sha256.New, k.key[:])
	m.Write(of.partition[:])
	m.Write([]byte{byte(of.role)})
	m.Write(pw)
	return [sha256.Size]byte(m.Sum(nil))
}

func (k *knownLogins) wipe() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		clear(k.key[:])
	}
	for _, known := range k.by {
		clear(known.mac[:])
	}
	k.key, k.by, k.ended = nil, nil, true
}

// rejoin logs in by a password that was right on this connection before, and
// reports whether it did.
func (s *Session) rejoin(role object.Role, pw []byte) (bool, error) {
	salt := s.a.logins.recall(roleOf{s.p.id, role}, pw)
	if salt == nil {
		return false, nil
	}
	same := false
	err := s.h.store.View(func(tx *store.Tx) error {
		_, r, err := loadRole(tx, s.p.id, role)
		if err != nil {
			return err
		}
		same = !r.locked() && bytes.Equal(r.Password.KDF.Salt, salt)
		return nil
	})
	if err != nil || !same {
		return false, err
	}
	return s.p.join(), nil
}

// join counts one more login to a partition whose key is in memory, and reports
// whether it is.
func (p *partition) join() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted.Load() || p.key == nil {
		return false
	}
	p.logins++
	return true
}
