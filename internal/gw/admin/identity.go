package admin

// Role is what an administrator may do, in the configuration's words.
type Role string

const (
	Superuser   Role = "superuser"   // everything
	DeviceAdmin Role = "deviceadmin" // everything but administrators and the master key
	SuperReader Role = "superreader" // looks, and changes nothing
)

// Identity is an administrator who has proved to be one.
type Identity struct {
	Name string
	Role Role
}
