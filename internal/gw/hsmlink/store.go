package hsmlink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"moongate/client"
	"moongate/internal/durable"
	"moongate/internal/gw/vault"
)

// Files of the directory. What starts with server- or ends in .password is one
// server's; partition and password were all servers' in earlier versions, and
// are those of a server that has none of its own.
const (
	stateFile         = "servers.json"
	groupFile         = "ha-group.json"
	certificateFile   = "client.pem"
	keyFile           = "client.key"
	nextCertificate   = "client-next.pem"
	nextKey           = "client-next.key"
	sharedPartition   = "partition"
	sharedPassword    = "password"
	maxStateFile      = 1 << 20
	maxPassword       = 255 // bytes
	maxPartitionLabel = 255
)

// OldPin is how long the certificate that was pinned before goes on to be
// accepted when a server's is imported anew.
const OldPin = 30 * 24 * time.Hour

// store is what the gateway keeps about its HSMs. Secrets are sealed by the
// device key; what may be read by people lies in servers.json.
type store struct {
	dir    string
	device *vault.Device
	logger *slog.Logger
	now    func() time.Time

	mu        sync.Mutex
	servers   map[string]*serverState // guarded by mu
	passwords map[passwordOf][]byte   // given in this life of the process; guarded by mu
	given     map[passwordOf]int      // how many were given or refused; guarded by mu
	own       *identities             // as last read, of the files ownOf; guarded by mu
	ownOf     string                  // guarded by mu
	pinned    map[string]pinnedOf     // as last read, by server; guarded by mu
}

// serverState is what is kept of one server, under its module name.
type serverState struct {
	Partition string     `json:"partition,omitempty"`        // empty: the only one that is assigned
	Role      string     `json:"role,omitempty"`             // as which traffic's keys are used
	Serial    string     `json:"partition-serial,omitempty"` // of the last login
	HostKey   string     `json:"ssh-host-key,omitempty"`
	Pins      []pinState `json:"pins,omitempty"`
	Refused   []string   `json:"refused,omitempty"` // roles whose kept password was refused
	Client    string     `json:"client-certificate,omitempty"`
	// Proven is where each role's password was right; nobody alters the map.
	Proven map[string]provenAt `json:"proven,omitempty"`
}

// pinState is what is known of a pin beside the certificate.
type pinState struct {
	Fingerprint string    `json:"sha256"`
	Imported    time.Time `json:"imported"`
	Until       time.Time `json:"until,omitzero"`
}

type passwordOf struct {
	server string
	role   client.Role
}

func openStore(dir string, device *vault.Device, logger *slog.Logger, now func() time.Time) (*store, error) {
	s := &store{dir: dir, device: device, logger: logger, now: now, servers: map[string]*serverState{}, passwords: map[passwordOf][]byte{}, given: map[passwordOf]int{}, pinned: map[string]pinnedOf{}}
	if err := durable.Mkdir(dir); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(s.path(stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading what is known of the HSM servers: %w", err)
	case len(raw) > maxStateFile:
		return nil, fmt.Errorf("%s has %d bytes, expected at most %d; restore it, or remove it and import the servers' certificates again", s.path(stateFile), len(raw), maxStateFile)
	default:
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s.servers); err != nil {
			return nil, fmt.Errorf("%s is damaged: %w; restore it, or remove it and import the servers' certificates again", s.path(stateFile), err)
		}
		for name, server := range s.servers {
			if server == nil {
				return nil, fmt.Errorf("%s is damaged: server %q has nothing; restore it, or remove it", s.path(stateFile), name)
			}
		}
	}
	if err := s.takeNewPassword(); err != nil {
		return nil, err
	}
	s.protect()
	return s, nil
}

// takeNewPassword forgets that a password was refused where an administrator
// has written another one into the shared file, in the clear.
func (s *store) takeNewPassword() error {
	sealed, err := vault.Sealed(s.path(sharedPassword))
	if errors.Is(err, fs.ErrNotExist) || err == nil && sealed {
		return nil
	} else if err != nil {
		return fmt.Errorf("reading the partition's password: %w", err)
	}
	for name, server := range s.servers {
		if slices.Contains(server.Refused, roleWord(client.RoleCryptoOfficer)) {
			if err := s.change(name, func(state *serverState) {
				state.Refused = slices.DeleteFunc(state.Refused, func(r string) bool { return r == roleWord(client.RoleCryptoOfficer) })
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

// serverFile is the file of the certificates that are pinned for a server. A
// module name has no slash and begins with no dot.
func (s *store) serverFile(server string) string { return s.path("server-" + server + ".pem") }

func (s *store) passwordFile(of passwordOf) string {
	return s.path(roleWord(of.role) + "-" + of.server + ".password")
}

// sealedAs is the name under which a password is sealed: one server's does not
// open as another's.
func (of passwordOf) sealedAs() string {
	return vault.PartitionPassword + " " + roleWord(of.role) + " " + of.server
}

func roleWord(role client.Role) string {
	if role == client.RoleCryptoUser {
		return "crypto-user"
	}
	return "crypto-officer"
}

func roleOf(word string) client.Role {
	if word == "crypto-user" {
		return client.RoleCryptoUser
	}
	return client.RoleCryptoOfficer
}

// protect seals what earlier versions or an administrator left in the clear.
// What fails is told when it is used.
func (s *store) protect() {
	for name, kind := range map[string]string{keyFile: vault.HSMClientKey, nextKey: vault.HSMClientKey, sharedPassword: vault.PartitionPassword} {
		if err := s.device.Protect(s.path(name), kind); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.logger.Error("a secret of the link to the HSM cannot be sealed", "file", s.path(name), "err", err)
		}
	}
}

// get returns a copy of what is kept of a server.
func (s *store) get(server string) serverState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.servers[server]; known != nil {
		c := *known
		c.Pins, c.Refused = slices.Clone(known.Pins), slices.Clone(known.Refused)
		return c
	}
	return serverState{}
}

// change changes what is kept of a server, on the disk first.
func (s *store) change(server string, change func(*serverState)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changeLocked(server, change)
}

func (s *store) changeLocked(server string, change func(*serverState)) error {
	next := serverState{}
	known := s.servers[server]
	if known != nil {
		next = *known
		next.Pins, next.Refused = slices.Clone(known.Pins), slices.Clone(known.Refused)
	}
	change(&next)
	s.servers[server] = &next
	raw, err := json.MarshalIndent(s.servers, "", "  ")
	if err == nil {
		err = durable.WriteFile(s.path(stateFile), append(raw, '\n'), 0o600)
	}
	if err != nil {
		if known == nil {
			delete(s.servers, server)
		} else {
			s.servers[server] = known
		}
		return fmt.Errorf("keeping what is known of HSM server %s: %w", server, err)
	}
	return nil
}

// partition is the label of a server's partition; empty for the only one.
func (s *store) partition(server string) (string, error) {
	if own := s.get(server).Partition; own != "" {
		return own, nil
	}
	raw, err := os.ReadFile(s.path(sharedPartition))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the partition's name: %w", err)
	}
	label := strings.TrimSpace(string(raw))
	if len(label) > maxPartitionLabel {
		return "", fmt.Errorf("%s: a partition's label of %d bytes, expected at most %d", s.path(sharedPartition), len(label), maxPartitionLabel)
	}
	return label, nil
}

// password returns a copy of a password, that the caller clears: the one that
// was given since the start, or the one that is kept. The error matches
// errNotGiven or errRefused where there is none that could be tried.
func (s *store) password(of passwordOf) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if given := s.passwords[of]; given != nil {
		return bytes.Clone(given), nil
	}
	if known := s.servers[of.server]; known != nil && slices.Contains(known.Refused, roleWord(of.role)) {
		return nil, errRefused
	}
	return s.kept(of)
}

// kept reads a password from its file.
func (s *store) kept(of passwordOf) ([]byte, error) {
	own, err := s.device.ReadFile(s.passwordFile(of), of.sealedAs())
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return own, err
	}
	if of.role != client.RoleCryptoOfficer {
		return nil, errNotGiven
	}
	// One that earlier versions wrote, or an administrator in the clear: its
	// first line.
	if err := s.device.Protect(s.path(sharedPassword), vault.PartitionPassword); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errNotGiven
		}
		return nil, err
	}
	raw, err := s.device.ReadFile(s.path(sharedPassword), vault.PartitionPassword)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassword {
		return nil, fmt.Errorf("%s: its first line should be a password of 1 to %d bytes", s.path(sharedPassword), maxPassword)
	}
	return bytes.Clone(line), nil
}

// setPassword takes a password that was right: for as long as the process
// lives, and with keep on the disk, sealed.
func (s *store) setPassword(of passwordOf, password []byte, keep bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keep {
		if err := s.device.WriteFile(s.passwordFile(of), of.sealedAs(), password); err != nil {
			return fmt.Errorf("keeping the partition's password: %w", err)
		}
	} else if err := removeIfThere(s.passwordFile(of)); err != nil {
		return err
	}
	err := s.changeLocked(of.server, func(state *serverState) {
		state.Refused = slices.DeleteFunc(state.Refused, func(r string) bool { return r == roleWord(of.role) })
	})
	if err != nil {
		return err
	}
	clear(s.passwords[of])
	s.passwords[of] = bytes.Clone(password)
	s.given[of]++
	return nil
}

// forgetPassword drops what is given and kept of a role, the shared one with
// it.
func (s *store) forgetPassword(of passwordOf) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.passwords[of])
	delete(s.passwords, of)
	err := removeIfThere(s.passwordFile(of))
	if of.role == client.RoleCryptoOfficer {
		err = errors.Join(err, removeIfThere(s.path(sharedPassword)))
	}
	return err
}

// refused notes that a server refused a role's password, so that it is not
// tried again: each attempt would bring the role nearer to its lock. One that was
// given since generation is another.
func (s *store) refused(of passwordOf, generation string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strconv.Itoa(s.given[of]) != generation {
		return nil
	}
	clear(s.passwords[of])
	delete(s.passwords, of)
	return s.changeLocked(of.server, func(state *serverState) {
		if !slices.Contains(state.Refused, roleWord(of.role)) {
			state.Refused = append(state.Refused, roleWord(of.role))
		}
	})
}

// has reports whether there is a password that can be tried.
func (s *store) has(of passwordOf) error {
	password, err := s.password(of)
	clear(password)
	return err
}

// role is as what the gateway logs in for traffic: what the administrator said
// last, where there is a password for it, or else what there is one for.
func (s *store) role(server string) client.Role {
	chosen := roleOf(s.get(server).Role)
	other := client.RoleCryptoUser
	if chosen == other {
		other = client.RoleCryptoOfficer
	}
	if s.has(passwordOf{server, chosen}) != nil && s.has(passwordOf{server, other}) == nil {
		return other
	}
	return chosen
}

// keepGiven seals a password on the disk that was given.
func (s *store) keepGiven(of passwordOf) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.device.WriteFile(s.passwordFile(of), of.sealedAs(), s.passwords[of]); err != nil {
		return fmt.Errorf("keeping the PIN: %w", err)
	}
	return nil
}

// wipe clears the passwords in memory.
func (s *store) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of, password := range s.passwords {
		clear(password)
		delete(s.passwords, of)
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// generation changes with each password that is given.
func (s *store) generation(of passwordOf) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.Itoa(s.given[of])
}
