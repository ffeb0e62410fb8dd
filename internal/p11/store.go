package p11

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"moongate/internal/hsm/object"
)

// Store keeps an X.509 certificate on the token, for a Crypto Officer: the one
// object that is made of what the caller has.
func (s *session) Store(ctx context.Context, _ object.OperationID, t object.Template) (object.ID, error) {
	if err := s.officer(); err != nil {
		return object.ID{}, err
	}
	if t.Class() != object.ClassCertificate {
		return object.ID{}, elsewhere("storing other objects than certificates")
	}
	list, err := certificateTemplate(t)
	if err != nil {
		return object.ID{}, err
	}
	handle, err := run(ctx, s.token, call[uint]{
		name: "C_CreateObject", limit: s.token.options.HangLimit, write: true,
		do: func(_ *era, session uint) (uint, error) { return s.token.module.CreateObject(session, list) },
	})
	if err != nil {
		return object.ID{}, refusal("storing a certificate", err)
	}
	l, err := s.token.objects.current(context.WithoutCancel(ctx), time.Now())
	if err != nil {
		return object.ID{}, err
	}
	n := l.known[handle]
	if n == nil || n.id == (object.ID{}) {
		return object.ID{}, object.Errorf(object.ErrDeviceError, "the certificate was stored, and is not found on the token")
	}
	return n.id, nil
}

// certificateTemplate is what the module is given: what the certificate itself
// says, and its label and CKA_ID.
func certificateTemplate(t object.Template) ([]Attribute, error) {
	if err := t.CheckCreation(object.ClassCertificate); err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(valueOf(t, object.AttrValue))
	if err != nil {
		return nil, object.Errorf(object.ErrAttributeValue, "CKA_VALUE is no X.509 certificate: %v", err)
	}
	serial, err := asn1.Marshal(certificate.SerialNumber)
	if err != nil {
		return nil, object.Errorf(object.ErrAttributeValue, "CKA_VALUE has a serial number that cannot be written: %v", err)
	}
	made := object.New(
		object.Number(object.AttrClass, uint64(object.ClassCertificate)), object.Number(object.AttrCertificateType, 0), // CKC_X_509
		object.Bool(object.AttrToken, true), object.Bool(object.AttrPrivate, false), object.Text(object.AttrLabel, t.Text(object.AttrLabel)),
		object.Bytes(object.AttrValue, certificate.Raw), object.Bytes(object.AttrSubject, certificate.RawSubject),
		object.Bytes(object.AttrIssuer, certificate.RawIssuer), object.Bytes(object.AttrSerialNumber, serial),
	)
	if id := valueOf(t, object.AttrID); len(id) > 0 {
		made = made.With(object.Bytes(object.AttrID, bytes.Clone(id)))
	}
	for _, a := range t {
		if mine, has := made.Get(a.Type); !has || !bytes.Equal(mine, a.Value) {
			return nil, object.Errorf(object.ErrTemplateInconsist, "%v is not that of the certificate; leave it out", a.Type)
		}
	}
	return toModule(made), nil
}
