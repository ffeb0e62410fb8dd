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
	a              *Attachment
	client, remote string

	mu     sync.Mutex // guards what follows
	role   object.Role
	by     authority // of a Partition Security Officer
	closed bool
}

// Info describes the session's partition.
func (s *Session) Info() object.PartitionInfo {
	return object.PartitionInfo{Label: s.p.label, Serial: s.p.serial}
}

// Login opens the session for a role. The Security Officer and the Auditor do
// not log in here: who could reach them over the network could lock them.
func (s *Session) Login(ctx context.Context, op object.OperationID, role object.Role, pw []byte) error {
	if err := checkRole(role); err != nil {
		event := s.event("login", op)
		event.Role = role.String()
		return s.refuse(event, err)
	}
	err, recorded := refusalOf(s.login(ctx, role, pw))
	if !recorded {
		return err
	}
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
	if err := s.free(); err != nil {
		return err
	}
	var by authority
	if !usesKeys(role) {
		var err error
		if by, err = s.h.openOfficer(ctx, s.client, s.p, pw); err != nil {
			return err
		}
	} else if again, err := s.rejoin(role, pw); err != nil {
		return err
	} else if !again {
		o, err := s.h.openRole(ctx, s.client, s.p, role, pw)
		if err != nil {
			return err
		}
		if err := s.p.activate(s.h, o.key); err != nil {
			return err
		}
		s.a.logins.remember(roleOf{s.p.id, role}, pw, o.salt)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.freeLocked(); err != nil { // another login was faster, or Close
		s.give(role, &by)
		return err
	}
	s.role, s.by = role, by
	return nil
}

// free refuses where there is nothing to log in to.
func (s *Session) free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freeLocked()
}

func (s *Session) freeLocked() error {
	switch {
	case s.closed:
		return object.Errorf(object.ErrSessionHandle, "the session was closed")
	case s.p.deleted.Load():
		return errGone
	case s.role != object.RoleNone:
		return object.Errorf(object.ErrUserAlreadyLoggedIn, "this session is logged in as %v", s.role)
	}
	return nil
}

// give gives back what a login took.
func (s *Session) give(role object.Role, by *authority) {
	if usesKeys(role) {
		s.p.deactivate(false)
	}
	by.wipe()
}

// Logout takes the session back to before its login.
func (s *Session) Logout(ctx context.Context, op object.OperationID) error {
	role := s.leave(false)
	if role == object.RoleNone {
		return object.Errorf(object.ErrNotLoggedIn, "there is nothing to log out from")
	}
	if err := s.h.journal.AppendDurable(context.WithoutCancel(ctx), s.logout(op, role, "")); err != nil {
		return unrecorded(err)
	}
	return nil
}

// Close ends the session. If it was logged in that is recorded as a logout,
// which nobody waits for: it is written, and on the disk with the next records.
func (s *Session) Close() {
	role := s.leave(true)
	s.p.offers.forget(s)
	if role == object.RoleNone {
		return
	}
	if err := s.h.journal.Append(s.logout(object.OperationID{}, role, "the session ended")); err != nil {
		s.h.log.Error("a logout is not recorded", "role", role, "partition", s.p.label, "client", s.client, "err", err)
	}
}

func (s *Session) logout(op object.OperationID, role object.Role, about string) audit.Event {
	event := s.event("logout", op)
	event.Kind, event.Role, event.Outcome, event.Detail = audit.Login, role.String(), audit.OK, about
	return event
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
		s.give(role, &s.by)
	}
	return role
}

// as is who the session is logged in as; roleGone where its partition is no more.
func (s *Session) as() object.Role {
	if s.p.deleted.Load() {
		return roleGone
	}
	return s.loggedIn()
}

func (s *Session) loggedIn() object.Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role
}

// event begins an audit event about this session.
func (s *Session) event(act action, op object.OperationID) audit.Event {
	return audit.Event{Action: string(act), Op: op, Client: s.client, Remote: s.remote, Partition: s.p.label, Role: s.loggedIn().String()}
}

// refuse records a refusal and returns it. Of sessions that are not logged in
// some are only counted (outsiders).
func (s *Session) refuse(event audit.Event, refusal error) error {
	note := ""
	if s.loggedIn() == object.RoleNone {
		var recorded bool
		if note, recorded = s.h.outsiders.admit(s.client, s.h.now()); !recorded {
			return refusal
		}
	}
	event.Kind, event.Outcome, event.Detail = audit.Denied, outcome(refusal), join(event.Detail, detail(refusal))+note
	if err := s.h.journal.Append(event); err != nil {
		return unrecorded(err)
	}
	return refusal
}
