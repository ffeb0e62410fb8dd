package wycheprooftest

import (
	"bytes"
	"fmt"
	"strings"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

func judgeGCM(_ *file, g *group, v *vector) judgement {
	if g.IvSize != 96 || g.TagSize != 128 {
		return judgement{leftOut: "GCM nonces have 12 bytes and tags 16: there is no way to say another size"}
	}
	return judgement{}
}

// tryGCM opens what the vector sealed, and what the device seals itself.
func tryGCM(b *bench, _ *file, _ *group, v *vector) (string, error) {
	key, err := b.importOnce(template(object.ClassSecretKey, object.KeyAES, object.AttrEncrypt, object.AttrDecrypt), v.Key)
	if err != nil {
		return "", err
	}
	m := object.Mechanism{Type: object.MechAESGCM, AAD: v.AAD}
	got, err := b.device.Decrypt(key, m, bytes.Join([][]byte{v.IV, v.CT, v.Tag}, nil))
	if err != nil {
		return "", err
	}
	if wrong := differs("plaintext", got, v.Msg); wrong != "" {
		return wrong, nil
	}
	sealed, err := b.device.Encrypt(key, m, v.Msg)
	if err != nil {
		return "", err
	}
	got, err = b.device.Decrypt(key, m, sealed)
	return differs("plaintext of our own ciphertext", got, v.Msg), err
}

func tryCBC(b *bench, _ *file, _ *group, v *vector) (string, error) {
	key, err := b.importOnce(template(object.ClassSecretKey, object.KeyAES, object.AttrEncrypt, object.AttrDecrypt), v.Key)
	if err != nil {
		return "", err
	}
	m := object.Mechanism{Type: object.MechAESCBCPad, IV: v.IV}
	got, err := b.device.Decrypt(key, m, v.CT)
	if err != nil {
		return "", err
	}
	if wrong := differs("plaintext", got, v.Msg); wrong != "" {
		return wrong, nil
	}
	sealed, err := b.device.Encrypt(key, m, v.Msg)
	return differs("ciphertext", sealed, v.CT), err
}

var macs = map[string]object.MechanismType{
	"HMACSHA256": object.MechSHA256HMAC, "HMACSHA384": object.MechSHA384HMAC, "HMACSHA512": object.MechSHA512HMAC,
	"AES-CMAC": object.MechAESCMAC,
}

var macSizes = map[object.MechanismType]int{
	object.MechSHA256HMAC: 256, object.MechSHA384HMAC: 384, object.MechSHA512HMAC: 512, object.MechAESCMAC: 128,
}

func judgeMAC(f *file, g *group, _ *vector) judgement {
	if g.TagSize != macSizes[macs[f.Algorithm]] {
		return judgement{refused: "MACs are not cut short"}
	}
	return judgement{}
}

func tryMAC(b *bench, f *file, _ *group, v *vector) (string, error) {
	m := object.Mechanism{Type: macs[f.Algorithm]}
	keyType := object.KeyGeneric
	if m.Type == object.MechAESCMAC {
		keyType = object.KeyAES
	}
	key, err := b.importOnce(template(object.ClassSecretKey, keyType, object.AttrSign, object.AttrVerify), v.Key)
	if err != nil {
		return "", err
	}
	if err := b.device.Verify(key, m, v.Msg, v.Tag); err != nil {
		return "", err
	}
	got, err := b.device.Sign(key, m, v.Msg)
	return differs("MAC", got, v.Tag), err
}

func judgeGeneric(what string, size int) judgement {
	if size < mech.MinGeneric || size > mech.MaxGeneric {
		return judgement{refused: fmt.Sprintf("%s has %d to %d bytes", what, mech.MinGeneric, mech.MaxGeneric)}
	}
	return judgement{}
}

func judgeWrap(_ *file, _ *group, v *vector) judgement {
	if v.Result == "invalid" {
		return judgement{}
	}
	return judgeGeneric("a wrapped generic secret", len(v.Msg))
}

// tryWrap unwraps the vector's key into a generic secret, which cannot be read
// and is known by its HMAC; and wraps the same.
func tryWrap(b *bench, f *file, _ *group, v *vector) (string, error) {
	m := object.Mechanism{Type: object.MechAESKWP}
	if f.Algorithm == "AES-WRAP" {
		m.Type = object.MechAESKW
	}
	wrapping, err := b.importOnce(template(object.ClassSecretKey, object.KeyAES, object.AttrWrap, object.AttrUnwrap), v.Key)
	if err != nil {
		return "", err
	}
	unwrapped, err := b.device.Unwrap(wrapping, m, v.CT, template(object.ClassSecretKey, object.KeyGeneric, object.AttrSign))
	if err != nil {
		return "", err
	}
	if wrong, err := b.isSecret(unwrapped, v.Msg); wrong != "" || err != nil {
		return wrong, err
	}
	target, err := b.importOnce(template(object.ClassSecretKey, object.KeyGeneric, object.AttrExtractable), v.Msg)
	if err != nil {
		return "", err
	}
	got, err := b.device.Wrap(wrapping, target, m)
	return differs("wrapped key", got, v.CT), err
}

// isSecret says what is wrong with a generic secret that may sign and should
// be want, and destroys it.
func (b *bench) isSecret(key Key, want []byte) (string, error) {
	message := []byte("is it the same key?")
	got, err := b.device.Sign(key, object.Mechanism{Type: object.MechSHA256HMAC}, message)
	if destroyed := b.device.Destroy(key); err == nil {
		err = destroyed
	}
	return differs("HMAC with the new key", got, hmacSHA256(want, message)), err
}

func judgeHKDF(_ *file, _ *group, v *vector) judgement {
	if v.Result == "invalid" {
		return judgement{}
	}
	if says := judgeGeneric("HKDF's input", len(v.IKM)); says.refused != "" {
		return says
	}
	return judgeGeneric("HKDF's output", v.Size)
}

func tryHKDF(b *bench, f *file, _ *group, v *vector) (string, error) {
	base, err := b.importOnce(template(object.ClassSecretKey, object.KeyGeneric, object.AttrDerive), v.IKM)
	if err != nil {
		return "", err
	}
	m := object.Mechanism{Type: object.MechHKDFDerive, Hash: hashes[strings.TrimPrefix(f.Algorithm, "HKDF-")].ours, Salt: v.Salt, Info: v.Info}
	t := template(object.ClassSecretKey, object.KeyGeneric, object.AttrSign).With(object.Number(object.AttrValueLen, uint64(v.Size)))
	derived, err := b.device.Derive(base, m, t)
	if err != nil {
		return "", err
	}
	return b.isSecret(derived, v.OKM)
}
