package hsmlink

import (
	"errors"
	"os"
	"slices"
)

// Where a password may go. Setting a server's address and importing its
// certificate are the work of administrators who need not know the partition's
// password, and must not learn it from a server of their own: a password that the
// gateway has is sent to a certificate that came after it only at the address
// where it was right before. Otherwise it is asked for again.

// errElsewhere: the server is at another address, and has a certificate that it
// did not have when its password was right last.
var errElsewhere = errors.New("the server's address and its certificate are other ones than when the password was given")

// provenAt is where a role's password was right.
type provenAt struct {
	Address string   `json:"address"`
	Pins    []string `json:"pins"` // that were accepted there
}

// maySend refuses to send a password to a server that may be another one than
// the password was given for. One that is all servers' is no secret of the first
// server that it is right on.
func (s *store) maySend(of passwordOf, address string, pins []Pin) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	proven, known := s.provenAt(of)
	if !known && (s.ownPassword(of) || !s.provenAnywhere(of)) || proven.Address == address {
		return nil
	}
	if slices.ContainsFunc(pins, func(p Pin) bool {
		if known {
			return !slices.Contains(proven.Pins, p.Fingerprint)
		}
		return !p.Imported.IsZero() // not by whoever has the files
	}) {
		return errElsewhere
	}
	return nil
}

// proven notes that a password was right. Pins that are imported later at the
// same address are not in the note: the address is what vouches for them.
func (s *store) proven(of passwordOf, address string, pins []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.provenAt(of); known && before.Address == address {
		return nil
	}
	return s.changeLocked(of.server, func(state *serverState) { state.prove(of, provenAt{address, pins}) })
}

// prove makes a note in a state that nobody else has.
func (state *serverState) prove(of passwordOf, at provenAt) {
	noted := map[string]provenAt{roleWord(of.role): at}
	for role, other := range state.Proven {
		if role != roleWord(of.role) {
			noted[role] = other
		}
	}
	state.Proven = noted
}

func (s *store) provenAt(of passwordOf) (provenAt, bool) {
	state := s.servers[of.server]
	if state == nil {
		return provenAt{}, false
	}
	at, known := state.Proven[roleWord(of.role)]
	return at, known
}

// ownPassword reports whether a server has a password of its own.
func (s *store) ownPassword(of passwordOf) bool {
	_, err := os.Stat(s.passwordFile(of))
	return s.passwords[of] != nil || err == nil
}

// provenAnywhere reports whether a role's password was right on some server.
func (s *store) provenAnywhere(of passwordOf) bool {
	for _, state := range s.servers {
		if _, known := state.Proven[roleWord(of.role)]; known {
			return true
		}
	}
	return false
}

func fingerprintsOf(pins []Pin) []string {
	var list []string
	for _, p := range pins {
		list = append(list, p.Fingerprint)
	}
	return list
}
