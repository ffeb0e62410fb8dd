package p11_test

import (
	"os"
	"testing"

	"moongate/internal/hsm/object"
)

// TestStore keeps a certificate beside its key, where an administrator finds it.
func TestStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.session(t, object.RoleCryptoOfficer)
	id := makeEC(t, s, "ca")
	key := private(t, s, "ca")
	der, err := os.ReadFile(certificateOf(t, s, id, public(t, key.Attributes)))
	if err != nil {
		t.Fatal(err)
	}
	keyID, _ := key.Attributes.Get(object.AttrID)
	template := object.New(object.Number(object.AttrClass, uint64(object.ClassCertificate)), object.Bytes(object.AttrValue, der),
		object.Text(object.AttrLabel, "ca"), object.Bytes(object.AttrID, keyID))
	stored, err := s.Store(t.Context(), op, template)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Attributes(t.Context(), op, stored, nil)
	if err != nil {
		t.Fatal(err)
	}
	if value, _ := got.Get(object.AttrValue); string(value) != string(der) || got.Text(object.AttrLabel) != "ca" || !got.Has(object.AttrSubject) {
		t.Errorf("the certificate is %v", got)
	}
	if out := store.Tool(t, w.label, "--list-objects", "--type", "cert"); out == "" {
		t.Error("pkcs11-tool finds no certificate")
	}

	for name, test := range map[string]struct {
		template object.Template
		code     object.Code
	}{
		"no certificate":      {template.With(object.Bytes(object.AttrValue, []byte("x"))), object.ErrAttributeValue},
		"another's subject":   {template.With(object.Bytes(object.AttrSubject, []byte{0x30, 0})), object.ErrTemplateInconsist},
		"a private one":       {template.With(object.Bool(object.AttrPrivate, true)), object.ErrTemplateInconsist},
		"a public key":        {object.New(object.Number(object.AttrClass, uint64(object.ClassPublicKey))), object.ErrNotSupported},
		"a use of a key":      {template.With(object.Bool(object.AttrSign, true)), object.ErrTemplateInconsist},
		"nothing":             {nil, object.ErrNotSupported},
		"an X.509 of no type": {template.With(object.Number(object.AttrCertificateType, 2)), object.ErrTemplateInconsist},
	} {
		_, err := s.Store(t.Context(), op, test.template)
		wantCode(t, name, err, test.code)
	}
	_, err = w.session(t, object.RoleCryptoUser).Store(t.Context(), op, template)
	wantCode(t, "a Crypto User", err, object.ErrUserType)
	if found := find(t, s, object.Number(object.AttrClass, uint64(object.ClassCertificate))); len(found) != 1 {
		t.Errorf("%d certificates on the token, expected 1", len(found))
	}
}
