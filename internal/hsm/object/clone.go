package object

import "slices"

var cloneOutcomes = map[CloneOutcome]string{
	CloneAdded: "added", CloneUpdated: "updated", CloneUnchanged: "unchanged", CloneDestroyed: "destroyed",
	CloneDead: "stays destroyed", CloneMerged: "merged", CloneRefused: "refused",
}

func (o CloneOutcome) String() string {
	if name, known := cloneOutcomes[o]; known {
		return name
	}
	return "unknown"
}

// Fixed returns what of an object no change changes: all but the attributes
// that CheckChange allows.
func (t Template) Fixed() Template {
	return slices.DeleteFunc(slices.Clone(t), func(a Attribute) bool { return attributes[a.Type].modifiable })
}

// CheckWhole refuses what no object of an HSM has as its own attributes:
// attributes that its class does not have, or that are of one partition and not
// of the object (MGA_HANDLE, MGA_USES), and what CheckPolicy refuses.
func (t Template) CheckWhole() error {
	if err := t.Check(); err != nil {
		return err
	}
	class := t.Class()
	if !slices.Contains(allClasses, class) {
		return Errorf(ErrTemplateInconsist, "CKA_CLASS is %d, expected that of a certificate, a public, private or secret key", uint64(class))
	}
	for _, a := range t {
		if a.Type == AttrHandle || a.Type == AttrUses {
			return Errorf(ErrAttributeReadOnly, "%v is a partition's own and travels with no object", a.Type)
		}
		if !slices.Contains(attributes[a.Type].classes, class) {
			return Errorf(ErrTemplateInconsist, "a %v object has no %v", class, a.Type)
		}
	}
	return t.CheckPolicy()
}
