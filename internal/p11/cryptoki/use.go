//go:build cgo

package cryptoki

import (
	"github.com/miekg/pkcs11"

	"moongate/internal/p11"
)

// mechanism turns a mechanism into the binding's. free gives its memory back,
// after the operation.
func mechanism(m p11.Mechanism) (list []*pkcs11.Mechanism, gcm *pkcs11.GCMParams, free func()) {
	free = func() {}
	var parameter any
	switch {
	case m.PSS != nil:
		parameter = pkcs11.NewPSSParams(m.PSS.Hash, m.PSS.MGF, m.PSS.SaltLength)
	case m.GCM != nil:
		gcm = pkcs11.NewGCMParams(m.GCM.IV, m.GCM.AAD, 8*gcmTag)
		parameter, free = gcm, gcm.Free
	}
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.Type, parameter)}, gcm, free
}

const gcmTag = 16 // bytes

func (m *module) Sign(session uint, how p11.Mechanism, key uint, data []byte) ([]byte, error) {
	list, _, free := mechanism(how)
	defer free()
	s := pkcs11.SessionHandle(session)
	if err := m.ctx.SignInit(s, list, pkcs11.ObjectHandle(key)); err != nil {
		return nil, answer(err)
	}
	out, err := m.ctx.Sign(s, data)
	return out, answer(err)
}

func (m *module) Encrypt(session uint, how p11.Mechanism, key uint, data []byte) ([]byte, error) {
	list, gcm, free := mechanism(how)
	defer free()
	s := pkcs11.SessionHandle(session)
	if err := m.ctx.EncryptInit(s, list, pkcs11.ObjectHandle(key)); err != nil {
		return nil, answer(err)
	}
	out, err := m.ctx.Encrypt(s, data)
	if err == nil && gcm != nil {
		how.GCM.IV = gcm.IV()
	}
	return out, answer(err)
}

func (m *module) Decrypt(session uint, how p11.Mechanism, key uint, data []byte) ([]byte, error) {
	list, _, free := mechanism(how)
	defer free()
	s := pkcs11.SessionHandle(session)
	if err := m.ctx.DecryptInit(s, list, pkcs11.ObjectHandle(key)); err != nil {
		return nil, answer(err)
	}
	out, err := m.ctx.Decrypt(s, data)
	return out, answer(err)
}
