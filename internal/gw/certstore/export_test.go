package certstore

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

// TestExport: OpenSSL reads what is exported, and it comes in again elsewhere.
func TestExport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generate(GenerateRequest{Name: "ca", Subject: Subject{CommonName: "ca"}, CA: true, Algorithm: "ECDSA", Days: 400})
	w.generate(GenerateRequest{Name: "my server", Subject: Subject{CommonName: "s.example"}, SignedBy: "ca"})
	cert := w.certificate("my server")
	public := publicPEM(t, cert)
	passphrase := []byte("Geheimnis ü")
	export := func(r ExportRequest) (data []byte, name string) {
		t.Helper()
		r.Name = "my server"
		data, name, err := w.Export(w.root, r)
		if err != nil {
			t.Fatal(err)
		}
		return data, name
	}
	secret := func(r ExportRequest) ExportRequest { r.IncludeKey, r.Passphrase = true, passphrase; return r }

	data, name := export(ExportRequest{})
	if w.write("a.pem", data); name != "cert_my_server.crt" || bytes.Count(data, []byte("BEGIN")) != 2 || !bytes.Equal(w.openssl("x509", "-in", "a.pem", "-noout", "-pubkey"), public) {
		t.Errorf("PEM in %s:\n%s", name, data)
	}
	data, _ = export(ExportRequest{Format: keyfile.DER})
	if !bytes.Equal(data, cert.Raw) {
		t.Error("DER is another certificate")
	}
	data, name = export(secret(ExportRequest{Format: keyfile.PEM}))
	if w.write("b.pem", data); name != "cert_my_server.pem" || !bytes.Equal(w.openssl("pkey", "-in", "b.pem", "-passin", "pass:Geheimnis ü", "-pubout"), public) {
		t.Errorf("PEM with the key in %s", name)
	}
	data, name = export(secret(ExportRequest{Format: keyfile.DER, KeyOnly: true}))
	if w.write("c.p8", data); name != "cert_my_server.p8" || !bytes.Equal(w.openssl("pkcs8", "-inform", "DER", "-in", "c.p8", "-passin", "pass:Geheimnis ü"), w.openssl("pkcs8", "-in", "b.pem", "-passin", "pass:Geheimnis ü")) {
		t.Errorf("the key in DER in %s", name)
	}
	data, name = export(secret(ExportRequest{Format: keyfile.PEM, KeyOnly: true}))
	if name != "cert_my_server.key" || bytes.Contains(data, []byte("CERTIFICATE")) {
		t.Errorf("the key in PEM in %s", name)
	}
	data, name = export(secret(ExportRequest{Format: keyfile.PKCS12}))
	w.write("d.p12", data)
	text := w.openssl("pkcs12", "-in", "d.p12", "-passin", "pass:Geheimnis ü", "-noenc")
	if w.write("d.pem", text); name != "cert_my_server.p12" || bytes.Count(text, []byte("BEGIN CERTIFICATE")) != 2 || !bytes.Equal(w.openssl("pkey", "-in", "d.pem", "-pubout"), public) {
		t.Errorf("PKCS #12 in %s", name)
	}

	other := newWorld(t)
	other.apply(other.Import(t.Context(), other.root, ImportRequest{Name: "back", Data: data, Passphrase: passphrase}))
	if state, err := other.KeyState(t.Context(), other.root, "back"); err != nil || state != Software || !other.certificate("back").Equal(cert) {
		t.Errorf("on another gateway the key is %s, %v", state, err)
	}
	// A sealed key is of no use on another gateway.
	other.apply(put(other.strange(w, "my server")), nil)
	if state, err := other.KeyState(t.Context(), other.root, "my server"); err != nil || state != Unreadable {
		t.Errorf("another gateway's sealed key is %s, %v", state, err)
	}

	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "alone", Data: cert.Raw}))
	for _, test := range []struct {
		what, word string
		r          ExportRequest
	}{
		{"no passphrase", "give one", ExportRequest{IncludeKey: true}},
		{"a short one", "at least 8", ExportRequest{IncludeKey: true, Passphrase: []byte("1234567")}},
		{"DER with both", "one thing", secret(ExportRequest{Format: keyfile.DER})},
		{"PKCS #12 without the key", "include the key", ExportRequest{Format: keyfile.PKCS12}},
		{"PKCS #12 of the key", "take pem or der", secret(ExportRequest{Format: keyfile.PKCS12, KeyOnly: true})},
		{"the key and no key", "no key", ExportRequest{KeyOnly: true}},
		{"a format", "expected pem, der or pkcs12", ExportRequest{Format: "jks"}},
	} {
		test.r.Name = "my server"
		_, _, err := w.Export(w.root, test.r)
		refused(t, test.what, err, test.word)
	}
	_, _, err := w.Export(w.root, secret(ExportRequest{Name: "alone"}))
	refused(t, "a key that is not there", err, "no private key here")
	if _, _, err := w.Export(w.root, ExportRequest{Name: "nobody"}); !errors.Is(err, config.ErrNotPresent) {
		t.Errorf("nobody: %v", err)
	}
}

// strange is an entry of another world.
func (w *world) strange(other *world, name string) *config.Node {
	w.t.Helper()
	nodes, err := config.Select(other.root, entryPath(name))
	if err != nil || len(nodes) != 1 {
		w.t.Fatalf("%d entries, %v", len(nodes), err)
	}
	return nodes[0]
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name string
		days int
	}{{"long", 300}, {"month", 30}, {"week", 7}, {"day", 1}} {
		w.generate(GenerateRequest{Name: c.name, Subject: Subject{CommonName: c.name + ".example"}, Algorithm: "ECDSA", Days: c.days})
	}
	// What ends with its issuer ends sooner.
	w.pki()
	w.apply(w.Import(t.Context(), w.root, ImportRequest{Name: "chain", Data: w.files("leaf.pem", "middle.pem", "root.pem")}))
	w.generate(GenerateRequest{Name: "gone", Subject: Subject{CommonName: "gone.example"}, Algorithm: "ECDSA", Days: 1})
	w.apply(w.Revoke(w.root, "gone"))
	var reminder Reminder
	step := func(days int, want map[string]Threshold) {
		t.Helper()
		list, err := Expiries(w.root, w.clock.AddDate(0, 0, days))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]Threshold{}
		for _, e := range reminder.Due(list) {
			got[e.Name] = e.Threshold
		}
		for name, threshold := range want {
			if got[name] != threshold {
				t.Errorf("day %d: %s is within %d, want %d", days, name, got[name], threshold)
			}
		}
		if len(got) != len(want) {
			t.Errorf("day %d: reminded of %v, want %v", days, got, want)
		}
	}
	step(0, map[string]Threshold{"month": WithinMonth, "week": WithinWeek, "day": WithinDay})
	step(0, nil)
	step(2, map[string]Threshold{"day": Expired})
	step(6, map[string]Threshold{"week": WithinDay})
	step(29, map[string]Threshold{"week": Expired, "month": WithinDay, "chain": WithinMonth})
	w.apply(w.Renew(t.Context(), w.root, "day", 30+29))
	step(30, map[string]Threshold{"day": WithinMonth})

	list, err := Expiries(w.root, w.clock.AddDate(0, 0, 7).Add(time.Hour))
	if err != nil || list[0].Name != "week" || list[0].Days != -1 || list[0].Threshold != Expired || list[0].InUse {
		t.Errorf("the soonest is %+v, %v", list[0], err)
	}
	infos, err := List(w.root, w.clock)
	if err != nil || len(infos) != 6 {
		t.Fatalf("%d certificates, %v", len(infos), err)
	}
	for _, i := range infos {
		if i.Name == "chain" && (i.Key != Nowhere || i.Chain != 3 || i.Algorithm != "RSA" || i.Names[0] != "leaf.example" || !strings.HasPrefix(i.Subject, "/C=DE/O=")) ||
			i.Name == "gone" && !i.Revoked || i.Name == "long" && (i.Key != Here || i.SHA256 == "" || i.Expiry.Threshold != NotSoon) {
			t.Errorf("listed %+v", i)
		}
	}
}

func TestExpiryOfTheChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.generate(GenerateRequest{Name: "root", Subject: Subject{CommonName: "root"}, Algorithm: "ECDSA", CA: true, Days: 30})
	w.generate(GenerateRequest{Name: "sub", Subject: Subject{CommonName: "sub"}, Algorithm: "ECDSA", CA: true, Days: 20, SignedBy: "root"})
	w.generate(GenerateRequest{Name: "leaf", Subject: Subject{CommonName: "leaf.example"}, Algorithm: "ECDSA", Days: 10, SignedBy: "sub"})
	f, err := findEntry(w.root, "leaf")
	if err != nil {
		t.Fatal(err)
	}
	later := *f.chain[0]
	later.NotAfter = w.clock.AddDate(1, 0, 0)
	e := expiry(found{name: "leaf", chain: []*x509.Certificate{&later, f.chain[1], f.chain[2]}}, w.clock)
	if e.Subject != "/CN=sub" || !e.NotAfter.Equal(f.chain[1].NotAfter) {
		t.Errorf("it ends with %+v", e)
	}
}
