package adminshell

import (
	"slices"

	"moongate/internal/hsm/users"
)

// Who sees a command. An operator does what can be taken back; a monitor looks;
// the auditor sees the audit log and nothing else. The console sees everything.
var (
	lookers   = []users.Role{users.RoleAdmin, users.RoleOperator, users.RoleMonitor}
	operators = []users.Role{users.RoleAdmin, users.RoleOperator}
	admins    = []users.Role{users.RoleAdmin}
	auditors  = []users.Role{users.RoleAudit}
	everyone  = users.Roles()
	console   []users.Role
)

// Options that several commands have.
var (
	optJSON      = option{name: "json", help: "print JSON, for scripts"}
	optForce     = option{name: "force", short: "f", help: "do not ask"}
	optClient    = option{name: "client", short: "c", value: "NAME", required: true, help: "the client's name", values: clientNames}
	optPartition = option{name: "partition", short: "p", value: "PARTITION", required: true, help: "the partition's label or serial number", values: partitionLabels}
)

// commands is the whole language, in the order in which help lists it. It is a
// function because the commands themselves read it.
func commands() []command {
	return slices.Concat(hsmCommands, peerCommands, domainCommands, backupCommands, partitionCommands, roleCommands, clientCommands, ntlsCommands,
		sysconfCommands, statusCommands, userCommands, auditCommands)
}
