package certstore

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"moongate/internal/gw/config"
	"moongate/internal/gw/vault"
	"moongate/internal/keyfile"
)

// TestImport takes in what OpenSSL wrote, in each form.
func TestImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	chain := w.files("root.pem", "leaf.pem", "middle.pem") // in no order
	w.openssl("pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf.key", "-certfile", "middle.pem", "-out", "modern.p12", "-passout", "pass:secret")
	w.openssl("pkcs12", "-export", "-legacy", "-in", "leaf.pem", "-inkey", "leaf.key", "-certfile", "middle.pem", "-out", "legacy.p12", "-passout", "pass:secret")
	w.openssl("pkcs8", "-topk8", "-in", "leaf.key", "-out", "encrypted.key", "-passout", "pass:secret")
	w.openssl("x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.der")
	der := func(args ...string) []byte { return w.openssl(append([]string{"pkey", "-in", "leaf.key"}, args...)...) }
	secret := []byte("secret")
	for _, test := range []struct {
		name     string
		requests []ImportRequest
		length   int // of the chain
		key      bool
	}{
		{"PEM", []ImportRequest{{Format: keyfile.PEM, Data: chain}}, 3, false},
		{"PEM with key", []ImportRequest{{Format: keyfile.PEM, Part: KeyPair, Data: append(chain, w.read("leaf.key")...)}}, 3, true},
		{"PEM with encrypted key", []ImportRequest{{Part: KeyPair, Data: append(w.read("encrypted.key"), chain...), Passphrase: secret}}, 3, true},
		{"PEM then key", []ImportRequest{{Data: chain}, {Part: PrivateKey, Data: w.read("encrypted.key"), Passphrase: secret}}, 3, true},
		{"PEM then PKCS1", []ImportRequest{{Data: chain}, {Part: PrivateKey, Format: keyfile.DER, Data: der("-traditional", "-outform", "DER")}}, 3, true},
		{"PEM with key then PEM", []ImportRequest{{Data: append(chain, w.read("leaf.key")...)}, {Data: w.read("leaf.pem")}}, 1, true},
		{"DER", []ImportRequest{{Format: keyfile.DER, Data: w.read("leaf.der")}}, 1, false},
		{"DER then PKCS8", []ImportRequest{{Data: w.read("leaf.der")}, {Part: PrivateKey, Data: der("-outform", "DER")}}, 1, true},
		{"PKCS12", []ImportRequest{{Format: keyfile.PKCS12, Data: w.read("modern.p12"), Passphrase: secret}}, 2, true},
		{"PKCS12 legacy", []ImportRequest{{Format: keyfile.PKCS12, Part: KeyPair, Data: w.read("legacy.p12"), Passphrase: secret}}, 2, true},
		{"PKCS12 of a key", []ImportRequest{{Data: chain}, {Part: PrivateKey, Data: w.read("modern.p12"), Passphrase: secret}}, 3, true},
	} {
		for _, r := range test.requests {
			r.Name = test.name
			edits, err := w.Import(t.Context(), w.root, r)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				break
			}
			w.apply(edits, nil)
		}
		if got := w.certificate(test.name); got.Subject.CommonName != "leaf.example" {
			t.Errorf("%s: the certificate is %s", test.name, got.Subject)
		}
		sealed := w.leaf(test.name, "private-key")
		if (sealed != "") != test.key || sealed != "" && !vault.IsSealed(sealed) {
			t.Errorf("%s: private-key is %q", test.name, sealed)
		}
		f, err := findEntry(w.root, test.name)
		if err != nil || len(f.chain) != test.length {
			t.Errorf("%s: a chain of %d, %v, want %d", test.name, len(f.chain), err, test.length)
		}
		want := NoKey
		if test.key {
			want = Software
		}
		if state, err := w.KeyState(t.Context(), w.root, test.name); err != nil || state != want {
			t.Errorf("%s: the key is %s, %v", test.name, state, err)
		}
	}

	// What the entry says again is what OpenSSL says.
	print := func(option string) string {
		out := strings.TrimSpace(string(w.openssl("x509", "-in", "leaf.pem", "-noout", option, "-nameopt", "compat")))
		if _, value, has := strings.Cut(out, "="); has {
			return value
		}
		return out
	}
	for leaf, want := range map[string]string{
		"algorithm": "RSA", "ca": "no", "common-name": "leaf.example", "status": "valid",
		"subject": print("-subject"), "subject-hash": print("-subject_hash"), "issuer": print("-issuer"), "issuer-hash": print("-issuer_hash"),
		"not-valid-before": print("-startdate"), "not-valid-after": print("-enddate"),
	} {
		if got := w.leaf("PEM", leaf); got != want {
			t.Errorf("%s is %q, want %q", leaf, got, want)
		}
	}
	if got, want := w.leaf("PEM", "expiry-epoch"), epoch(w.certificate("PEM").NotAfter); got != want {
		t.Errorf("expiry-epoch is %s, want %s", got, want)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	w.openssl("pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf.key", "-out", "leaf.p12", "-passout", "pass:secret")
	w.openssl("pkcs8", "-topk8", "-in", "leaf.key", "-out", "encrypted.key", "-passout", "pass:secret")
	for _, kind := range []string{"ED25519"} {
		w.openssl("genpkey", "-algorithm", kind, "-out", kind)
		w.openssl("req", "-x509", "-key", kind, "-out", kind+".pem", "-subj", "/CN=x", "-days", "2")
	}
	w.openssl("genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024", "-out", "parameters")
	w.openssl("genpkey", "-paramfile", "parameters", "-out", "DSA")
	w.openssl("req", "-x509", "-key", "DSA", "-out", "DSA.pem", "-subj", "/CN=x", "-days", "2")
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "there", Data: w.read("leaf.pem")}))
	for _, test := range []struct {
		what, word string
		r          ImportRequest
	}{
		{"no passphrase", "give its passphrase", ImportRequest{Name: "a", Data: w.read("leaf.p12")}},
		{"a wrong one", "passphrase is wrong", ImportRequest{Name: "a", Data: w.read("leaf.p12"), Passphrase: []byte("other")}},
		{"damage", "damaged", ImportRequest{Name: "a", Data: w.read("leaf.p12")[:1000], Passphrase: []byte("secret")}},
		{"the key of another", "does not belong", ImportRequest{Name: "a", Data: w.files("leaf.pem", "root.key")}},
		{"the key of another, alone", "does not belong", ImportRequest{Name: "there", Part: PrivateKey, Data: w.read("root.key")}},
		{"a key for nothing", "import the certificate first", ImportRequest{Name: "a", Part: PrivateKey, Data: w.read("leaf.key")}},
		{"no key", "no private key", ImportRequest{Name: "there", Part: PrivateKey, Data: w.read("leaf.pem")}},
		{"no pair", "no private key", ImportRequest{Name: "a", Part: KeyPair, Data: w.read("leaf.pem")}},
		{"no certificate", "no certificate", ImportRequest{Name: "a", Data: w.read("leaf.key")}},
		{"a key on the HSM in the file", "reside on the HSM", ImportRequest{Name: "a", Data: w.files("leaf.pem", "leaf.key"), KeyOnHSM: true}},
		{"a key without an HSM", "no HSM is configured", ImportRequest{Name: "a", Data: w.read("leaf.pem"), KeyOnHSM: true}},
		{"an Ed25519 key", "Ed25519", ImportRequest{Name: "a", Data: w.files("ED25519", "ED25519.pem")}},
		{"an Ed25519 certificate", "Ed25519", ImportRequest{Name: "a", Data: w.read("ED25519.pem")}},
		{"a DSA key", "DSA", ImportRequest{Name: "a", Data: w.files("DSA", "DSA.pem")}},
		{"a DSA certificate", "DSA", ImportRequest{Name: "a", Data: w.read("DSA.pem")}},
		{"a part of no kind", "expected certificate", ImportRequest{Name: "a", Part: "both", Data: w.read("leaf.pem")}},
		{"a bad name", "name", ImportRequest{Name: "a'\"b", Data: w.read("leaf.pem")}},
		{"no name", "name", ImportRequest{Data: w.read("leaf.pem")}},
		{"a name that is too long", "name", ImportRequest{Name: strings.Repeat("a", 64), Data: w.read("leaf.pem")}},
	} {
		edits, err := w.Import(t.Context(), w.root, test.r)
		refused(t, test.what, err, test.word)
		if err == nil || edits != nil {
			t.Errorf("%s: %d edits", test.what, len(edits))
		}
	}
	_, err := w.Import(t.Context(), w.root, ImportRequest{Name: "a", Part: PrivateKey, Data: w.read("leaf.key")})
	if !errors.Is(err, config.ErrNotPresent) {
		t.Errorf("a key for nothing: %v", err)
	}
}

// TestReplace: a certificate in the place of another keeps the key that is its
// own, and no other.
func TestReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "a", Data: w.files("leaf.pem", "leaf.key")}))
	before := w.leaf("a", "private-key")
	w.openssl("x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-out", "again.pem", "-days", "3")
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "a", Data: w.read("again.pem")}))
	if w.leaf("a", "private-key") != before || w.certificate("a").Issuer.CommonName != "root" {
		t.Error("a certificate for the same key lost it")
	}
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "a", Data: w.read("root.pem")}))
	if w.leaf("a", "private-key") != "" {
		t.Error("another certificate took over a key that is not its own")
	}
}

// TestStoreOfSoftwareKeys: the data plane signs and decrypts with a key that is
// sealed in the configuration.
func TestStoreOfSoftwareKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "rsa", Data: w.files("leaf.pem", "leaf.key")}))
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "ec", Data: w.files("root.pem", "root.key")}))
	snapshot := w.compile()
	s, err := New(snapshot.Certificates, NewKeys(w.hsm, w.vault))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckSoftware(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"rsa", "ec"} {
		if state, err := s.State(t.Context(), name); err != nil || state != Software {
			t.Errorf("%s: %s, %v", name, state, err)
		}
		e, err := s.Certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Ready(); err != nil {
			t.Errorf("%s, without an HSM: %v", name, err)
		}
		tlsCertificate, err := e.TLS(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		serves(t, tlsCertificate)
	}

	// A key that is another's, one that does not open, and no vault.
	list := snapshot.Certificates
	list[0].PrivateKey, list[1].PrivateKey = list[1].PrivateKey, list[0].PrivateKey[:len(list[0].PrivateKey)-4]+"AAAA"
	for _, provider := range []*Keys{NewKeys(w.hsm, w.vault), NewKeys(w.hsm, nil)} {
		broken, err := New(list, provider)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if state, err := broken.State(t.Context(), c.Name); err != nil || state != Unreadable {
				t.Errorf("%s: %s, %v", c.Name, state, err)
			}
		}
		if err := broken.CheckSoftware(t.Context()); err == nil || strings.Count(err.Error(), "cannot be used") != 2 {
			t.Errorf("the check says %v", err)
		}
	}
	if broken, err := New(list, w.hsm); err != nil || broken.CheckSoftware(t.Context()) == nil {
		t.Errorf("a provider without a vault opens keys, %v", err)
	}
}

// TestSealEdits: a key that a client gives by path is sealed before it is kept.
func TestSealEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	text := strings.ReplaceAll(string(w.read("leaf.key")), "\n", "\n      ")
	entry := &config.Node{Name: "entry", Entry: "a", Children: []*config.Node{
		{Name: "public-key", Text: string(w.read("leaf.pem"))}, {Name: "private-key", Text: text},
	}}
	edits := []config.Edit{{Op: config.OpSet, Path: ListPath, Elements: []*config.Node{entry}}, {Op: config.OpDelete, Path: "/config/shared"}}
	sealed, err := SealEdits(w.vault, edits)
	if err != nil {
		t.Fatal(err)
	}
	if entry.Children[1].Text != text {
		t.Error("what was given was written to")
	}
	if got := sealed[0].Elements[0].Children[1].Text; !vault.IsSealed(got) || sealed[1].Path != edits[1].Path {
		t.Errorf("private-key became %q", got)
	}
	w.apply(sealed[:1], nil)
	if state, err := w.KeyState(t.Context(), w.root, "a"); err != nil || state != Software {
		t.Errorf("the key is %s, %v", state, err)
	}
	w.openssl("pkcs8", "-topk8", "-in", "leaf.key", "-out", "encrypted.key", "-passout", "pass:secret")
	for word, text := range map[string]string{
		"with its passphrase": string(w.read("encrypted.key")), "nothing else": string(w.read("leaf.pem")), "damaged": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
	} {
		_, err := SealEdits(w.vault, []config.Edit{{Elements: []*config.Node{{Name: "private-key", Text: text}}}})
		refused(t, "sealing", err, word)
	}
	if bytes.Contains(config.Encode(w.root), []byte("BEGIN PRIVATE")) {
		t.Error("a private key is in the configuration")
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	for _, name := range []string{"root", "leaf"} {
		w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: name, Data: w.read(name + ".pem")}))
	}
	w.apply(Trust(w.root, "root", w.clock))
	snapshot := w.compile()
	pool := x509.NewCertPool()
	for _, c := range snapshot.TrustedRoots {
		pool.AddCert(c)
	}
	names, err := TrustedRoots(w.root)
	if err != nil || len(names) != 1 || names[0] != "root" || len(snapshot.TrustedRoots) != 1 {
		t.Errorf("trusted roots are %q, %v", names, err)
	}
	_, err = w.Revoke(w.root, "root")
	refused(t, "revoking a root in use", err, "in use by")
	_, err = Trust(w.root, "leaf", w.clock)
	refused(t, "trusting a server's certificate", err, "no CA")
	_, err = Trust(w.root, "root", w.clock.AddDate(2, 0, 0))
	refused(t, "trusting an expired one", err, "expired")
	_, err = Trust(w.root, "nobody", w.clock)
	refused(t, "trusting nobody", err, "no certificate has the name")
	w.apply(Distrust(w.root, "root"))
	if names, err := TrustedRoots(w.root); err != nil || len(names) != 0 {
		t.Errorf("trusted roots are %q, %v", names, err)
	}
	_, err = Distrust(w.root, "root")
	refused(t, "distrusting again", err, "no trusted root")
}
