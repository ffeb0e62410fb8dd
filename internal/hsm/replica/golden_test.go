package replica

import (
	"crypto/ecdsa"
	"crypto/hpke"
	"crypto/x509"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"moongate/internal/hsm/object"
)

// Messages of version 1, as the first version wrote them, lie in testdata/v1
// with the keys that sign and open them. They are never written again: HSMs of
// different versions must understand each other. A new version gets its own:
//
//	go test ./internal/hsm/replica -run Golden -golden testdata/vN
var golden = flag.String("golden", "", "write golden messages into this new directory")

func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	if *golden != "" {
		writeGolden(t, *golden)
	}
	read := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	parsed, err := x509.ParsePKIXPublicKey(read("signer.der"))
	if err != nil {
		t.Fatal(err)
	}
	signer := parsed.(*ecdsa.PublicKey)
	private, err := hpke.MLKEM768P256().NewPrivateKey(read("recipient"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Recipient{private}

	o, err := DecodeOffer(read("offer"))
	if err != nil {
		t.Fatal(err)
	}
	want := Way{Source: Place{object.HSMID{1}, "123"}, Target: Place{object.HSMID{2}, "456"}, Nonce: [32]byte{3}, Domain: [16]byte{4}}
	if !o.Verify(signer) || o.Way != want || string(o.Public) != string(r.Public()) {
		t.Errorf("offer %+v", o.Way)
	}
	p, err := DecodePackage(read("package"))
	if err != nil {
		t.Fatal(err)
	}
	if inner, ok := p.Open(r); !p.Verify(signer) || p.Way != want || !ok || string(inner) != "sealed by the domain" {
		t.Errorf("package %+v opens to %q, %v", p.Way, inner, ok)
	}
	q, err := DecodeRequest(read("request"))
	if err != nil {
		t.Fatal(err)
	}
	if !q.Verify(signer) || q.From != (object.HSMID{1}) || q.To != (object.HSMID{2}) || q.Nonce != ([32]byte{3}) {
		t.Errorf("request %+v", q)
	}
	s, err := DecodeShare(read("share"))
	if err != nil {
		t.Fatal(err)
	}
	if secret, ok := s.Open(r); !s.Verify(signer) || s.Domain != ([16]byte{4}) || !ok || string(secret) != string(make([]byte, domainSecret)) {
		t.Errorf("share %+v opens: %v", s, ok)
	}
	if got := read("batch"); string(got) != string(batch(t)) {
		t.Errorf("a batch is encoded as %x, and was as %x", batch(t), got)
	}
}

func writeGolden(t *testing.T, dir string) {
	t.Helper()
	key, r, offer, pkg, request, share := messages(t)
	signer, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := r.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"signer.der": signer, "recipient": recipient, "offer": offer, "package": pkg, "request": request, "share": share, "batch": batch(t)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
