// Package users keeps the accounts of an HSM's appliance: who may come in
// through its SSH shell, by which password or key, and in which role. They are
// not the HSM's own roles (Security Officer, Crypto Officer, ...), survive its
// zeroization, and open no key.
package users

// Role is what an account sees of the appliance shell.
type Role string

const (
	// RoleAdmin does everything but audit.
	RoleAdmin Role = "admin"
	// RoleOperator does what RoleAdmin does, but neither accounts nor what
	// cannot be taken back.
	RoleOperator Role = "operator"
	// RoleMonitor looks, and changes nothing.
	RoleMonitor Role = "monitor"
	// RoleAudit sees the audit log and what keeps it, and nothing else.
	RoleAudit Role = "audit"
	// RoleConsole is who is root, or the HSM's own user, on its machine. It
	// does everything, has no account, and cannot come in over the network.
	RoleConsole Role = "console"
)

// Roles lists the roles that an account may have.
func Roles() []Role { return []Role{RoleAdmin, RoleOperator, RoleMonitor, RoleAudit} }
