package mgmt

import (
	"fmt"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/logstore"
)

// consoleName is what root on the gateway's own machine is called in logs.
const consoleName = "console"

// AtConsole is the caller of commands that root gives on the gateway's own
// machine.
func AtConsole() Caller {
	return Caller{Identity: admin.Identity{Name: consoleName, Role: admin.Superuser}, Via: Console}
}

// allow is the one place where an operation is allowed or refused. The account
// is looked up again at each call: one that was deleted, or whose role changed,
// since the caller came in has what the running configuration says now. object
// is what the operation is about, for the log.
func (m *Manager) allow(c Caller, op admin.Operation, object string) error {
	role, known := m.roleOf(c)
	if !known {
		m.refused(c, op, object, "the account is not there any more")
		return refuse(CodeUnauthorized, "the account %q is not there any more", c.Name)
	}
	if c.stamp != "" && c.stamp != m.parts.Guard.Stamp(c.Name) {
		m.refused(c, op, object, "the account's password or keys were changed since the login")
		return refuse(CodeUnauthorized, "the password or the keys of %q were changed since this session began: log in again", c.Name)
	}
	if role.May(op) {
		return nil
	}
	m.refused(c, op, object, "the role "+string(role)+" may not")
	return refuse(CodeDenied, "the role %s may not %s", role, op.Describe())
}

// may is allow without an entry in the log: for what is shown or offered.
func (m *Manager) may(c Caller, op admin.Operation) bool {
	role, known := m.roleOf(c)
	return known && role.May(op)
}

// roleOf is what a caller is now; false where the account is gone.
func (m *Manager) roleOf(c Caller) (admin.Role, bool) {
	if c.Via == Console {
		return admin.Superuser, true
	}
	id, known := m.parts.Guard.Current(c.Name)
	return id.Role, known
}

// refused writes a refusal into the system log.
func (m *Manager) refused(c Caller, op admin.Operation, object, why string) {
	text := fmt.Sprintf("%s by %s refused: %s", op, who(c), why)
	if object != "" {
		text = fmt.Sprintf("%s of %s by %s refused: %s", op, bounded(object), who(c), why)
	}
	m.event(logstore.High, "auth", "operation-refused", c.Name, text)
}

// who tells of a caller for a log: name, way, address.
func who(c Caller) string {
	if !c.From.IsValid() {
		return fmt.Sprintf("%s (%s)", c.Name, c.Via)
	}
	return fmt.Sprintf("%s (%s, from %s)", c.Name, c.Via, c.From)
}

// refuse makes the error of a refusal.
func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Lines: []string{fmt.Sprintf(format, args...)}}
}
