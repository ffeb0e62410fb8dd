package mech_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"
)

// inFIPS marks the process that TestFIPSModule starts.
const inFIPS = "MOONGATE_TEST_IN_FIPS"

// Go's module in FIPS 140-3 mode does all that our policy calls approved: the
// mode is set at a process's start, so that this test is done in one of its
// own.
func TestFIPSModule(t *testing.T) {
	t.Parallel()
	if os.Getenv(inFIPS) != "" {
		checkFIPS(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFIPSModule$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on", inFIPS+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPSModule") {
		t.Errorf("in FIPS 140-3 mode: %v\n%s", err, out)
	}
}

func checkFIPS(t *testing.T) {
	if !fips140.Enabled() {
		t.Fatal("Go's module is not in FIPS 140-3 mode")
	}
	p := mech.Policy{FIPS: true}
	if err := p.Ready(); err != nil {
		t.Error(err)
	}
	checkTable(t, p)
	_, _, err := p.GenerateKeyPair(xPairGen, nil, nil)
	wantCode(t, "an X25519 key", err, object.ErrMechanism)
	_, err = importWith(t, p, object.KeyMontgomery, readFile(t, "x25519.der"))
	wantCode(t, "importing an X25519 key", err, object.ErrKeyType)
	for _, test := range opensslKeys {
		if test.keyType == object.KeyMontgomery {
			continue
		}
		material, err := importWith(t, p, test.keyType, readFile(t, test.file))
		if err != nil {
			t.Errorf("importing %s: %v", test.file, err)
			continue
		}
		if _, err := p.ParseKey(material.Attributes, material.Secret); err != nil {
			t.Errorf("parsing %s: %v", test.file, err)
		}
	}
	// What was made before the policy was FIPS is parsed, so that it can be
	// listed and destroyed, and does nothing.
	material, err := importWith(t, mech.Policy{}, object.KeyMontgomery, readFile(t, "x25519.der"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := p.ParseKey(material.Attributes, material.Secret)
	if err != nil {
		t.Fatal(err)
	}
	_, err = key.Derive(object.Mechanism{Type: object.MechECDH1Derive, Peer: make([]byte, 32)}, generic)
	wantCode(t, "agreeing with X25519", err, object.ErrMechanism)
}
