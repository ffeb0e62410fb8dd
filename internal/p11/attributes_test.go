package p11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"moongate/internal/hsm/object"
)

func TestFromModule(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		typ   object.AttributeType
		value []byte
		want  []byte // nil: left out
	}{
		"true":              {object.AttrSign, []byte{1}, []byte{1}},
		"true, in C":        {object.AttrSign, []byte{0xff}, []byte{1}},
		"false":             {object.AttrSign, []byte{0}, []byte{0}},
		"no bool":           {object.AttrSign, []byte{}, nil},
		"a long bool":       {object.AttrSign, []byte{1, 0, 0, 0}, nil},
		"a number":          {object.AttrKeyType, []byte{3, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 0, 0, 0, 0, 0, 3}},
		"a small number":    {object.AttrKeyType, []byte{3, 0, 0, 0}, []byte{0, 0, 0, 0, 0, 0, 0, 3}},
		"no number":         {object.AttrKeyType, []byte{3}, nil},
		"absent":            {object.AttrLabel, nil, nil},
		"a label":           {object.AttrLabel, []byte("key"), []byte("key")},
		"no label":          {object.AttrLabel, []byte{}, []byte{}},
		"a label in Latin1": {object.AttrLabel, []byte("schl\xfcssel"), []byte("schl\ufffdssel")},
		"a day":             {object.AttrEndDate, []byte("20270101"), []byte("20270101")},
		"no day":            {object.AttrEndDate, []byte{}, []byte{}},
		"zeros for a day":   {object.AttrEndDate, make([]byte, 8), nil},
		"too long":          {object.AttrID, make([]byte, object.MaxAttributeValue+1), nil},
	} {
		got, ok := fromModule(test.typ, test.value)
		if ok != (test.want != nil) || ok && !bytes.Equal(got.Value, test.want) {
			t.Errorf("%s: %x, %v; expected %x", name, got.Value, ok, test.want)
		}
	}
	long, _ := fromModule(object.AttrLabel, []byte(strings.Repeat("ü", object.MaxLabel)))
	if err := object.New(long).Check(); err != nil || len(long.Value) != object.MaxLabel {
		t.Errorf("a long label has %d bytes, %v", len(long.Value), err)
	}
	odd, _ := fromModule(object.AttrLabel, []byte("x"+strings.Repeat("ü", object.MaxLabel)))
	if err := object.New(odd).Check(); err != nil || len(odd.Value) != object.MaxLabel-1 {
		t.Errorf("a long label has %d bytes, %v", len(odd.Value), err)
	}
}

// FuzzObject: whatever a module says of an object, the protocol can carry what
// is made of it.
func FuzzObject(f *testing.F) {
	point := []byte{4, 65, 4}
	f.Add(uint64(object.ClassPublicKey), uint64(object.KeyEC), []byte("label"), []byte{1}, []byte("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), append(point, make([]byte, 64)...))
	f.Add(uint64(object.ClassPrivateKey), uint64(object.KeyRSA), []byte("\xff"), []byte{}, []byte{1, 0, 1}, []byte{0, 0xc1})
	f.Fuzz(func(t *testing.T, class, keyType uint64, label, id, a, b []byte) {
		made := object.New(object.Number(object.AttrClass, class), object.Number(object.AttrKeyType, keyType))
		for typ, value := range map[object.AttributeType][]byte{
			object.AttrLabel: label, object.AttrID: id, object.AttrECParams: a, object.AttrPublicExponent: a,
			object.AttrECPoint: b, object.AttrModulus: b, object.AttrPublicKeyInfo: b, object.AttrSign: id, object.AttrStartDate: id,
		} {
			if attribute, ok := fromModule(typ, value); ok {
				made = made.With(attribute)
			}
		}
		public, err := publicOf(made)
		if err == nil && public != nil {
			if made, err = describe(made, made.Class(), public); err != nil {
				t.Fatalf("describing %v: %v", public, err)
			}
		}
		if err := made.Check(); err != nil {
			t.Fatal(err)
		}
		if id := identity(made); id.Version() != 8 {
			t.Fatalf("the ID %v is of version %d", id, id.Version())
		}
	})
}

// TestPoints: modules give an EC point as DER, as it should be, or bare.
func TestPoints(t *testing.T) {
	t.Parallel()
	for der, curve := range curves {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		bare, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := asn1.Marshal(bare)
		if err != nil {
			t.Fatal(err)
		}
		base := object.New(object.Number(object.AttrKeyType, uint64(object.KeyEC)), object.Bytes(object.AttrECParams, []byte(der)))
		for name, point := range map[string][]byte{"DER": wrapped, "bare": bare} {
			got, err := publicOf(base.With(object.Bytes(object.AttrECPoint, point)))
			if err != nil || !key.PublicKey.Equal(got) {
				t.Errorf("%s, %s: %v, %v", curve.Params().Name, name, got, err)
			}
		}
		bare[len(bare)-1] ^= 1
		if _, err := publicOf(base.With(object.Bytes(object.AttrECPoint, bare))); err == nil {
			t.Errorf("%s: a point beside the curve is taken", curve.Params().Name)
		}
		if got, err := publicOf(base); got != nil || err != nil {
			t.Errorf("%s: of no point %v is made, %v", curve.Params().Name, got, err)
		}
	}
	if curveOf(&ecdsa.PublicKey{Curve: elliptic.P224()}) != nil {
		t.Error("P-224 has a name here")
	}
}

// TestIdentityIsStable holds an ID fast: other programs keep it.
func TestIdentityIsStable(t *testing.T) {
	t.Parallel()
	secret := object.New(object.Number(object.AttrClass, uint64(object.ClassSecretKey)), object.Number(object.AttrKeyType, uint64(object.KeyAES)),
		object.Bytes(object.AttrID, bytes.Repeat([]byte{7}, 16)), object.Text(object.AttrLabel, "a"), object.Number(object.AttrValueLen, 32))
	const want = "58cf1dd5-6b3d-88bd-9228-d36b7e7fb528"
	if got := identity(secret).String(); got != want {
		t.Errorf("the ID is %s, and was %s", got, want)
	}
	if identity(secret.With(object.Text(object.AttrLabel, "b"))) != identity(secret) {
		t.Error("a label changes the ID of a secret key with an identifier of its own")
	}
	short := secret.With(object.Bytes(object.AttrID, []byte{7}))
	if identity(short.With(object.Text(object.AttrLabel, "b"))) == identity(short) {
		t.Error("secret keys with the same short CKA_ID and other labels are one")
	}
	// What the listing adds is no part of it.
	if identity(secret.With(object.Number(object.AttrHandle, 3)).With(object.Bool(object.AttrSign, true))) != identity(secret) {
		t.Error("handle and uses change the ID")
	}
}

func TestUnpad(t *testing.T) {
	t.Parallel()
	const k, size = 256, 48
	block := bytes.Repeat([]byte{9}, k)
	block[0], block[1], block[k-size-1] = 0, 2, 0
	key := block[k-size:]
	// Modules may drop the zero in front.
	for _, b := range [][]byte{block, block[1:]} {
		if got := unpad(make([]byte, size), b, k); !bytes.Equal(got, key) {
			t.Errorf("of a block of %d bytes %x is made", len(b), got)
		}
	}
	none := bytes.Repeat([]byte{1}, size)
	for at := range k - size {
		wrong := bytes.Clone(block)
		wrong[at] ^= 9 // 0, 2 and the zero change, and all else becomes 0
		if got := unpad(bytes.Clone(none), wrong, k); !bytes.Equal(got, none) {
			t.Fatalf("with a wrong byte %d the key is told", at)
		}
	}
	if got := unpad(bytes.Clone(none), nil, k); !bytes.Equal(got, none) {
		t.Error("of nothing a key is made")
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWatch()
	now := time.Now()
	if w.hung(now) != nil || w.oldest(now) != 0 {
		t.Error("no call, and one hangs")
	}
	endA := w.begin("a", time.Second)
	endB := w.begin("b", time.Hour)
	if hung := w.hung(now.Add(2 * time.Second)); hung == nil || hung.Call != "a" {
		t.Errorf("%v hangs, expected a", hung)
	}
	endA()
	if hung := w.hung(now.Add(2 * time.Second)); hung != nil {
		t.Errorf("%v hangs, and has ended", hung)
	}
	if age := w.oldest(now.Add(2 * time.Second)); age < time.Second {
		t.Errorf("the oldest call is %v old", age)
	}
	endB()
}
