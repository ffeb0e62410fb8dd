package mech

import (
	"fmt"
	"slices"

	"moongate/internal/hsm/object"
)

// Function is what is done with a key.
type Function uint8

const (
	GenerateKeyPair Function = iota + 1
	GenerateKey
	Sign
	Decrypt
	Encrypt
	Wrap
	Unwrap
	Verify
	Derive
)

var functionNames = map[Function]string{
	GenerateKeyPair: "generate key pair", GenerateKey: "generate key", Sign: "sign", Verify: "verify",
	Encrypt: "encrypt", Decrypt: "decrypt", Wrap: "wrap", Unwrap: "unwrap", Derive: "derive",
}

func (f Function) String() string {
	if name, known := functionNames[f]; known {
		return name
	}
	return fmt.Sprintf("function %d", uint8(f))
}

var required = map[Function]object.AttributeType{
	Sign: object.AttrSign, Verify: object.AttrVerify, Encrypt: object.AttrEncrypt, Decrypt: object.AttrDecrypt,
	Wrap: object.AttrWrap, Unwrap: object.AttrUnwrap, Derive: object.AttrDerive,
}

// Required is the attribute that a key must hold as true for the function. The
// generating functions use no key: ok is false.
func (f Function) Required() (typ object.AttributeType, ok bool) {
	typ, ok = required[f]
	return typ, ok
}

// Info is one row of the mechanism table: one mechanism doing one function
// with one kind of key.
type Info struct {
	Mechanism object.MechanismType
	Function  Function
	Class     object.Class   // of the key that acts, or of the secret half that is made
	KeyType   object.KeyType // likewise
	Sizes     []int          // key sizes in bits, ascending
	Approved  bool           // allowed in FIPS mode
	Standard  string         // where the algorithm is approved, or why it is not

	parameters []parameter // the fields of object.Mechanism that it uses
}

// Mechanisms returns the rows that the policy allows, in the table's order.
func (p Policy) Mechanisms() []Info {
	var out []Info
	for _, row := range table {
		if row.Approved || !p.FIPS {
			row.Sizes = slices.Clone(row.Sizes)
			out = append(out, row)
		}
	}
	return out
}

// Generates returns how a mechanism makes keys, GenerateKeyPair or
// GenerateKey; ok is false for one that makes none.
func Generates(m object.MechanismType) (f Function, ok bool) {
	for i := range table {
		row := &table[i]
		if row.Mechanism == m && (row.Function == GenerateKeyPair || row.Function == GenerateKey) {
			return row.Function, true
		}
	}
	return 0, false
}

// Check refuses a mechanism that is unknown, that does not do the function,
// that the policy does not allow with any key, or whose parameters are not
// right in themselves (those that depend on the key or the data are checked
// when it is used). Every operation of this package calls it.
func (p Policy) Check(f Function, m object.Mechanism) error {
	_, err := p.rows(f, m)
	return err
}

// rows returns what the mechanism does the function with.
func (p Policy) rows(f Function, m object.Mechanism) ([]*Info, error) {
	var fit []*Info
	var known, refused *Info
	for i := range table {
		row := &table[i]
		switch {
		case row.Mechanism != m.Type:
		case row.Function != f:
			known = row
		case p.FIPS && !row.Approved:
			refused = row
		default:
			fit = append(fit, row)
		}
	}
	switch {
	case len(fit) > 0:
		// The parameters of a mechanism's function are the same with any key.
		return fit, fit[0].checkParameters(m)
	case refused != nil:
		return nil, refused.notApproved()
	case known != nil:
		return nil, object.Errorf(object.ErrMechanism, "%v does not %v; it does: %s", m.Type, f, functionsOf(m.Type))
	}
	return nil, object.Errorf(object.ErrMechanism, "%v is not known to this HSM", m.Type)
}

func (row *Info) notApproved() error {
	return object.Errorf(object.ErrMechanism, "%v with %v keys does not %v in FIPS mode: %s", row.Mechanism, row.KeyType, row.Function, row.Standard)
}

// check refuses what the table does not hold for the key.
func (k *Key) check(f Function, m object.Mechanism) error {
	fit, err := k.policy.rows(f, m)
	if err != nil {
		return err
	}
	for i := range table {
		row := &table[i]
		switch {
		case row.Mechanism != m.Type || row.Function != f || row.KeyType != k.keyType || row.Class != k.class:
		case !slices.Contains(fit, row):
			return row.notApproved()
		default:
			return k.checkBothWays(row)
		}
	}
	return object.Errorf(object.ErrKeyType, "%v takes a %v %v key to %v, this one is %v %v",
		m.Type, fit[0].KeyType, fit[0].Class, f, k.keyType, k.class)
}

// checkBothWays keeps a key that may only encrypt, or only decrypt, from doing
// the other by another mode. Whoever chooses the IV has AES itself from CTR,
// and from encryption with CBC: it opens what CTR and GCM encrypted, and forges
// it.
func (k *Key) checkBothWays(row *Info) error {
	raw := row.Mechanism == object.MechAESCTR ||
		row.Function == Encrypt && (row.Mechanism == object.MechAESCBC || row.Mechanism == object.MechAESCBCPad)
	if raw && !(k.encrypts && k.decrypts) {
		return object.Errorf(object.ErrKeyNotPermitted,
			"%v to %v needs a key with CKA_ENCRYPT and CKA_DECRYPT: with an IV of one's choice either can be had from the other", row.Mechanism, row.Function)
	}
	return nil
}

func functionsOf(m object.MechanismType) string {
	out := ""
	for _, row := range table {
		if row.Mechanism != m {
			continue
		}
		if out != "" {
			out += ", "
		}
		out += row.Function.String()
	}
	return out
}
