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
)

func (f Function) String() string {
	switch f {
	case GenerateKeyPair:
		return "generate key pair"
	case GenerateKey:
		return "generate key"
	case Sign:
		return "sign"
	case Decrypt:
		return "decrypt"
	case Encrypt:
		return "encrypt"
	case Wrap:
		return "wrap"
	case Unwrap:
		return "unwrap"
	}
	return fmt.Sprintf("function %d", uint8(f))
}

// Required is the attribute that a key must hold as true for the function. The
// generating functions use no key: ok is false.
func (f Function) Required() (typ object.AttributeType, ok bool) {
	switch f {
	case Sign:
		return object.AttrSign, true
	case Decrypt:
		return object.AttrDecrypt, true
	case Encrypt:
		return object.AttrEncrypt, true
	case Wrap:
		return object.AttrWrap, true
	case Unwrap:
		return object.AttrUnwrap, true
	}
	return 0, false
}

// Info is one row of the mechanism table: one mechanism doing one function.
type Info struct {
	Mechanism object.MechanismType
	Function  Function
	Class     object.Class   // of the key that acts, or of the secret half that is made
	KeyType   object.KeyType // likewise
	Sizes     []int          // key sizes in bits
	Approved  bool           // allowed in FIPS mode
	Standard  string         // where the algorithm is approved, or why it is not

	parameters []parameter // the fields of object.Mechanism that it uses
}

var (
	rsaSizes = []int{2048, 3072, 4096}
	ecSizes  = []int{256, 384}
	aesSizes = []int{128, 192, 256}
)

// table is the one source of what this package does.
//
// AES-GCM encrypts and AES-KWP wraps, and neither does the other's work: a key
// that may wrap and may decrypt would otherwise decrypt what it wrapped, and a
// sensitive key would leave in clear (J. Clulow, "On the Security of PKCS#11",
// CHES 2003).
var table = []Info{
	{object.MechRSAKeyPairGen, GenerateKeyPair, object.ClassPrivateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5", nil},
	{object.MechRSAPKCS, Sign, object.ClassPrivateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5", []parameter{paramHash}},
	{object.MechRSAPKCS, Decrypt, object.ClassPrivateKey, object.KeyRSA, rsaSizes, false, "PKCS #1 v1.5 key transport is not approved since 2024 (SP 800-131A)", []parameter{paramSessionKeyLen}},
	{object.MechRSAPSS, Sign, object.ClassPrivateKey, object.KeyRSA, rsaSizes, true, "FIPS 186-5", []parameter{paramHash, paramSaltLength}},
	{object.MechECKeyPairGen, GenerateKeyPair, object.ClassPrivateKey, object.KeyEC, ecSizes, true, "FIPS 186-5", nil},
	{object.MechECDSA, Sign, object.ClassPrivateKey, object.KeyEC, ecSizes, true, "FIPS 186-5", []parameter{paramHashOptional}},
	{object.MechAESKeyGen, GenerateKey, object.ClassSecretKey, object.KeyAES, aesSizes, true, "SP 800-133", nil},
	{object.MechAESGCM, Encrypt, object.ClassSecretKey, object.KeyAES, aesSizes, true, "SP 800-38D, section 8.2.2", []parameter{paramAAD}},
	{object.MechAESGCM, Decrypt, object.ClassSecretKey, object.KeyAES, aesSizes, true, "SP 800-38D, section 8.2.2", []parameter{paramAAD}},
	{object.MechAESKWP, Wrap, object.ClassSecretKey, object.KeyAES, aesSizes, true, "SP 800-38F", nil},
	{object.MechAESKWP, Unwrap, object.ClassSecretKey, object.KeyAES, aesSizes, true, "SP 800-38F", nil},
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

// Check refuses a mechanism that is unknown, that does not do the function,
// that the policy does not allow, or whose parameters are not right in
// themselves (those that depend on the key or the data are checked when it is
// used). Every operation of this package calls it.
func (p Policy) Check(f Function, m object.Mechanism) error {
	_, err := p.row(f, m)
	return err
}

func (p Policy) row(f Function, m object.Mechanism) (*Info, error) {
	known := false
	for i := range table {
		row := &table[i]
		if row.Mechanism != m.Type {
			continue
		}
		known = true
		if row.Function != f {
			continue
		}
		if p.FIPS && !row.Approved {
			return nil, object.Errorf(object.ErrMechanism, "%v does not %v in FIPS mode: %s", m.Type, f, row.Standard)
		}
		return row, row.checkParameters(m)
	}
	if known {
		return nil, object.Errorf(object.ErrMechanism, "%v does not %v; it does: %s", m.Type, f, functionsOf(m.Type))
	}
	return nil, object.Errorf(object.ErrMechanism, "%v is not known to this HSM", m.Type)
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
