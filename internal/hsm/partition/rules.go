package partition

import (
	"slices"
	"strings"

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

	actStatus         action = "partition.status"
	actInitPartition  action = "partition.init"
	actInitRole       action = "role.init"
	actResetRole      action = "role.reset"
	actUnlockRole     action = "role.unlock"
	actChangePassword action = "role.password"
	actSetPolicy      action = "partition.policy"
	actDeactivate     action = "partition.deactivate"

	actReplica    action = "replica.info"
	actGroup      action = "group.read"
	actSetGroup   action = "group.set"
	actDigest     action = "replica.digest"
	actChanges    action = "replica.changes"
	actOfferClone action = "key.clone.offer"
	actCloneOut   action = "key.clone.out"
	actCloneIn    action = "key.clone.in"
	actSetPeer    action = "replica.peer"
)

// roleGone is the role of a session whose partition is no more. It may do
// nothing.
const roleGone object.Role = 255

// grant is who may do an action, and what the key acted on must allow.
type grant struct {
	roles     []object.Role
	attribute object.AttributeType // of the key; 0 for none
}

var (
	officer = []object.Role{object.RoleCryptoOfficer}
	both    = []object.Role{object.RoleCryptoOfficer, object.RoleCryptoUser}
	admin   = []object.Role{object.RolePartitionOfficer}
	admins  = []object.Role{object.RoleCryptoOfficer, object.RolePartitionOfficer}
	anybody = []object.Role{object.RoleNone, object.RoleCryptoOfficer, object.RoleCryptoUser, object.RolePartitionOfficer}
)

// grants is the whole of what roles may do to a partition and its objects. What
// is not here is refused.
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

	actStatus:         {anybody, 0},
	actInitPartition:  {anybody, 0}, // of a partition that is nobody's yet
	actInitRole:       {admins, 0},
	actResetRole:      {admins, 0},
	actUnlockRole:     {admin, 0},
	actChangePassword: {anybody, 0}, // by the old one
	actSetPolicy:      {admin, 0},
	actDeactivate:     {admins, 0},

	actReplica:    {anybody, 0},
	actGroup:      {both, 0},
	actSetGroup:   {officer, 0},
	actDigest:     {both, 0},
	actChanges:    {both, 0},
	actOfferClone: {officer, 0},
	actCloneOut:   {officer, 0},
	actCloneIn:    {officer, 0},
	actSetPeer:    {admins, 0}, // whoever answers for the partition's keys
}

// targets narrows the grants of acts on a role: which, by whom. A role's
// password is changed by itself, or by nobody in particular who knows it.
var targets = map[action]map[object.Role][]object.Role{
	actInitRole: {
		object.RoleCryptoOfficer:    {object.RoleCryptoUser},
		object.RolePartitionOfficer: {object.RoleCryptoOfficer},
	},
	actResetRole: {
		object.RoleCryptoOfficer:    {object.RoleCryptoUser},
		object.RolePartitionOfficer: {object.RoleCryptoOfficer, object.RoleCryptoUser},
	},
	actUnlockRole: {
		object.RolePartitionOfficer: {object.RoleCryptoOfficer, object.RoleCryptoUser},
	},
	actChangePassword: {
		object.RoleNone:             partitionRoles,
		object.RoleCryptoOfficer:    {object.RoleCryptoOfficer},
		object.RoleCryptoUser:       {object.RoleCryptoUser},
		object.RolePartitionOfficer: {object.RolePartitionOfficer},
	},
}

// permitOn is permit for an act on a role of the partition.
func permitOn(role object.Role, act action, target object.Role) error {
	if err := permit(role, act, nil); err != nil {
		return err
	}
	if slices.Contains(targets[act][role], target) {
		return nil
	}
	var able []string
	for _, r := range partitionRoles {
		if slices.Contains(targets[act][r], target) {
			able = append(able, r.Title())
		}
	}
	if able == nil {
		return object.Errorf(object.ErrUserType, "%s of role %v is done by nobody here", act, target)
	}
	return object.Errorf(object.ErrUserType, "%s of the %s needs the %s; this session is logged in as %v", act, target.Title(), strings.Join(able, " or the "), role)
}

// permit says yes (nil) or no to a role that would do an action, on a key with
// the given attributes (nil when the action is on no key).
func permit(role object.Role, act action, key object.Template) error {
	g, known := grants[act]
	switch {
	case !known:
		return object.Errorf(object.ErrNotSupported, "%s", act)
	case role == roleGone:
		return errGone
	case slices.Contains(g.roles, role):
		if g.attribute != 0 && key != nil && !key.Bool(g.attribute) {
			return object.Errorf(object.ErrKeyNotPermitted, "the key's %v is false", g.attribute)
		}
		return nil
	case role == object.RoleNone:
		return object.Errorf(object.ErrNotLoggedIn, "%s needs a login to the partition", act)
	}
	able := make([]string, len(g.roles))
	for i, r := range g.roles {
		able[i] = r.Title()
	}
	return object.Errorf(object.ErrUserType, "%s needs the %s; this session is logged in as %v", act, strings.Join(able, " or the "), role)
}
