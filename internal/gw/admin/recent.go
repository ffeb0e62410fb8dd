package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// recentFor is how long a password that was right is recognised without its
// derivation.
const recentFor = 5 * time.Minute

// recent recognises passwords that were right a moment ago, by an HMAC under a
// key of this process. Who reads the process's memory meanwhile can guess at
// the speed of a hash; he reads more than a password gives him anyhow.
type recent struct {
	key [32]byte

	mu   sync.Mutex
	seen map[string]recentLogin // guarded by mu; by account, so no more than those
}

type recentLogin struct {
	mac [sha256.Size]byte
	at  time.Time
}

func newRecent() *recent {
	r := &recent{seen: map[string]recentLogin{}}
	rand.Read(r.key[:])
	return r
}

func (r *recent) mac(hash string, password []byte) [sha256.Size]byte {
	m := hmac.New(sha256.New, r.key[:])
	m.Write(binary.BigEndian.AppendUint16(nil, uint16(len(hash))))
	m.Write([]byte(hash))
	m.Write(password)
	return [sha256.Size]byte(m.Sum(nil))
}

func (r *recent) add(name, hash string, password []byte, now time.Time) {
	mac := r.mac(hash, password)
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, l := range r.seen {
		if now.Sub(l.at) > recentFor {
			delete(r.seen, other)
		}
	}
	r.seen[name] = recentLogin{mac, now}
}

func (r *recent) has(name, hash string, password []byte, now time.Time) bool {
	mac := r.mac(hash, password)
	r.mu.Lock()
	l, known := r.seen[name]
	r.mu.Unlock()
	age := now.Sub(l.at)
	return hmac.Equal(l.mac[:], mac[:]) && known && age >= 0 && age <= recentFor
}
