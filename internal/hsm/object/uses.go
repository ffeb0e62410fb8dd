package object

import "slices"

// uses are the kinds of use that a key of each class may have: one of them,
// whole or in part, and none besides.
//
//   - Wrapping keys do nothing else. One that may wrap and decrypt takes a
//     sensitive key out in clear: what it wrapped, it decrypts, by hand if the
//     mechanisms do not match, since AES-CBC with a chosen IV is AES itself
//     (J. Clulow, "On the Security of PKCS#11", CHES 2003). Officers wrap and
//     users decrypt, so this would undo the roles, too.
//   - AES keys that make MACs do not encrypt: CMAC's subkeys are the
//     encryption of a block of zeros, and CBC's last block is a CBC-MAC.
//   - Keys that others are derived from do nothing else, since an HKDF output
//     is an HMAC, and a key agreement key does not sign (SP 800-56A, section
//     5.6.3.2).
//   - RSA keys may sign and decrypt: a TLS 1.2 server does both with one key.
//     The encodings differ, and the HSM makes them itself.
var uses = map[Class][][]AttributeType{
	ClassPublicKey:  {{AttrVerify, AttrEncrypt}, {AttrWrap}},
	ClassPrivateKey: {{AttrSign, AttrDecrypt}, {AttrUnwrap}, {AttrDerive}},
	ClassSecretKey:  {{AttrEncrypt, AttrDecrypt}, {AttrSign, AttrVerify}, {AttrWrap, AttrUnwrap}, {AttrDerive}},
}

// CheckUses refuses a key with two kinds of use.
func (t Template) CheckUses() error {
	var first []AttributeType
	for _, kind := range uses[t.Class()] {
		asked := slices.DeleteFunc(slices.Clone(kind), func(typ AttributeType) bool { return !t.Bool(typ) })
		if len(asked) > 0 && len(first) > 0 {
			return Errorf(ErrTemplateInconsist, "%v and %v are both true: one key does one or the other, so that neither undoes the other; make two keys", first[0], asked[0])
		}
		if len(asked) > 0 {
			first = asked
		}
	}
	return nil
}
