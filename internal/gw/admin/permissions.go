package admin

// Operation is something that an administrator asks for, at the size at which
// it is allowed or refused.
type Operation string

// Operations that look.
const (
	OpReadConfig        Operation = "config.read"
	OpReadJobs          Operation = "job.read"
	OpReadLogs          Operation = "log.read"
	OpReadSystem        Operation = "system.read"
	OpReadSessions      Operation = "session.read"
	OpReadAdmins        Operation = "admin.read"
	OpExplain           Operation = "policy.explain"
	OpExportCertificate Operation = "certificate.export"
)

// Operations on what is the caller's own.
const (
	OpOwnPassword Operation = "password.change-own"
	OpOwnAPIKeys  Operation = "api-key.own"
)

// Operations that change the gateway.
const (
	OpEditConfig    Operation = "config.edit"
	OpLoadConfig    Operation = "config.load"
	OpRevert        Operation = "config.revert"
	OpValidate      Operation = "config.validate"
	OpCommit        Operation = "config.commit"
	OpLock          Operation = "config.lock"
	OpCertificates  Operation = "certificate.change"
	OpClearSessions Operation = "session.clear"
	OpResetCounters Operation = "counter.reset"
	OpTestKey       Operation = "hsm.test-key"
	OpFiles         Operation = "file.exchange"
	OpHSM           Operation = "hsm.administer"
	OpStopJob       Operation = "job.stop"
)

// Operations on what everything else rests on.
const (
	OpEditAdmins     Operation = "admin.change"
	OpAdminPasswords Operation = "admin.password"
	OpAdminAPIKeys   Operation = "admin.api-keys"
	OpUnlockAdmin    Operation = "admin.unlock"
	OpBreakLock      Operation = "config.break-lock"
	OpMasterKey      Operation = "master-key.change"
	OpExportKey      Operation = "certificate.export-key"
	OpBackup         Operation = "system.backup"
)

// Permission is a row of the table of permissions.
type Permission struct {
	Operation Operation
	Least     Role   // who may do least and may do this
	Does      string // what it is, after "may not"
}

// permissions is who may do what. A row is missing for nothing: an operation
// without one is refused to everybody.
var permissions = []Permission{
	{OpReadConfig, SuperReader, "read the configuration"},
	{OpReadJobs, SuperReader, "read jobs"},
	{OpReadLogs, SuperReader, "read logs"},
	{OpReadSystem, SuperReader, "read the state of the system"},
	{OpReadSessions, SuperReader, "read sessions"},
	{OpReadAdmins, SuperReader, "see who is logged in"},
	{OpExplain, SuperReader, "ask what a rule would do"},
	{OpExportCertificate, SuperReader, "export certificates"},
	{OpOwnPassword, SuperReader, "change its own password"},
	{OpOwnAPIKeys, SuperReader, "have API keys"},

	{OpEditConfig, DeviceAdmin, "change the configuration"},
	{OpLoadConfig, DeviceAdmin, "load configurations"},
	{OpRevert, DeviceAdmin, "revert the configuration"},
	{OpValidate, DeviceAdmin, "validate the configuration"},
	{OpCommit, DeviceAdmin, "commit"},
	{OpLock, DeviceAdmin, "lock the configuration"},
	{OpCertificates, DeviceAdmin, "import, make, renew or revoke certificates"},
	{OpClearSessions, DeviceAdmin, "end sessions"},
	{OpResetCounters, DeviceAdmin, "reset counters"},
	{OpTestKey, DeviceAdmin, "test keys of the HSM"},
	{OpFiles, DeviceAdmin, "bring files for commands to take"},
	{OpHSM, DeviceAdmin, "set up the link to the HSM"},
	{OpStopJob, DeviceAdmin, "stop jobs"},

	{OpEditAdmins, Superuser, "change administrators"},
	{OpAdminPasswords, Superuser, "set another administrator's password"},
	{OpAdminAPIKeys, Superuser, "see or revoke another administrator's API keys"},
	{OpUnlockAdmin, Superuser, "unlock administrators"},
	{OpBreakLock, Superuser, "release another administrator's lock"},
	{OpMasterKey, Superuser, "change the master key"},
	{OpExportKey, Superuser, "export private keys"},
	{OpBackup, Superuser, "back the gateway up"},
}

// Permissions returns the table of permissions, in its order.
func Permissions() []Permission { return append([]Permission(nil), permissions...) }

func (op Operation) permission() (Permission, bool) {
	for _, p := range permissions {
		if p.Operation == op {
			return p, true
		}
	}
	return Permission{}, false
}

// May reports whether a role may do an operation. What is no role may do
// nothing, and what is no operation may nobody do.
func (r Role) May(op Operation) bool {
	p, known := op.permission()
	return known && r.rank() >= 0 && r.rank() >= p.Least.rank()
}

// Describe says what an operation is, as the words after "may not".
func (op Operation) Describe() string {
	if p, known := op.permission(); known {
		return p.Does
	}
	return string(op)
}
