package keyfile

import (
	"errors"
	"fmt"
)

// What deriving keys from a passphrase may cost: a file can ask for any number
// of rounds, and is not known to be good before they are done.
const (
	MaxRounds      = 2_000_000 // of one derivation; OpenSSL asks for 2048, others for up to a million
	MaxRoundsFile  = 6_000_000 // of one file, some seconds
	MaxScrypt      = 64 << 20  // bytes of one scrypt; OpenSSL asks for 16 MiB
	maxScryptTimes = 16        // scrypts' parallelization, done one after the other
	maxSalt        = 1 << 10   // bytes
)

// work counts down what a file's derivations may still cost, in rounds.
type work struct{ left int }

func newWork() *work { return &work{left: MaxRoundsFile} }

// spend takes rounds; blocks is how often they are done.
func (w *work) spend(rounds, blocks int) error {
	if rounds < 1 {
		return errors.New("its encryption is damaged: less than one round of key derivation")
	}
	if rounds > MaxRounds {
		return fmt.Errorf("its encryption asks for %d rounds of key derivation, expected at most %d: export it again with fewer", rounds, MaxRounds)
	}
	w.left -= rounds * blocks
	if w.left < 0 {
		return fmt.Errorf("its encryption asks for more than %d rounds of key derivation in all: export it again with fewer", MaxRoundsFile)
	}
	return nil
}
