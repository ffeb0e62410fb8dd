package partition

import (
	"slices"

	"moongate/internal/hsm/object"
)

// action is what a session asks to do. Its text is the audit record's action.
type action string

const (
	actGenerate action = "key.generate"
	actUnwrap   action = "key.unwrap"
	actStore    action = "object.store"
	actFind     action = "object.find"
	actRead     action = "object.read"
	actChange   action = "object.change"
	actDestroy  action = "object.destroy"
	actDerive   action = "key.derive"
	actSign     action = "key.sign"
	actVerify   action = "key.verify"
	actEncrypt  action = "key.encrypt"
	actDecrypt  action = "key.decrypt"
	actWrap     action = "key.wrap"
	actRandom   action = "random"
)

// grant is who may do an action, and what the key acted on must allow.
type grant struct {
	roles     []object.Role
	attribute object.AttributeType // of the key; 0 for none
}

var (
	officer = []object.Role{object.RoleCryptoOfficer}
	both    = []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser}
)

// grants is the whole of what roles may do to a partition's objects. What is
// not here is refused.
var grants = map[action]grant{
	actGenerate: {officer, 0},
	actUnwrap:   {officer, object.AttrUnwrap},
	actDerive:   {officer, object.AttrDerive},
	actStore:    {officer, 0},
	actChange:   {officer, 0},
	actDestroy:  {officer, 0},
	actWrap:     {officer, object.AttrWrap},
	actFind:     {both, 0},
	actRead:     {both, 0},
	actRandom:   {both, 0},
	actSign:     {both, object.AttrSign},
	actVerify:   {both, object.AttrVerify},
	actEncrypt:  {both, object.AttrEncrypt},
	actDecrypt:  {both, object.AttrDecrypt},
}

// permit says yes (nil) or no to a role that would do an action, on a key with
// the given attributes (nil when the action is on no key).
func permit(role object.Role, act action, key object.Template) error {
	g, known := grants[act]
	switch {
	case !known:
		return object.Errorf(object.ErrNotSupported, "%s", act)
	case role == object.RoleNone:
		return object.Errorf(object.ErrNotLoggedIn, "%s needs a login to the partition", act)
	case !slices.Contains(g.roles, role):
		return object.Errorf(object.ErrUserType, "%s needs the Crypto Officer; this session is logged in as %v", act, role)
	case g.attribute != 0 && key != nil && !key.Bool(g.attribute):
		return object.Errorf(object.ErrKeyNotPermitted, "the key's %v is false", g.attribute)
	}
	return nil
}
