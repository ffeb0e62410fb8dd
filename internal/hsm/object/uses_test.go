package object

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every set of uses that a key of each class may have, and no other: the
// sets are written here as an auditor reads them, not as the code does.
func TestEveryCombinationOfUses(t *testing.T) {
	t.Parallel()
	names := map[AttributeType]string{
		AttrEncrypt: "encrypt", AttrDecrypt: "decrypt", AttrWrap: "wrap", AttrUnwrap: "unwrap",
		AttrSign: "sign", AttrVerify: "verify", AttrDerive: "derive",
	}
	allowed := map[Class][]string{
		ClassPublicKey:  {"", "encrypt", "verify", "encrypt verify", "wrap"},
		ClassPrivateKey: {"", "decrypt", "sign", "decrypt sign", "unwrap", "derive"},
		ClassSecretKey: {"", "encrypt", "decrypt", "encrypt decrypt", "sign", "verify", "sign verify",
			"wrap", "unwrap", "wrap unwrap", "derive"},
	}
	order := []AttributeType{AttrEncrypt, AttrDecrypt, AttrWrap, AttrUnwrap, AttrSign, AttrVerify, AttrDerive}
	for class, sets := range allowed {
		var possible []AttributeType
		for _, typ := range order {
			if slices.Contains(attributes[typ].classes, class) {
				possible = append(possible, typ)
			}
		}
		accepted := 0
		for bits := range 1 << len(possible) {
			template, may := Defaults(class), []string(nil)
			for i, typ := range possible {
				on := bits>>i&1 == 1
				template = template.With(Bool(typ, on))
				if on {
					may = append(may, names[typ])
				}
			}
			set := strings.Join(may, " ")
			got := template.CheckPolicy()
			if want := slices.Contains(sets, set); (got == nil) != want {
				t.Errorf("%v key that may %s: %v, allowed: %v", class, set, got, want)
			}
			if got == nil {
				accepted++
			} else if CodeOf(got) != ErrTemplateInconsist {
				t.Errorf("%v key that may %s: %v", class, set, got)
			}
		}
		if accepted != len(sets) {
			t.Errorf("%v: %d sets accepted, %d listed: a name is misspelt", class, accepted, len(sets))
		}
	}
}

// A default gives way to what the template asks for; what it asks for twice
// does not.
func TestDefaultUsesGiveWay(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		class    Class
		asked    []AttributeType
		fallback AttributeType
		kept     bool
		want     Code
	}{
		{ClassPrivateKey, nil, AttrSign, true, OK},
		{ClassPrivateKey, []AttributeType{AttrDecrypt}, AttrSign, true, OK},
		{ClassPrivateKey, []AttributeType{AttrUnwrap}, AttrSign, false, OK},
		{ClassPrivateKey, []AttributeType{AttrDerive}, AttrSign, false, OK},
		{ClassPrivateKey, []AttributeType{AttrSign, AttrUnwrap}, AttrSign, true, ErrTemplateInconsist},
		{ClassPrivateKey, []AttributeType{AttrDerive, AttrUnwrap}, AttrSign, false, ErrTemplateInconsist},
		{ClassPublicKey, nil, AttrVerify, true, OK},
		{ClassPublicKey, []AttributeType{AttrEncrypt}, AttrVerify, true, OK},
		{ClassPublicKey, []AttributeType{AttrWrap}, AttrVerify, false, OK},
		{ClassPublicKey, []AttributeType{AttrVerify, AttrWrap}, AttrVerify, true, ErrTemplateInconsist},
		{ClassSecretKey, []AttributeType{AttrWrap}, AttrSign, false, OK},
	} {
		name := fmt.Sprint(test.class, test.asked)
		var asked Template
		for _, typ := range test.asked {
			asked = asked.With(Bool(typ, true))
		}
		got := asked.Complete(test.class)
		if got.Bool(test.fallback) != test.kept {
			t.Errorf("%s: %v is %v", name, test.fallback, got.Bool(test.fallback))
		}
		if code := CodeOf(got.CheckPolicy()); code != test.want {
			t.Errorf("%s: %v, want %v", name, code, test.want)
		}
	}
}
