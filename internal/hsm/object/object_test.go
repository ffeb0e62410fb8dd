package object

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewSortsAndTheLaterWins(t *testing.T) {
	t.Parallel()
	got := New(Text(AttrLabel, "a"), Number(AttrClass, 3), Text(AttrLabel, "b"))
	want := Template{Number(AttrClass, 3), Text(AttrLabel, "b")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("New (-want +got):\n%s", diff)
	}
}

func TestTemplateIsAValue(t *testing.T) {
	t.Parallel()
	base := New(Text(AttrLabel, "a"), Bytes(AttrID, []byte{1}))
	base.With(Text(AttrLabel, "b"))
	base.Without(AttrID)
	if base.Text(AttrLabel) != "a" || !base.Has(AttrID) {
		t.Errorf("With or Without changed its receiver: %v", base)
	}
}

func TestCreationRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		class Class
		t     Template
		want  Code
	}{
		{"plain", ClassPrivateKey, New(Text(AttrLabel, "k"), Bool(AttrSign, true)), OK},
		{"unknown attribute", ClassPrivateKey, Template{{0x7777, nil}}, ErrAttributeType},
		{"bad boolean", ClassPrivateKey, Template{{AttrSign, []byte{2}}}, ErrAttributeValue},
		{"short number", ClassSecretKey, Template{{AttrValueLen, []byte{2}}}, ErrAttributeValue},
		{"label not UTF-8", ClassPrivateKey, Template{{AttrLabel, []byte{0xff}}}, ErrAttributeValue},
		{"label too long", ClassPrivateKey, New(Bytes(AttrLabel, bytes.Repeat([]byte("x"), MaxLabel+1))), ErrAttributeValue},
		{"doubled", ClassPrivateKey, Template{Bool(AttrSign, true), Bool(AttrSign, true)}, ErrTemplateInconsist},
		{"set by the HSM", ClassPrivateKey, New(Bool(AttrLocal, true)), ErrAttributeReadOnly},
		{"key bytes given", ClassPrivateKey, New(Bytes(AttrValue, []byte{1})), ErrTemplateInconsist},
		{"other class", ClassPrivateKey, New(Number(AttrClass, uint64(ClassSecretKey))), ErrTemplateInconsist},
		{"verify with a private key", ClassPrivateKey, New(Bool(AttrVerify, true)), ErrTemplateInconsist},
		{"public key", ClassPublicKey, New(Bytes(AttrPublicKeyInfo, []byte{1})), OK},
		{"public key of a private key", ClassPrivateKey, New(Bytes(AttrPublicKeyInfo, []byte{1})), ErrAttributeReadOnly},
		{"public key of a secret key", ClassSecretKey, New(Bytes(AttrPublicKeyInfo, []byte{1})), ErrTemplateInconsist},
		{"public key of a certificate", ClassCertificate, New(Bytes(AttrPublicKeyInfo, []byte{1})), ErrTemplateInconsist},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := CodeOf(test.t.CheckCreation(test.class)); got != test.want {
				t.Errorf("CheckCreation: %v, want %v", got, test.want)
			}
		})
	}
}

func TestPolicyKeepsKeysInside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		t    Template
		want Code
	}{
		{"private by default", Defaults(ClassPrivateKey), OK},
		{"secret by default", Defaults(ClassSecretKey), OK},
		{"certificate", Defaults(ClassCertificate), OK},
		{"extractable private", Defaults(ClassPrivateKey).With(Bool(AttrExtractable, true)), OK},
		{"extractable secret", Defaults(ClassSecretKey).With(Bool(AttrExtractable, true)), OK},
		{"insensitive private", Defaults(ClassPrivateKey).With(Bool(AttrSensitive, false)), ErrTemplateInconsist},
		{"insensitive secret", Defaults(ClassSecretKey).With(Bool(AttrSensitive, false)), ErrTemplateInconsist},
		{"session object", Defaults(ClassSecretKey).With(Bool(AttrToken, false)), ErrTemplateInconsist},
		{"two kinds of use", Defaults(ClassSecretKey).With(Bool(AttrWrap, true)).With(Bool(AttrDecrypt, true)), ErrTemplateInconsist},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := CodeOf(test.t.CheckPolicy()); got != test.want {
				t.Errorf("CheckPolicy: %v, want %v", got, test.want)
			}
		})
	}
}

func TestOnlySomeAttributesChange(t *testing.T) {
	t.Parallel()
	if err := New(Text(AttrLabel, "new"), Bytes(AttrID, []byte{9})).CheckChange(ClassPrivateKey); err != nil {
		t.Errorf("label and id: %v", err)
	}
	for _, a := range []Attribute{Bool(AttrSign, true), Bool(AttrSensitive, true), Bool(AttrExtractable, false)} {
		if got := CodeOf(New(a).CheckChange(ClassPrivateKey)); got != ErrAttributeReadOnly {
			t.Errorf("%v: %v, want %v", a.Type, got, ErrAttributeReadOnly)
		}
	}
}

func TestErrorsCompareByCode(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("signing: %w", Errorf(ErrKeyHandle, "no key %q", "x"))
	if !errors.Is(err, &Error{Code: ErrKeyHandle}) || errors.Is(err, &Error{Code: ErrBusy}) {
		t.Errorf("errors.Is does not go by code: %v", err)
	}
	if CodeOf(err) != ErrKeyHandle || CodeOf(nil) != OK || CodeOf(errors.New("x")) != ErrGeneral {
		t.Error("CodeOf is wrong")
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	t.Parallel()
	o := Object{ID: NewID(), Attributes: Defaults(ClassPrivateKey), Secret: []byte("S3CRET")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, v := range []any{o, &o} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "S3CRET") || strings.Contains(text, "533343524554") || strings.Contains(text, "0x53, 0x33") {
				t.Errorf("%s prints the secret: %s", verb, text)
			}
		}
	}
}

func FuzzDecodeTemplate(f *testing.F) {
	f.Add(Defaults(ClassPrivateKey).Append(nil))
	f.Add(New().Append(nil))
	f.Add([]byte{0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, in []byte) {
		template, rest, err := DecodeTemplate(in)
		if err != nil {
			return
		}
		if again := template.Append(nil); !bytes.Equal(again, in[:len(in)-len(rest)]) {
			t.Errorf("%x decodes to %v, which encodes to %x", in, template, again)
		}
	})
}
