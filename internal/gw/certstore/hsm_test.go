package certstore

import (
	"crypto"
	"errors"
	"testing"
	"time"

	"moongate/client"
	"moongate/internal/gw/keys"
	"moongate/internal/keyfile"
)

// TestKeysOnHSM makes, finds and uses keys on a real HSM, and has it go away.
func TestKeysOnHSM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	c, stop := w.realHSM()

	w.generate(GenerateRequest{Name: "ca", Subject: Subject{CommonName: "HSM CA"}, CA: true, Algorithm: "ECDSA", Bits: 384, OnHSM: true, Days: 400})
	w.generate(GenerateRequest{Name: "server", Subject: Subject{CommonName: "s.example"}, OnHSM: true, SignedBy: "ca"})
	w.generate(GenerateRequest{Name: "asked", Subject: Subject{CommonName: "a.example"}, Algorithm: "ECDSA", OnHSM: true, SignedBy: External})
	for _, name := range []string{"ca", "server", "asked"} {
		if w.leaf(name, "private-key-on-hsm") != "yes" || w.leaf(name, "private-key") != "" {
			t.Errorf("%s does not say that its key is on the HSM", name)
		}
		if state, err := w.KeyState(t.Context(), w.root, name); err != nil || state != Locked {
			t.Errorf("%s: the key is %s, %v", name, state, err)
		}
		if _, err := c.FindKeyByLabel(t.Context(), name); err != nil {
			t.Errorf("%s on the HSM: %v", name, err)
		}
		csr, err := w.CSR(t.Context(), w.root, name)
		if err != nil {
			t.Fatal(err)
		}
		w.write("csr", csr)
		w.openssl("req", "-in", "csr", "-noout", "-verify")
		_, _, err = w.Export(w.root, ExportRequest{Name: name, IncludeKey: true, KeyOnly: true, Passphrase: []byte("long enough")})
		refused(t, "exporting a key of the HSM", err, "never leaves")
	}
	w.apply(w.Renew(t.Context(), w.root, "server", 300))
	w.write("ca.pem", keyfile.EncodePEM(w.certificate("ca")))
	w.write("server.pem", keyfile.EncodePEM(w.certificate("server")))
	w.openssl("verify", "-x509_strict", "-verify_hostname", "s.example", "-CAfile", "ca.pem", "server.pem")

	// A certificate whose key is on the HSM already, and one whose key is not.
	leaf, err := keyfile.Read(w.read("leaf.key"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	importing := ImportRequest{Name: "leaf", Data: w.files("leaf.pem", "middle.pem"), KeyOnHSM: true}
	_, err = w.Import(t.Context(), w.root, importing)
	refused(t, "a key that the HSM does not have", err, "cmu importkey")
	if !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("a key that the HSM does not have: %v", err)
	}
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "leaf", Data: w.files("leaf.pem", "middle.pem")}))
	if _, err := w.ResideOnHSM(t.Context(), w.root, "leaf"); !errors.Is(err, keys.ErrNotFound) {
		t.Errorf("saying that it resides there: %v", err)
	}
	if _, err := c.ImportKey(t.Context(), leaf.Key, client.NewTemplate(client.TextAttr(client.AttrLabel, "leaf"), client.BoolAttr(client.AttrSign, true), client.BoolAttr(client.AttrDecrypt, true))); err != nil {
		t.Fatal(err)
	}
	w.apply(w.ResideOnHSM(t.Context(), w.root, "leaf"))
	importing.Name = "again"
	w.apply(w.Import(t.Context(), w.root, importing))
	snapshot := w.compile()
	s, err := New(snapshot.Certificates, NewKeys(w.hsm, w.vault))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"server", "leaf", "again"} {
		e, err := s.Certificate(name)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := e.TLS(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		serves(t, certificate)
	}
	if problems, err := w.CheckOnHSM(t.Context(), w.root); err != nil || len(problems) > 0 {
		t.Errorf("the keys on the HSM: %v, %v", problems, err)
	}
	// One that was destroyed is named.
	key, err := c.FindKeyByLabel(t.Context(), "asked")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Destroy(t.Context(), key.ID()); err != nil {
		t.Fatal(err)
	}
	problems, err := w.CheckOnHSM(t.Context(), w.root)
	if err != nil || len(problems) != 1 || problems[0].Certificate != "asked" || !errors.Is(problems[0], keys.ErrNotFound) {
		t.Errorf("a destroyed key: %v, %v", problems, err)
	}
	if state, err := w.KeyState(t.Context(), w.root, "asked"); err != nil || state != Missing {
		t.Errorf("a destroyed key is %s, %v", state, err)
	}

	// The HSM goes away: an administrator is told at once.
	stop()
	for w.hsm.Status().Ready {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	importing.Name = "away"
	_, imported := w.Import(t.Context(), w.root, importing)
	_, generated := w.Generate(t.Context(), w.root, GenerateRequest{Name: "away", Subject: Subject{CommonName: "a.example"}, OnHSM: true})
	_, signed := w.Generate(t.Context(), w.root, GenerateRequest{Name: "away", Subject: Subject{CommonName: "a.example"}, SignedBy: "ca"})
	_, renewed := w.Renew(t.Context(), w.root, "server", 0)
	for what, err := range map[string]error{"importing": imported, "generating": generated, "signing": signed, "renewing": renewed} {
		refused(t, what+" with the HSM away", err, "try again when the HSM is back")
		if !errors.Is(err, keys.ErrUnavailable) {
			t.Errorf("%s with the HSM away: %v", what, err)
		}
	}
	if state, err := w.KeyState(t.Context(), w.root, "ca"); err != nil || state != Unavailable {
		t.Errorf("with the HSM away the key is %s, %v", state, err)
	}
	if problems, err := w.CheckOnHSM(t.Context(), w.root); err != nil || len(problems) < 2 {
		t.Errorf("with the HSM away: %v, %v", problems, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("an administrator waited %s", took)
	}
	// The certificate comes in without its key all the same.
	importing.KeyOnHSM = false
	edits, err := w.Import(t.Context(), w.root, importing)
	w.apply(edits, err)
}

// TestProve: a key that signs as another is found out.
func TestProve(t *testing.T) {
	t.Parallel()
	a, b := issue(t, nil, "a"), issue(t, nil, "b")
	if err := Prove(t.Context(), softwareKey{a.key}); err != nil {
		t.Error(err)
	}
	refused(t, "another key", Prove(t.Context(), otherKey{softwareKey{a.key}, b.key.Public()}), "does not verify")
}

// otherKey says that it is another.
type otherKey struct {
	softwareKey
	public crypto.PublicKey
}

func (k otherKey) Public() crypto.PublicKey { return k.public }
