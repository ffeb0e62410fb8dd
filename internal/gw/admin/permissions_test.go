package admin

import "testing"

// TestPermissions says once more, by hand, who may do what.
func TestPermissions(t *testing.T) {
	t.Parallel()
	want := map[Operation]Role{
		"config.read": SuperReader, "job.read": SuperReader, "log.read": SuperReader, "system.read": SuperReader,
		"session.read": SuperReader, "admin.read": SuperReader, "policy.explain": SuperReader, "certificate.export": SuperReader,
		"password.change-own": SuperReader, "api-key.own": SuperReader,
		"config.edit": DeviceAdmin, "config.load": DeviceAdmin, "config.revert": DeviceAdmin, "config.validate": DeviceAdmin,
		"config.commit": DeviceAdmin, "config.lock": DeviceAdmin, "certificate.change": DeviceAdmin, "session.clear": DeviceAdmin,
		"counter.reset": DeviceAdmin, "hsm.test-key": DeviceAdmin, "file.exchange": DeviceAdmin, "hsm.administer": DeviceAdmin, "job.stop": DeviceAdmin,
		"admin.change": Superuser, "admin.password": Superuser, "admin.api-keys": Superuser, "admin.unlock": Superuser,
		"config.break-lock": Superuser, "master-key.change": Superuser, "certificate.export-key": Superuser, "system.backup": Superuser,
	}
	may := map[Role]map[Role]bool{
		Superuser:   {SuperReader: true, DeviceAdmin: true, Superuser: true},
		DeviceAdmin: {SuperReader: true, DeviceAdmin: true},
		SuperReader: {SuperReader: true},
	}
	if len(Permissions()) != len(want) {
		t.Errorf("%d operations, want %d", len(Permissions()), len(want))
	}
	for op, least := range want {
		for _, role := range Roles() {
			if role.May(op) != may[role][least] {
				t.Errorf("%s may %s: %v", role, op, role.May(op))
			}
		}
		if op.Describe() == string(op) {
			t.Errorf("%s is not described", op)
		}
		for _, nobody := range []Role{"", "admin", "Superuser", "superuser ", "*"} {
			if nobody.May(op) {
				t.Errorf("the role %q may %s", nobody, op)
			}
		}
	}
	for _, op := range []Operation{"", "*", "config", "config.read ", "CONFIG.READ"} {
		for _, role := range Roles() {
			if role.May(op) {
				t.Errorf("%s may %q", role, op)
			}
		}
	}
	Permissions()[0].Least = "nobody"
	if !SuperReader.May(OpReadConfig) {
		t.Error("the table can be changed from outside")
	}
}
