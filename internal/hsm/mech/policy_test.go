package mech_test

import (
	"crypto/fips140"
	"fmt"
	"slices"
	"strings"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

func TestFIPSRefusesWhatIsNotApproved(t *testing.T) {
	t.Parallel()
	fips := mech.Policy{FIPS: true}
	decrypt := object.Mechanism{Type: object.MechRSAPKCS, SessionKeyLen: 48}
	wantCode(t, "Check", fips.Check(mech.Decrypt, decrypt), object.ErrMechanism)
	wantCode(t, "Check without FIPS", mech.Policy{}.Check(mech.Decrypt, decrypt), object.OK)
	wantCode(t, "signing", fips.Check(mech.Sign, object.Mechanism{Type: object.MechRSAPKCS, Hash: object.HashSHA256}), object.OK)

	p := sharedRSA(t)
	key, err := fips.ParseKey(p.private.Attributes, p.private.Secret)
	if err != nil {
		t.Fatal(err)
	}
	_, err = key.Decrypt(decrypt, make([]byte, 256))
	wantCode(t, "Decrypt", err, object.ErrMechanism)

	refused := map[string]bool{}
	for _, row := range (mech.Policy{}).Mechanisms() {
		if !row.Approved {
			refused[fmt.Sprint(row.Mechanism, " ", row.Function, " ", row.KeyType)] = true
		}
	}
	want := map[string]bool{
		"CKM_RSA_PKCS decrypt RSA": true, "CKM_ECDH1_DERIVE derive X25519": true,
		"CKM_EC_MONTGOMERY_KEY_PAIR_GEN generate key pair X25519": true,
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("not approved (-want +got):\n%s", diff)
	}
	if slices.ContainsFunc(fips.Mechanisms(), func(row mech.Info) bool { return !row.Approved }) {
		t.Error("a row that is not approved is listed")
	}
}

func TestStatusClaimsNoValidation(t *testing.T) {
	t.Parallel()
	for _, policy := range []mech.Policy{{FIPS: true}, {}} {
		text := policy.String()
		if !strings.Contains(text, "software, not validated hardware") || !strings.Contains(text, fips140.Version()) {
			t.Errorf("status: %s", text)
		}
	}
	for version, want := range map[string]string{
		"latest": "no frozen one", "v1.0.0": "certified", "v1.0.0-c2097c7c": "certified", "v1.26.0": "in process", "v9.0.0": "frozen",
	} {
		if got := (mech.Status{ModuleVersion: version}).Module(); !strings.Contains(got, want) {
			t.Errorf("module %s: %q does not say %q", version, got, want)
		}
	}
	if err := (mech.Policy{}).Ready(); err != nil {
		t.Errorf("Ready without FIPS: %v", err)
	}
	if err := (mech.Policy{FIPS: true}).Ready(); (err == nil) != fips140.Enabled() {
		t.Errorf("Ready with FIPS: %v, and Go's module is enabled: %v", err, fips140.Enabled())
	}
}

func TestMechanismsAreACopy(t *testing.T) {
	t.Parallel()
	rows := mech.Policy{}.Mechanisms()
	rows[0].Sizes[0] = 1
	if (mech.Policy{}).Mechanisms()[0].Sizes[0] == 1 {
		t.Error("a caller can change the table")
	}
}

func TestEachUseHasItsPermission(t *testing.T) {
	t.Parallel()
	for _, row := range (mech.Policy{}).Mechanisms() {
		typ, needed := row.Function.Required()
		generates := row.Function == mech.GenerateKey || row.Function == mech.GenerateKeyPair
		if needed == generates {
			t.Errorf("%v needs %v: %v", row.Function, typ, needed)
		}
		if needed && !object.Defaults(row.Class).Has(typ) {
			t.Errorf("%v needs %v, which a %v key does not have", row.Function, typ, row.Class)
		}
	}
}
