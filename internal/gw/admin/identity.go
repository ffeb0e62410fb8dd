package admin

// Role is what an administrator may do, in the configuration's words.
type Role string

const (
	Superuser   Role = "superuser"   // everything
	DeviceAdmin Role = "deviceadmin" // everything but administrators and the master key
	SuperReader Role = "superreader" // looks, and changes nothing but its own password
)

// Roles lists the roles, from the one that may least to the one that may most:
// each may what those before it may.
func Roles() []Role { return []Role{SuperReader, DeviceAdmin, Superuser} }

// rank is a role's place among Roles; -1 for what is no role.
func (r Role) rank() int {
	for i, role := range Roles() {
		if r == role {
			return i
		}
	}
	return -1
}

// Identity is an administrator who has proved to be one.
type Identity struct {
	Name string
	Role Role
}
