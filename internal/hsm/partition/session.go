package partition

import (
	"context"
	"sync"

	"moongate/internal/audit"
	"moongate/internal/hsm/object"
)

// Session is one session of a client on a partition. Its methods may be called
// from many goroutines.
type Session struct {
	h              *HSM
	p              *partition
	client, remote string

	mu     sync.Mutex // guards role and closed
	role   object.Role
	closed bool
}

// Info describes the session's partition.
func (s *Session) Info() object.PartitionInfo {
	return object.PartitionInfo{Label: s.p.label, Serial: s.p.serial}
}

// Login opens the session for a role. The Security Officer does not log in
// here: who could reach it over the network could lock it.
func (s *Session) Login(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	err := s.login(ctx, role, pw)
	event := s.event("login", op)
	event.Kind, event.Role, event.Outcome, event.Detail = audit.Login, role.String(), outcome(err), detail(err)
	if jerr := s.h.journal.AppendDurable(context.WithoutCancel(ctx), event); jerr != nil {
		if err == nil {
			s.leave(false)
		}
		return unrecorded(jerr)
	}
	if err != nil {
		s.h.log.Warn("login refused", "role", role, "partition", s.p.label, "client", s.client, "from", s.remote, "err", err)
	}
	return err
}

func (s *Session) login(ctx context.Context, role object.Role, pw []byte) error {
	if err := checkRole(role); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return object.Errorf(object.ErrSessionHandle, "the session was closed")
	case s.role != object.RoleNone:
		return object.Errorf(object.ErrUserAlreadyLoggedIn, "this session is logged in as %v", s.role)
	}
	key, err := s.h.openRole(ctx, s.p.id, role, pw)
	if err != nil {
		return err
	}
	if err := s.p.activate(s.h, key); err != nil {
		return err
	}
	s.role = role
	return nil
}

// Logout takes the session back to before its login.
func (s *Session) Logout(ctx context.Context, op object.OperationID) error {
	role := s.leave(false)
	if role == object.RoleNone {
		return object.Errorf(object.ErrNotLoggedIn, "there is nothing to log out from")
	}
	event := s.event("logout", op)
	event.Kind, event.Role, event.Outcome = audit.Login, role.String(), audit.OK
	if err := s.h.journal.AppendDurable(context.WithoutCancel(ctx), event); err != nil {
		return unrecorded(err)
	}
	return nil
}

// Close ends the session; it is logged out if it was logged in.
func (s *Session) Close() {
	s.leave(true)
}

// leave takes the session back to before its login, for good where it is
// closed, and returns the role that it was logged in as.
func (s *Session) leave(closed bool) object.Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = s.closed || closed
	role := s.role
	if role != object.RoleNone {
		s.role = object.RoleNone
		s.p.deactivate(false)
	}
	return role
}

func (s *Session) as() object.Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role
}

// event begins an audit event about this session.
func (s *Session) event(act action, op object.OperationID) audit.Event {
	return audit.Event{Action: string(act), Op: op, Client: s.client, Remote: s.remote, Partition: s.p.label, Role: s.as().String()}
}

// refuse records a refusal and returns it.
func (s *Session) refuse(event audit.Event, refusal error) error {
	event.Kind, event.Outcome, event.Detail = audit.Denied, outcome(refusal), join(event.Detail, detail(refusal))
	if err := s.h.journal.Append(event); err != nil {
		return unrecorded(err)
	}
	return refusal
}
