package main

import (
	"context"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"moongate/client"
	"moongate/internal/hsm/object"
)

// madeKey is one half of a new key pair.
type madeKey struct {
	Handle uint64    `json:"handle"`
	UUID   client.ID `json:"uuid"`
	Label  string    `json:"label"`
}

// madePair is what `cmu gen` made.
type madePair struct {
	Kind    string  `json:"kind"`
	ID      string  `json:"id"`
	Public  madeKey `json:"public"`
	Private madeKey `json:"private"`
}

func (t *tool) generate(ctx context.Context, o options) error {
	plan, err := t.planKey(o)
	if err != nil {
		return err
	}
	s, err := t.connect(ctx, o)
	if err != nil {
		return err
	}
	defer s.Close()
	ids, err := s.GenerateKeyPair(ctx, plan.mechanism, plan.public, plan.private)
	if err != nil {
		return fmt.Errorf("making a key pair: %w", err)
	}
	made, err := s.describePair(ctx, ids)
	if err != nil {
		return fmt.Errorf("the key pair is made; reading its handles: %w", err)
	}
	if o.flag("json", false) {
		return t.con.printJSON(made)
	}
	t.con.printf("Key pair generated on the HSM: %s\n  public key   handle=%d\tlabel=%s\n  private key  handle=%d\tlabel=%s\n",
		made.Kind, made.Public.Handle, shown(made.Public.Label), made.Private.Handle, shown(made.Private.Label))
	return nil
}

func (s *session) describePair(ctx context.Context, ids client.KeyPair) (madePair, error) {
	public, err := s.object(ctx, ids.Public)
	if err != nil {
		return madePair{}, err
	}
	private, err := s.object(ctx, ids.Private)
	if err != nil {
		return madePair{}, err
	}
	id, _ := private.Attributes.Get(client.AttrID)
	return madePair{
		Kind: private.kind(), ID: hex.EncodeToString(id),
		Public:  madeKey{public.handle, public.ID, public.label()},
		Private: madeKey{private.handle, private.ID, private.label()},
	}, nil
}

// keyPlan is what the HSM is asked to make.
type keyPlan struct {
	mechanism       client.MechanismType
	public, private client.Template
}

// curves are those that a key may be on, with their CKA_EC_PARAMS.
var curves = []struct {
	name, also string
	oid        asn1.ObjectIdentifier
}{
	{"P-256", "prime256v1 secp256r1 nistp256 p256", asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	{"P-384", "secp384r1 nistp384 p384", asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	{"P-521", "secp521r1 nistp521 p521", asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
}

const (
	keyTypes  = "RSA, ECDSA, ED25519 or X25519"
	curveList = "P-256, P-384 or P-521"
)

func (t *tool) planKey(o options) (keyPlan, error) {
	var plan keyPlan
	var err error
	var what string
	switch keyType := strings.ToUpper(o.text("keyType")); {
	case keyType == "ECDSA", keyType == "EC", keyType == "" && o.has("curve") && !o.has("modulusBits"):
		plan, what, err = t.planEC(o)
	case keyType == "RSA", keyType == "" && o.has("modulusBits"):
		plan, what, err = t.planRSA(o)
	case keyType == "ED25519":
		plan, what, err = planFixed(o, object.MechEdwardsGen, "ed25519")
	case keyType == "X25519":
		// It agrees on secrets, and neither signs nor decrypts.
		o["sign"], o["verify"] = "F", "F"
		o["derive"] = "T"
		plan, what, err = planFixed(o, object.MechMontgomeryGen, "x25519")
	case keyType != "":
		return keyPlan{}, &usageError{fmt.Sprintf("-keyType=%s; expected %s", o.text("keyType"), keyTypes)}
	default:
		answer, askErr := t.con.askOr("Type of the key, "+keyTypes, "RSA")
		if askErr != nil {
			return keyPlan{}, askErr
		}
		o["keyType"] = answer
		if answer == "" {
			return keyPlan{}, &usageError{"-keyType is missing"}
		}
		return t.planKey(o)
	}
	if err != nil {
		return keyPlan{}, err
	}
	return plan, t.describeKey(&plan, o, what)
}

func (t *tool) planRSA(o options) (keyPlan, string, error) {
	if o.has("curve") {
		return keyPlan{}, "", &usageError{"-curve goes with -keyType=ECDSA, not with an RSA key"}
	}
	if !o.has("modulusBits") {
		answer, err := t.con.askOr("Bits of the RSA key", "2048")
		if err != nil {
			return keyPlan{}, "", err
		}
		if _, err := strconv.ParseUint(answer, 10, 64); err != nil {
			return keyPlan{}, "", &usageError{fmt.Sprintf("%q bits; expected 2048, 3072 or 4096", answer)}
		}
		o["modulusBits"] = answer
	}
	bits := o.number("modulusBits", 0)
	exponent := new(big.Int).SetUint64(o.number("publicExp", 65537))
	return keyPlan{
		mechanism: client.MechRSAKeyPairGen,
		public: client.NewTemplate(
			client.NumberAttr(client.AttrModulusBits, bits),
			client.BytesAttr(client.AttrPublicExponent, exponent.Bytes())),
	}, fmt.Sprintf("rsa%d", bits), nil
}

// planFixed is a key type that has one size.
func planFixed(o options, m client.MechanismType, what string) (keyPlan, string, error) {
	for _, other := range []string{"modulusBits", "publicExp", "curve"} {
		if o.has(other) {
			return keyPlan{}, "", &usageError{fmt.Sprintf("-%s does not go with -keyType=%s", other, o.text("keyType"))}
		}
	}
	return keyPlan{mechanism: m}, what, nil
}

func (t *tool) planEC(o options) (keyPlan, string, error) {
	for _, rsaOnly := range []string{"modulusBits", "publicExp"} {
		if o.has(rsaOnly) {
			return keyPlan{}, "", &usageError{fmt.Sprintf("-%s goes with -keyType=RSA, not with an ECDSA key", rsaOnly)}
		}
	}
	name := o.text("curve")
	if name == "" {
		var err error
		if name, err = t.con.askOr("Curve of the ECDSA key, "+curveList, "P-256"); err != nil {
			return keyPlan{}, "", err
		}
	}
	for _, c := range curves {
		also := strings.Fields(c.also)
		if strings.EqualFold(name, c.name) || containsFold(also, name) {
			params, err := asn1.Marshal(c.oid)
			if err != nil {
				return keyPlan{}, "", err
			}
			return keyPlan{
				mechanism: client.MechECKeyPairGen,
				public:    client.NewTemplate(client.BytesAttr(client.AttrECParams, params)),
			}, also[len(also)-1], nil
		}
	}
	return keyPlan{}, "", &usageError{fmt.Sprintf("-curve=%s; expected %s", name, curveList)}
}

func containsFold(list []string, word string) bool {
	for _, w := range list {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// describeKey adds labels, ID and what the halves may do.
func (t *tool) describeKey(plan *keyPlan, o options, what string) error {
	label := o.text("label")
	if label == "" {
		label = what + "-" + t.now().UTC().Format("20060102T150405Z")
	}
	or := func(own string) string {
		if own == "" {
			return label
		}
		return own
	}
	plan.public = plan.public.With(client.TextAttr(client.AttrLabel, or(o.text("labelPublic"))))
	plan.private = plan.private.With(client.TextAttr(client.AttrLabel, or(o.text("labelPrivate"))))
	if o.has("id") {
		id, err := hex.DecodeString(strings.TrimPrefix(strings.ReplaceAll(o.text("id"), ":", ""), "0x"))
		if err != nil || len(id) == 0 {
			return &usageError{fmt.Sprintf("-id=%s; expected bytes in hexadecimal", o.text("id"))}
		}
		plan.public = plan.public.With(client.BytesAttr(client.AttrID, id))
		plan.private = plan.private.With(client.BytesAttr(client.AttrID, id))
	}
	// What is not given is left to the HSM, whose defaults give way to what is:
	// a key that unwraps does not sign.
	for _, may := range []struct {
		name string
		half *client.Template
		typ  client.AttributeType
	}{
		{"sign", &plan.private, client.AttrSign},
		{"decrypt", &plan.private, client.AttrDecrypt},
		{"unwrap", &plan.private, client.AttrUnwrap},
		{"derive", &plan.private, object.AttrDerive},
		{"extractable", &plan.private, client.AttrExtractable},
		{"verify", &plan.public, client.AttrVerify},
		{"encrypt", &plan.public, client.AttrEncrypt},
		{"wrap", &plan.public, client.AttrWrap},
	} {
		if o.has(may.name) {
			*may.half = may.half.With(client.BoolAttr(may.typ, o.flag(may.name, false)))
		}
	}
	for _, date := range []struct {
		name string
		typ  client.AttributeType
	}{{"startDate", object.AttrStartDate}, {"endDate", object.AttrEndDate}} {
		if o.has(date.name) {
			a, err := parseAttribute(date.typ, "-"+date.name, o.text(date.name))
			if err != nil {
				return err
			}
			plan.private = plan.private.With(a)
		}
	}
	return nil
}
