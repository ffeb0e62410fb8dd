package mech_test

import (
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"moongate/internal/hsm/mech"
	"moongate/internal/hsm/object"

	"github.com/google/go-cmp/cmp"
)

var salt = []byte("0123456789abcdef")

func TestNewKDFSurvivesJSON(t *testing.T) {
	t.Parallel()
	for _, policy := range []mech.Policy{{}, {FIPS: true}} {
		kdf := mech.NewKDF(policy)
		if err := policy.CheckKDF(kdf); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(kdf)
		if err != nil {
			t.Fatal(err)
		}
		var back mech.KDF
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(kdf, back); diff != "" {
			t.Errorf("through JSON (-want +got):\n%s", diff)
		}
	}
	wantCode(t, "Argon2id in FIPS mode", mech.Policy{FIPS: true}.CheckKDF(mech.NewKDF(mech.Policy{})), object.ErrMechanism)
}

func TestDeriveDependsOnEverything(t *testing.T) {
	t.Parallel()
	light := mech.KDF{Name: mech.KDFArgon2id, Salt: salt, Time: 1, Memory: 8 << 10, Threads: 1}
	resalted, slower := light, light
	resalted.Salt = []byte("fedcba9876543210")
	slower.Time = 2
	seen := map[[32]byte]string{}
	for name, test := range map[string]struct {
		kdf      mech.KDF
		password string
	}{
		"plain": {light, "password"}, "other password": {light, "Password"},
		"other salt": {resalted, "password"}, "other cost": {slower, "password"}, "no password": {light, ""},
	} {
		key, err := test.kdf.Derive([]byte(test.password))
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := seen[key]; twice {
			t.Errorf("%s derives the same as %s", name, other)
		}
		seen[key] = name
	}
}

func TestPBKDF2MatchesOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	out, err := exec.Command(openssl, "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256", "-kdfopt", "pass:correct horse",
		"-kdfopt", "hexsalt:"+hex.EncodeToString(salt), "-kdfopt", "iter:100000", "PBKDF2").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(string(out)), ":", ""))
	got, err := mech.KDF{Name: mech.KDFPBKDF2, Salt: salt, Iterations: 100_000}.Derive([]byte("correct horse"))
	if err != nil || hex.EncodeToString(got[:]) != want {
		t.Errorf("PBKDF2: %x, %v, want %s", got, err, want)
	}
}

// The value is what this package derived when its records were first written:
// stored passwords must go on working. It is from golang.org/x/crypto v0.58.0.
func TestArgon2idStaysTheSame(t *testing.T) {
	t.Parallel()
	got, err := mech.KDF{Name: mech.KDFArgon2id, Salt: salt, Time: 1, Memory: 8 << 10, Threads: 2}.Derive([]byte("correct horse"))
	const want = "47ed52c11ebe033ac0933d74af5082dbf363f76736b80e815668fc6b371491f9"
	if err != nil || hex.EncodeToString(got[:]) != want {
		t.Errorf("Argon2id: %x, %v, want %s", got, err, want)
	}
}

// A stored record must not make us spend what it likes.
func TestKDFBounds(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{
		"a terabyte":          `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","time":1,"memory":1073741824,"threads":1}`,
		"many passes":         `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","time":4000000000,"memory":65536,"threads":1}`,
		"no passes":           `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","memory":65536,"threads":1}`,
		"no lanes":            `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","time":1,"memory":65536}`,
		"no memory":           `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","time":1,"memory":1,"threads":1}`,
		"argon2id iterations": `{"name":"argon2id","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","time":1,"memory":65536,"threads":1,"iterations":5}`,
		"short salt":          `{"name":"argon2id","salt":"MDEy","time":1,"memory":65536,"threads":1}`,
		"one iteration":       `{"name":"pbkdf2-sha256","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","iterations":1}`,
		"many iterations":     `{"name":"pbkdf2-sha256","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","iterations":4000000000}`,
		"pbkdf2 with memory":  `{"name":"pbkdf2-sha256","salt":"MDEyMzQ1Njc4OWFiY2RlZg==","iterations":600000,"memory":5}`,
		"unknown":             `{"name":"md5","salt":"MDEyMzQ1Njc4OWFiY2RlZg=="}`,
		"nothing":             `{}`,
	} {
		var kdf mech.KDF
		if err := json.Unmarshal([]byte(raw), &kdf); err != nil {
			t.Fatal(err)
		}
		_, err := kdf.Derive([]byte("x"))
		wantCode(t, name, err, object.ErrDataInvalid)
	}
}

func BenchmarkKDF(b *testing.B) {
	for name, policy := range map[string]mech.Policy{"argon2id": {}, "pbkdf2": {FIPS: true}} {
		kdf := mech.NewKDF(policy)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := kdf.Derive([]byte("password")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
