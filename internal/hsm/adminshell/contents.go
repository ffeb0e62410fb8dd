package adminshell

import (
	"context"
	"encoding/hex"
	"fmt"

	"moongate/internal/hsm/object"
)

// contentView is an object as `partition showContents` lists it.
type contentView struct {
	Handle uint64 `json:"handle"`
	UUID   string `json:"uuid"`
	Class  string `json:"class"`
	Label  string `json:"label"`
	ID     string `json:"id,omitempty"` // CKA_ID, hex
}

// partitionContents logs in for as long as it lists: labels are secret to who
// has no role in the partition.
func (s *Shell) partitionContents(ctx context.Context, a args) error {
	role := object.RoleCryptoOfficer
	if a.has("role") {
		var err error
		if role, err = parseRole(a.get("role"), object.RoleCryptoOfficer, object.RoleCryptoUser); err != nil {
			return err
		}
	}
	pw, err := s.ask(fmt.Sprintf("Please enter the %s's password: ", role.Title()))
	if err != nil {
		return err
	}
	defer clear(pw)
	found, err := s.appliance.HSM.Contents(ctx, s.who.Operator, a.get("partition"), role, pw)
	if err != nil {
		return err
	}
	list := []contentView{}
	for _, f := range found {
		handle, _ := f.Attributes.Number(object.AttrHandle)
		label, _ := f.Attributes.Get(object.AttrLabel)
		id, _ := f.Attributes.Get(object.AttrID)
		list = append(list, contentView{handle, f.ID.String(), f.Attributes.Class().String(), string(label), hex.EncodeToString(id)})
	}
	if a.has("json") {
		return s.printJSON(list)
	}
	for _, o := range list {
		fmt.Fprintf(s.term, "handle=%d\tclass=%s\tlabel=%s\n", o.Handle, o.Class, oneLine(o.Label))
	}
	fmt.Fprintf(s.term, "Number of objects: %d\n", len(list))
	return nil
}
