package certstore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

func (w *world) generate(r GenerateRequest) {
	w.t.Helper()
	w.apply(w.Generate(w.t.Context(), w.root, r))
}

// TestGenerate makes a CA of our own, a CA below it and servers, and has
// OpenSSL verify them.
func TestGenerate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generate(GenerateRequest{Name: "root", Subject: Subject{
		CommonName: "Our Root", Country: "DE", State: "Bayern", Locality: "München", Organization: "Müller", Units: []string{"one", "two"},
	}, CA: true, Days: 1000, Algorithm: "ECDSA", Bits: 384})
	w.generate(GenerateRequest{Name: "sub", Subject: Subject{CommonName: "Our Sub"}, CA: true, Days: 900, SignedBy: "root", Digest: "sha512"})
	w.generate(GenerateRequest{Name: "server", Subject: Subject{CommonName: "A server"}, SignedBy: "sub", Algorithm: "ecdsa",
		Hosts: []string{"WWW.example", "*.sub.example", "192.0.2.1", "2001:db8::1"}, Emails: []string{"me@example"}, Digest: "sha384"})
	w.generate(GenerateRequest{Name: "own", Subject: Subject{CommonName: "own.example"}, Bits: 3072})

	w.write("root.pem", keyfile.EncodePEM(w.certificate("root")))
	w.write("sub.pem", keyfile.EncodePEM(w.certificate("sub")))
	w.write("server.pem", keyfile.EncodePEM(w.certificate("server")))
	w.write("own.pem", keyfile.EncodePEM(w.certificate("own")))
	for _, host := range []string{"-verify_hostname=www.example", "-verify_hostname=other.sub.example", "-verify_ip=192.0.2.1", "-verify_ip=2001:db8::1"} {
		option, value, _ := strings.Cut(host, "=")
		w.openssl("verify", "-x509_strict", "-purpose", "sslserver", option, value, "-CAfile", "root.pem", "-untrusted", "sub.pem", "server.pem")
	}
	w.openssl("verify", "-verify_hostname", "own.example", "-CAfile", "own.pem", "own.pem")

	f, err := findEntry(w.root, "server")
	if err != nil || len(f.chain) != 3 {
		t.Errorf("the server's chain is of %d, %v", len(f.chain), err)
	}
	if k, is := w.certificate("root").PublicKey.(*ecdsa.PublicKey); !is || k.Curve != elliptic.P384() {
		t.Error("the root's key is not on P-384")
	}
	if k, is := w.certificate("own").PublicKey.(*rsa.PublicKey); !is || k.N.BitLen() != 3072 {
		t.Error("the own key has no 3072 bits")
	}
	if a, b := w.certificate("server").SignatureAlgorithm, w.certificate("sub").SignatureAlgorithm; a != x509.SHA384WithRSA || b != x509.ECDSAWithSHA512 {
		t.Errorf("signed with %s and %s", a, b)
	}
	for _, name := range []string{"root", "sub", "server", "own"} {
		if state, err := w.KeyState(t.Context(), w.root, name); err != nil || state != Software {
			t.Errorf("%s: the key is %s, %v", name, state, err)
		}
	}
	if got := w.certificate("own").NotAfter.Sub(w.clock).Round(time.Hour); got != 365*24*time.Hour {
		t.Errorf("without days it ends in %s", got)
	}
}

func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ca := GenerateRequest{Name: "ca", Subject: Subject{CommonName: "ca"}, CA: true, Algorithm: "ECDSA", Days: 30}
	w.generate(ca)
	w.generate(GenerateRequest{Name: "leaf", Subject: Subject{CommonName: "leaf.example"}, Algorithm: "ECDSA"})
	w.generate(GenerateRequest{Name: "revoked", Subject: Subject{CommonName: "ca"}, CA: true, Algorithm: "ECDSA"})
	w.apply(w.Revoke(w.root, "revoked"))
	w.generate(GenerateRequest{Name: "asked", Subject: Subject{CommonName: "ca"}, CA: true, Algorithm: "ECDSA", SignedBy: External})
	for _, test := range []struct {
		what, word string
		change     func(*GenerateRequest)
	}{
		{"a name that is there", "there is one of the name", func(r *GenerateRequest) { r.Name = "ca" }},
		{"a bad name", "name", func(r *GenerateRequest) { r.Name = "-" }},
		{"no common name", "no common name", func(r *GenerateRequest) { r.CommonName = "" }},
		{"a control character", "printable", func(r *GenerateRequest) { r.Organization = "a\x1bb" }},
		{"a long name", "65 characters", func(r *GenerateRequest) { r.CommonName = strings.Repeat("ü", 65) }},
		{"a country", "capital letters", func(r *GenerateRequest) { r.Country = "de" }},
		{"no host", "without a host name", func(r *GenerateRequest) { r.CommonName = "My Server" }},
		{"a bad host", "neither a host name", func(r *GenerateRequest) { r.Hosts = []string{"a..b"} }},
		{"a bad address", "neither a host name", func(r *GenerateRequest) { r.Hosts = []string{"192.0.2.300"} }},
		{"a star alone", "neither a host name", func(r *GenerateRequest) { r.Hosts = []string{"*.com"} }},
		{"many hosts", "at most 200", func(r *GenerateRequest) { r.Hosts = make([]string, 201) }},
		{"an e-mail address", "e-mail", func(r *GenerateRequest) { r.Emails = []string{"me"} }},
		{"hosts of a CA", "hosts of a CA", func(r *GenerateRequest) { r.CA, r.Hosts = true, []string{"a.example"} }},
		{"a long life", "expected 1 to 7300", func(r *GenerateRequest) { r.Days = 7301 }},
		{"no life", "expected 1 to 7300", func(r *GenerateRequest) { r.Days = -1 }},
		{"bits", "expected 2048, 3072 or 4096", func(r *GenerateRequest) { r.Algorithm, r.Bits = "", 1024 }},
		{"a curve", "expected 256 or 384", func(r *GenerateRequest) { r.Bits = 521 }},
		{"an algorithm", "expected RSA or ECDSA", func(r *GenerateRequest) { r.Algorithm = "DSA" }},
		{"a digest", "expected sha256", func(r *GenerateRequest) { r.Digest = "sha1" }},
		{"nobody signs", "no certificate has the name", func(r *GenerateRequest) { r.SignedBy = "nobody" }},
		{"a leaf signs", "no CA's", func(r *GenerateRequest) { r.SignedBy = "leaf" }},
		{"a revoked CA signs", "revoked", func(r *GenerateRequest) { r.SignedBy = "revoked" }},
		{"a request signs", "not a certificate yet", func(r *GenerateRequest) { r.SignedBy = "asked" }},
		{"longer than its CA", "after its CA does", func(r *GenerateRequest) { r.SignedBy, r.Days = "ca", 31 }},
		{"without an HSM", "no HSM is configured", func(r *GenerateRequest) { r.OnHSM = true }},
	} {
		r := GenerateRequest{Name: "new", Subject: Subject{CommonName: "new.example"}, Algorithm: "ECDSA"}
		test.change(&r)
		_, err := w.Generate(t.Context(), w.root, r)
		refused(t, test.what, err, test.word)
	}
	_, err := w.Generate(t.Context(), w.root, ca)
	if !errors.Is(err, config.ErrNotUnique) {
		t.Errorf("a name that is there: %v", err)
	}
	w.clock = w.clock.AddDate(0, 2, 0)
	_, err = w.Generate(t.Context(), w.root, GenerateRequest{Name: "new", Subject: Subject{CommonName: "new.example"}, SignedBy: "ca"})
	refused(t, "an expired CA signs", err, "expired on")
}

// TestRequests: another CA, OpenSSL's, answers a request, and later one for the
// certificate that is there.
func TestRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pki()
	w.generate(GenerateRequest{Name: "a", Subject: Subject{CommonName: "A server", Organization: "Müller"}, SignedBy: External, Hosts: []string{"a.example", "192.0.2.1"}})
	if w.leaf("a", "public-key") != "" || w.leaf("a", "csr") == "" || w.leaf("a", "private-key") == "" {
		t.Error("the entry of a request is not one")
	}
	if _, err := w.Renew(t.Context(), w.root, "a", 0); err == nil {
		t.Error("a request was renewed")
	}
	_, _, err := w.Export(w.root, ExportRequest{Name: "a"})
	refused(t, "exporting a request", err, "request")
	answer := func() {
		csr, err := w.CSR(t.Context(), w.root, "a")
		if err != nil {
			t.Fatal(err)
		}
		w.write("a.csr", csr)
		text := string(w.openssl("req", "-in", "a.csr", "-noout", "-text", "-verify", "-nameopt", "utf8"))
		for _, part := range []string{"A server", "Müller", "DNS:a.example", "IP Address:192.0.2.1", "TLS Web Server Authentication"} {
			if !strings.Contains(text, part) {
				t.Errorf("the request has no %q:\n%s", part, text)
			}
		}
		w.openssl("x509", "-req", "-in", "a.csr", "-CA", "middle.pem", "-CAkey", "middle.key", "-out", "a.pem", "-days", "40", "-copy_extensions", "copy")
		w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "a", Data: w.files("middle.pem", "a.pem", "root.pem")}))
		if w.leaf("a", "csr") != "" {
			t.Error("the request is still there")
		}
		if state, err := w.KeyState(t.Context(), w.root, "a"); err != nil || state != Software {
			t.Errorf("the key is %s, %v", state, err)
		}
	}
	answer()
	first := w.certificate("a")
	_, err = w.Renew(t.Context(), w.root, "a", 0)
	refused(t, "renewing what another CA signed", err, "which is not here")
	answer()
	second := w.certificate("a")
	if first.Equal(second) || !bytes.Equal(first.RawSubjectPublicKeyInfo, second.RawSubjectPublicKeyInfo) {
		t.Error("the second answer is the first, or has another key")
	}
	_, err = w.CSR(t.Context(), w.root, "nobody")
	if !errors.Is(err, config.ErrNotPresent) {
		t.Errorf("the request of nobody: %v", err)
	}
}

func TestRenewAndRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generate(GenerateRequest{Name: "ca", Subject: Subject{CommonName: "ca"}, CA: true, Days: 100, Algorithm: "ECDSA"})
	w.generate(GenerateRequest{Name: "leaf", Subject: Subject{CommonName: "leaf.example"}, SignedBy: "ca", Days: 10, Algorithm: "ECDSA"})
	ca, leaf := w.certificate("ca"), w.certificate("leaf")
	key := w.leaf("leaf", "private-key")

	w.clock = w.clock.AddDate(0, 0, 20) // it has expired since
	w.apply(w.Renew(t.Context(), w.root, "leaf", 30))
	again := w.certificate("leaf")
	if again.SerialNumber.Cmp(leaf.SerialNumber) == 0 || !again.NotAfter.After(w.clock) || !bytes.Equal(again.RawSubject, leaf.RawSubject) ||
		!bytes.Equal(again.RawSubjectPublicKeyInfo, leaf.RawSubjectPublicKeyInfo) || again.DNSNames[0] != "leaf.example" || w.leaf("leaf", "private-key") != key {
		t.Errorf("renewed to %+v", again)
	}
	w.apply(w.Renew(t.Context(), w.root, "ca", 500))
	newCA := w.certificate("ca")
	if newCA.NotAfter.Before(w.clock.AddDate(0, 0, 499)) || again.CheckSignatureFrom(newCA) != nil || !newCA.IsCA {
		t.Errorf("the CA, renewed: %+v", newCA)
	}
	w.write("ca.pem", keyfile.EncodePEM(newCA))
	w.write("old.pem", keyfile.EncodePEM(ca))
	w.write("leaf.pem", keyfile.EncodePEM(again))
	at := []string{"verify", "-attime", epoch(w.clock)}
	w.openssl(append(at, "-CAfile", "ca.pem", "leaf.pem")...)
	w.openssl(append(at, "-CAfile", "old.pem", "leaf.pem")...)

	w.apply(w.Revoke(w.root, "leaf"))
	if w.leaf("leaf", "status") != "revoked" || w.leaf("leaf", "revoke-date-epoch") != epoch(w.clock) {
		t.Error("revoked, and it does not say so")
	}
	_, err := w.Revoke(w.root, "leaf")
	refused(t, "revoking again", err, "already")
	_, err = w.Renew(t.Context(), w.root, "leaf", 0)
	refused(t, "renewing what is revoked", err, "revoked")

	// What is in use is not revoked.
	trust := config.SharedPath + "/ssl-decrypt/forward-trust-certificate/ecdsa"
	edit, err := config.SetEdit(trust, "ca")
	w.apply([]config.Edit{edit}, err)
	_, err = w.Revoke(w.root, "ca")
	if inUse, is := errors.AsType[*config.RefError](err); !is || len(inUse.Users) != 1 || inUse.Users[0] != trust {
		t.Errorf("revoking what is in use: %v", err)
	}
}
