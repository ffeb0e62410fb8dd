package p11

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"sync/atomic"
	"time"

	"moongate/internal/hsm/object"
	"moongate/internal/hsm/server"
)

// Backend makes a token what a server serves: one partition, which has the
// token's label and serial number, for the clients that show one of the
// certificates.
func Backend(t *Token, clients ...server.Fingerprint) server.Backend {
	return &backend{t, sha256.Sum256(t.pin), clients}
}

type backend struct {
	token   *Token
	pin     [sha256.Size]byte // hashed, so that a comparison takes the same time for all lengths
	clients []server.Fingerprint
}

func (b *backend) Attach(_ context.Context, peer server.Peer) (server.Client, error) {
	if !slices.Contains(b.clients, peer.Fingerprint) {
		return nil, object.Errorf(object.ErrNotRegistered, "moongate-p11 serves the one client whose certificate it was given")
	}
	return &attached{b}, nil
}

// attached is one connection.
type attached struct{ *backend }

func (a *attached) Close() {}

func (a *attached) info() object.PartitionInfo {
	slot := a.token.Slot()
	return object.PartitionInfo{Label: text([]byte(slot.Label)), Serial: text([]byte(slot.Serial))}
}

func (a *attached) Partitions(context.Context) ([]object.PartitionInfo, error) {
	return []object.PartitionInfo{a.info()}, nil
}

func (a *attached) OpenSession(_ context.Context, partition string) (server.Session, error) {
	info := a.info()
	if partition != "" && partition != info.Label && partition != info.Serial {
		return nil, object.Errorf(object.ErrNotAssigned, "the token is %q, serial number %s; there is no %q", info.Label, info.Serial, partition)
	}
	return &session{attached: a, opened: info}, nil
}

// session is one of the protocol's sessions. It has nothing of the module's:
// those are taken from the pool for each call.
type session struct {
	*attached
	opened object.PartitionInfo
	role   atomic.Uint32 // an object.Role
}

func (s *session) Info() object.PartitionInfo { return s.opened }

func (s *session) Close() {}

// Login takes the PIN that the token was opened with, for both roles: a token
// knows one user. A wrong one never reaches the token.
func (s *session) Login(_ context.Context, _ object.OperationID, role object.Role, password []byte) error {
	if role != object.RoleCryptoUser && role != object.RoleCryptoOfficer {
		return object.Errorf(object.ErrUserType, "a PKCS#11 token is used as Crypto User or Crypto Officer, not as %s", role.Title())
	}
	if s.role.Load() != uint32(object.RoleNone) {
		return object.Errorf(object.ErrUserAlreadyLoggedIn, "the session is logged in as %s", object.Role(s.role.Load()).Title())
	}
	given := sha256.Sum256(password)
	if subtle.ConstantTimeCompare(given[:], s.pin[:]) != 1 {
		return object.Errorf(object.ErrPINIncorrect, "it is not the PIN that moongate-p11 opened the token with; start it anew with the right one")
	}
	s.role.Store(uint32(role))
	return nil
}

func (s *session) Logout(context.Context, object.OperationID) error {
	if err := s.loggedIn(); err != nil {
		return err
	}
	s.role.Store(uint32(object.RoleNone))
	return nil
}

func (s *session) loggedIn() error {
	if s.role.Load() == uint32(object.RoleNone) {
		return object.Errorf(object.ErrNotLoggedIn, "log in first, as Crypto User or Crypto Officer")
	}
	return nil
}

// officer refuses what a Crypto User may not do.
func (s *session) officer() error {
	if err := s.loggedIn(); err != nil {
		return err
	}
	if s.role.Load() != uint32(object.RoleCryptoOfficer) {
		return object.Errorf(object.ErrUserType, "a Crypto User makes no objects; log in as Crypto Officer")
	}
	return nil
}

func (s *session) Find(ctx context.Context, _ object.OperationID, pattern object.Template, want []object.AttributeType, after uint64, limit int) ([]object.Found, bool, error) {
	if err := s.loggedIn(); err != nil {
		return nil, false, err
	}
	since := time.Now()
	if after > 0 {
		since = since.Add(-rereadAfter) // the next page of the same listing
	}
	l, err := s.token.objects.current(ctx, since)
	if err != nil {
		return nil, false, err
	}
	var found []object.Found
	for _, n := range l.list {
		if n.number <= after || !n.attributes.Matches(pattern) {
			continue
		}
		if len(found) == limit {
			return found, true, nil
		}
		found = append(found, object.Found{ID: n.id, Attributes: n.attributes.Select(want)})
	}
	return found, false, nil
}

func (s *session) Attributes(ctx context.Context, _ object.OperationID, id object.ID, want []object.AttributeType) (object.Template, error) {
	if err := s.loggedIn(); err != nil {
		return nil, err
	}
	n, _, err := s.token.objects.object(ctx, id)
	if err != nil {
		return nil, err
	}
	return n.attributes.Select(want), nil
}

func (s *session) Random(ctx context.Context, _ object.OperationID, n int) ([]byte, error) {
	if err := s.loggedIn(); err != nil {
		return nil, err
	}
	return s.token.random(ctx, n)
}

// Status tells of the roles what the token does of its user.
func (s *session) Status(context.Context, object.OperationID) (object.PartitionStatus, error) {
	slot := s.token.Slot()
	status := object.PartitionStatus{PartitionInfo: s.info(), Active: s.token.Health().Ready}
	for _, role := range []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser} {
		status.Roles = append(status.Roles, object.RoleStatus{
			Role: role, Initialized: slot.Flags&flagUserPINInitialized != 0, Locked: slot.Flags&flagUserPINLocked != 0,
		})
	}
	if l := s.token.objects.now.Load(); l != nil && s.loggedIn() == nil {
		status.Objects = len(l.list)
	}
	return status, nil
}
