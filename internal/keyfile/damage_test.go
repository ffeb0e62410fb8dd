package keyfile

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// TestDamageIsNoWrongPassphrase turns each byte of what is encrypted: under the
// right passphrase that is damage, but for the first block, which nobody can
// tell from a wrong passphrase.
func TestDamageIsNoWrongPassphrase(t *testing.T) {
	t.Parallel()
	leaf, middle, _ := newParties(t)
	modern, err := pkcs12.Modern2023.WithIterations(1).Encode(leaf.key, leaf.cert, []*x509.Certificate{middle.cert}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	d := newDir(t)
	d.write("key.pem", leaf.keyPEM(t))
	pkcs8 := d.openssl("pkcs8", "-topk8", "-in", "key.pem", "-outform", "DER", "-iter", "1", "-passout", "pass:secret")
	for name, data := range map[string][]byte{"PKCS #12": modern, "PKCS #8": pkcs8} {
		damaged, wrong := 0, 0
		for i := len(data) / 4; i < len(data); i += 7 {
			broken := append([]byte(nil), data...)
			broken[i] ^= 0x40
			switch _, err := Read(broken, "", []byte("secret")); {
			case err == nil && name == "PKCS #8":
				// The key's own redundancy does not see every bit.
			case err == nil:
				t.Errorf("%s: byte %d is another, and it was read", name, i)
			case errors.Is(err, ErrPassphraseWrong):
				wrong++
			default:
				damaged++
			}
		}
		if damaged < 20*wrong || damaged == 0 {
			t.Errorf("%s: %d times damage, %d times a wrong passphrase", name, damaged, wrong)
		}
		for _, passphrase := range []string{"Secret", "secret ", "s", strings.Repeat("secret", 30)} {
			if _, err := Read(data, "", []byte(passphrase)); !errors.Is(err, ErrPassphraseWrong) {
				t.Errorf("%s under %q: %v", name, passphrase, err)
			}
		}
		for length := range len(data) {
			if length%13 == 0 {
				if _, err := Read(data[:length], "", []byte("secret")); err == nil || errors.Is(err, ErrPassphraseWrong) {
					t.Errorf("%s, %d of %d bytes: %v", name, length, len(data), err)
				}
			}
		}
	}
}

// TestBounds: what asks for too much is refused before it is done.
func TestBounds(t *testing.T) {
	t.Parallel()
	leaf, _, _ := newParties(t)
	bomb := func(rounds int) []byte {
		data, err := pkcs12.Modern2023.WithIterations(1).Encode(leaf.key, leaf.cert, nil, "secret")
		if err != nil {
			t.Fatal(err)
		}
		// The rounds are set in the file's own structure, of its check first.
		var file pfx
		if err := unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		file.MAC.Rounds = rounds
		file.Safe.Content = asn1.RawValue{FullBytes: value(0xa0, file.Safe.Content.Bytes)}
		if data, err = asn1.Marshal(file); err != nil {
			t.Fatal(err)
		}
		return data
	}
	key := func(derivation asn1.ObjectIdentifier, parameters any) []byte {
		d, err := identifier(derivation, parameters)
		if err != nil {
			t.Fatal(err)
		}
		c, err := identifier(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		full, err := identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, struct{ D, C pkix.AlgorithmIdentifier }{d, c})
		if err != nil {
			t.Fatal(err)
		}
		der, err := asn1.Marshal(encryptedKey{full, make([]byte, 64)})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	pbkdf2ID, scryptID := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	type scryptParameters struct {
		Salt    []byte
		N, R, P int
	}
	many := EncodePEM(leaf.cert)
	for range MaxCertificates + 9 {
		many = append(many, EncodePEM(leaf.cert)...)
	}
	deep := []byte{2, 1, 3, 0x30, 0}
	for range 40 {
		deep = value(0x30, deep)
	}
	for name, test := range map[string]struct {
		data []byte
		word string
	}{
		"rounds of the check":  {bomb(MaxRounds + 1), "rounds"},
		"no rounds":            {bomb(-1), "less than one round"},
		"rounds of PBKDF2":     {key(pbkdf2ID, pbkdf2Parameters{Salt: []byte("salt"), Rounds: 1 << 30}), "rounds"},
		"scrypt's memory":      {key(scryptID, scryptParameters{[]byte("salt"), 1 << 20, 8, 1}), "scrypt"},
		"scrypt's time":        {key(scryptID, scryptParameters{[]byte("salt"), 1 << 14, 8, 1000}), "scrypt"},
		"scrypt that is none":  {key(scryptID, scryptParameters{[]byte("salt"), 3, 8, 1}), "damaged"},
		"a salt":               {key(pbkdf2ID, pbkdf2Parameters{Salt: make([]byte, 2000), Rounds: 1}), "damaged"},
		"blocks of PEM":        {many, "blocks"},
		"bytes":                {make([]byte, MaxSize+1), "bytes"},
		"nothing":              {nil, "empty"},
		"no ASN.1":             {[]byte("hello"), "expected PEM"},
		"bytes behind the end": {append(leaf.keyDER(t), 0), "after its end"},
		"nesting":              {value(0x30, append([]byte{2, 1, 3, 0x30}, value(0x30, deep)[1:]...)), "nested too deeply"},
	} {
		if _, err := Read(test.data, "", []byte("secret")); err == nil || !strings.Contains(err.Error(), test.word) {
			t.Errorf("%s: %v, expected %q in it", name, err, test.word)
		}
	}
	if _, err := Read(leaf.keyDER(t), "", make([]byte, maxPassphrase+1)); err == nil {
		t.Error("a passphrase of any length is taken")
	}
	if _, err := toDER(deep); err == nil || !strings.Contains(err.Error(), "deeply") {
		t.Errorf("deep nesting: %v", err)
	}
	// Many derivations of a file add up.
	w := newWork()
	for range MaxRoundsFile / MaxRounds {
		if err := w.spend(MaxRounds, 1); err != nil {
			t.Error(err)
		}
	}
	if err := w.spend(1, 1); err == nil {
		t.Error("the rounds of a file have no bound")
	}
}

// TestWrongFormats: what a file is, and is not, is said.
func TestWrongFormats(t *testing.T) {
	t.Parallel()
	leaf, middle, _ := newParties(t)
	other := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{0x30, 0}})
	broken := strings.Replace(string(EncodePEM(leaf.cert)), "MII", "M!!", 1)
	for name, test := range map[string]struct {
		data   []byte
		format Format
		word   string
	}{
		"PEM said to be PKCS #12": {EncodePEM(leaf.cert), PKCS12, `give the format "pem"`},
		"DER said to be PEM":      {leaf.cert.Raw, PEM, `give the format "der"`},
		"nothing of the kind":     {[]byte("x"), PKCS12, "no PKCS #12"},
		"a format of no kind":     {leaf.cert.Raw, "jks", "expected pem, der or pkcs12"},
		"a request":               {other, "", "signing request"},
		"a broken block":          {[]byte(broken), "", "block 1 is damaged"},
		"a broken one behind":     {append(EncodePEM(leaf.cert), broken...), "", "block 2 is damaged"},
		"two keys":                {append(leaf.keyPEM(t), middle.keyPEM(t)...), "", "more than one private key"},
		"a cut block":             {EncodePEM(leaf.cert)[:300], "", "damaged"},
		"an OpenSSH key":          {pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY"}), "", "ssh-keygen"},
		"no certificate inside":   {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.keyDER(t)}), "", "certificate 1 is damaged"},
	} {
		_, err := Read(test.data, test.format, nil)
		if err == nil || !strings.Contains(err.Error(), test.word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Text around blocks, as OpenSSL writes it, and Windows' line ends are read.
	d := newDir(t)
	d.write("leaf.pem", EncodePEM(leaf.cert))
	text := string(d.openssl("x509", "-in", "leaf.pem", "-text"))
	for _, form := range []string{text, strings.ReplaceAll(text, "\n", "\r\n"), text + text} {
		if c, err := Read([]byte(form), PEM, nil); err != nil || len(c.Certificates) != 1 {
			t.Errorf("%d certificates, %v", len(c.Certificates), err)
		}
	}
}

// TestExportedRounds: what leaves the gateway is slow to try.
func TestExportedRounds(t *testing.T) {
	t.Parallel()
	leaf, _, _ := newParties(t)
	data, err := EncodePKCS12(leaf.key, []*x509.Certificate{leaf.cert}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var file pfx
	if err := unmarshal(data, &file); err != nil || file.MAC.Rounds != ExportRounds {
		t.Errorf("the check has %d rounds, %v", file.MAC.Rounds, err)
	}
	if _, err := EncodePKCS12(leaf.key, []*x509.Certificate{leaf.cert}, nil); err == nil {
		t.Error("a private key left without a passphrase")
	}
	if _, err := EncryptKey(leaf.key, nil); err == nil {
		t.Error("a private key left without a passphrase")
	}
}
