package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// TestPKCS12OfOthers reads what OpenSSL, NSS and another Go library write, in
// every encryption that they have.
func TestPKCS12OfOthers(t *testing.T) {
	t.Parallel()
	leaf, middle, root := newParties(t)
	all := [][]byte{leaf.cert.Raw, middle.cert.Raw, root.cert.Raw}
	openssl := func(args ...string) func(dir) []byte {
		return func(d dir) []byte {
			d.write("key.pem", leaf.keyPEM(t))
			d.write("leaf.pem", EncodePEM(leaf.cert))
			d.write("more.pem", EncodePEM(root.cert, middle.cert))
			return d.openssl(append([]string{"pkcs12", "-export", "-in", "leaf.pem", "-inkey", "key.pem", "-certfile", "more.pem", "-passout", "pass:Geheimnis ü"}, args...)...)
		}
	}
	library := func(e *pkcs12.Encoder) func(dir) []byte {
		return func(d dir) []byte {
			data, err := e.Encode(leaf.key, leaf.cert, []*x509.Certificate{middle.cert, root.cert}, "Geheimnis ü")
			if err != nil {
				d.t.Fatal(err)
			}
			return data
		}
	}
	for name, write := range map[string]func(dir) []byte{
		"OpenSSL, modern":              openssl(),
		"OpenSSL, legacy":              openssl("-legacy"),
		"OpenSSL, 3DES":                openssl("-legacy", "-descert"),
		"OpenSSL, RC2 of 128 bits":     openssl("-legacy", "-certpbe", "PBE-SHA1-RC2-128", "-keypbe", "PBE-SHA1-2DES"),
		"OpenSSL, AES-128":             openssl("-certpbe", "AES-128-CBC", "-keypbe", "AES-192-CBC"),
		"OpenSSL, SHA-384":             openssl("-macalg", "SHA384"),
		"OpenSSL, SHA-512":             openssl("-macalg", "SHA512", "-iter", "100000"),
		"OpenSSL, certificates clear":  openssl("-certpbe", "NONE"),
		"OpenSSL, no integrity check":  openssl("-nomac"),
		"OpenSSL, no rounds":           openssl("-noiter", "-nomaciter"),
		"OpenSSL, names":               openssl("-name", "friendly", "-caname", "one"),
		"Go, RC2":                      library(pkcs12.LegacyRC2),
		"Go, 3DES":                     library(pkcs12.LegacyDES),
		"Go, modern":                   library(pkcs12.Modern2023),
		"Go, PBMAC1":                   library(pkcs12.Modern2026),
		"NSS":                          nss(leaf, middle, root),
		"ours":                         ours(leaf, middle, root),
		"OpenSSL, a new one from ours": reexport(leaf, middle, root),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := write(newDir(t))
			c, err := Read(data, "", []byte("Geheimnis ü"))
			if err != nil {
				t.Fatal(err)
			}
			if c.Key == nil || !SamePublic(c.Key.Public(), leaf.key.Public()) {
				t.Errorf("the key is %v", c.Key)
			}
			chain, err := Chain(c.Certificates, c.Key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) != len(all) || !bytes.Equal(chain[0].Raw, all[0]) || !bytes.Equal(chain[1].Raw, all[1]) || !bytes.Equal(chain[2].Raw, all[2]) {
				t.Errorf("the chain is %s", subjects(chain))
			}
			if _, err := Read(data, PKCS12, []byte("geheimnis ü")); !errors.Is(err, ErrPassphraseWrong) {
				t.Errorf("a wrong passphrase: %v", err)
			}
			if _, err := Read(data, PKCS12, nil); !errors.Is(err, ErrPassphraseMissing) {
				t.Errorf("no passphrase: %v", err)
			}
		})
	}
}

func nss(leaf, middle, root *party) func(dir) []byte {
	return func(d dir) []byte {
		d.write("pw", []byte("Geheimnis ü"))
		d.write("none", nil)
		data, err := pkcs12.Modern.Encode(leaf.key, leaf.cert, []*x509.Certificate{middle.cert, root.cert}, "x")
		if err != nil {
			d.t.Fatal(err)
		}
		d.write("in.p12", data)
		d.run("certutil", "-N", "-d", d.path, "--empty-password")
		d.run("pk12util", "-i", "in.p12", "-d", d.path, "-W", "x", "-K", "")
		nickname := ""
		for line := range strings.SplitSeq(string(d.run("certutil", "-L", "-d", d.path)), "\n") {
			if strings.HasSuffix(line, "u,u,u") {
				nickname = strings.TrimSpace(strings.TrimSuffix(line, "u,u,u"))
			}
		}
		d.run("pk12util", "-o", "out.p12", "-n", nickname, "-d", d.path, "-w", "pw", "-K", "")
		return d.read("out.p12")
	}
}

func ours(leaf, middle, root *party) func(dir) []byte {
	return func(d dir) []byte {
		data, err := encodePKCS12(leaf.key, []*x509.Certificate{leaf.cert, middle.cert, root.cert}, []byte("Geheimnis ü"), 2000)
		if err != nil {
			d.t.Fatal(err)
		}
		return data
	}
}

// reexport has OpenSSL read ours and write it again.
func reexport(leaf, middle, root *party) func(dir) []byte {
	return func(d dir) []byte {
		d.write("ours.p12", ours(leaf, middle, root)(d))
		d.write("all.pem", d.openssl("pkcs12", "-in", "ours.p12", "-passin", "pass:Geheimnis ü", "-noenc"))
		return d.openssl("pkcs12", "-export", "-in", "all.pem", "-passout", "pass:Geheimnis ü")
	}
}

// TestPKCS12Parts: certificates alone, a key in the clear, an empty passphrase.
func TestPKCS12Parts(t *testing.T) {
	t.Parallel()
	leaf, middle, root := newParties(t)
	d := newDir(t)
	d.write("key.pem", leaf.keyPEM(t))
	d.write("leaf.pem", EncodePEM(leaf.cert, middle.cert, root.cert))
	export := func(args ...string) []byte {
		return d.openssl(append([]string{"pkcs12", "-export", "-in", "leaf.pem"}, args...)...)
	}
	for name, test := range map[string]struct {
		data []byte
		key  bool
	}{
		"certificates alone":     {export("-nokeys", "-passout", "pass:secret"), false},
		"the key in the clear":   {export("-inkey", "key.pem", "-keypbe", "NONE", "-passout", "pass:secret"), true},
		"everything in the open": {export("-inkey", "key.pem", "-keypbe", "NONE", "-certpbe", "NONE", "-nomac", "-passout", "pass:"), true},
		"an empty passphrase":    {export("-inkey", "key.pem", "-passout", "pass:"), true},
	} {
		passphrase := []byte("secret")
		if name == "an empty passphrase" || name == "everything in the open" {
			passphrase = nil
		}
		c, err := Read(test.data, "", passphrase)
		if err != nil || (c.Key != nil) != test.key || len(c.Certificates) != 3 {
			t.Errorf("%s: %d certificates, key %v, %v", name, len(c.Certificates), c.Key != nil, err)
		}
	}
}

// TestKeysOfOpenSSL reads private keys in the forms that OpenSSL writes.
func TestKeysOfOpenSSL(t *testing.T) {
	t.Parallel()
	for _, of := range []struct{ name, kind, option string }{
		{"RSA", "rsa", "rsa_keygen_bits:2048"},
		{"P-256", "EC", "ec_paramgen_curve:P-256"},
		{"P-384", "EC", "ec_paramgen_curve:P-384"},
	} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			d := newDir(t)
			d.openssl("genpkey", "-algorithm", of.kind, "-pkeyopt", of.option, "-out", "key.pem")
			public := d.openssl("pkey", "-in", "key.pem", "-pubout")
			pkcs8 := func(args ...string) []byte {
				return d.openssl(append([]string{"pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:secret"}, args...)...)
			}
			traditional := strings.ToLower(of.kind)
			forms := map[string][]byte{
				"PKCS #8":                 pkcs8("-nocrypt"),
				"PKCS #8, DER":            pkcs8("-nocrypt", "-outform", "DER"),
				"encrypted":               pkcs8(),
				"encrypted, DER":          pkcs8("-outform", "DER"),
				"AES-128, SHA-512":        pkcs8("-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "50000"),
				"AES-192, SHA-384":        pkcs8("-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA384"),
				"3DES, SHA-1":             pkcs8("-v2", "des3", "-v2prf", "hmacWithSHA1"),
				"3DES, SHA-224":           pkcs8("-v2", "des3", "-v2prf", "hmacWithSHA224"),
				"scrypt":                  pkcs8("-scrypt"),
				"PKCS #12's 3DES":         pkcs8("-v1", "PBE-SHA1-3DES"),
				"PKCS #12's RC2":          pkcs8("-v1", "PBE-SHA1-RC2-40", "-provider", "legacy", "-provider", "default"),
				"PKCS #5 version 1":       pkcs8("-v1", "PBE-MD5-DES", "-provider", "legacy", "-provider", "default"),
				"PKCS #5 version 1, SHA1": pkcs8("-v1", "PBE-SHA1-DES", "-provider", "legacy", "-provider", "default"),
				"traditional":             d.openssl(traditional, "-in", "key.pem"),
				"traditional, DER":        d.openssl("pkey", "-in", "key.pem", "-traditional", "-outform", "DER"),
				"traditional, encrypted":  d.openssl("pkey", "-in", "key.pem", "-traditional", "-aes256", "-passout", "pass:secret"),
			}
			if of.kind == "EC" {
				forms["with parameters"] = append(d.openssl("ecparam", "-name", "prime256v1"), forms["traditional"]...)
			}
			for name, data := range forms {
				c, err := Read(data, "", []byte("secret"))
				if err != nil || c.Key == nil || len(c.Certificates) != 0 {
					t.Errorf("%s: %v", name, err)
					continue
				}
				der, err := x509.MarshalPKIXPublicKey(c.Key.Public())
				if got := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}); err != nil || !bytes.Equal(got, public) {
					t.Errorf("%s: another key, %v", name, err)
				}
				_, wrong := Read(data, "", []byte("Secret"))
				_, missing := Read(data, "", nil)
				if clear := slices.Contains([]string{"PKCS #8", "PKCS #8, DER", "traditional", "traditional, DER", "with parameters"}, name); clear {
					if wrong != nil || missing != nil {
						t.Errorf("%s: %v, %v", name, wrong, missing)
					}
				} else if !errors.Is(wrong, ErrPassphraseWrong) || !errors.Is(missing, ErrPassphraseMissing) {
					t.Errorf("%s: a wrong passphrase: %v; none: %v", name, wrong, missing)
				}
			}
			// And OpenSSL reads ours.
			c, err := Read(forms["PKCS #8"], "", nil)
			if err != nil {
				t.Fatal(err)
			}
			rounds := 2000
			if of.name == "P-256" {
				rounds = ExportRounds
			}
			der, err := encryptKey(c.Key, []byte("secret"), rounds)
			if err != nil {
				t.Fatal(err)
			}
			d.write("ours.pem", EncryptedKeyPEM(der))
			if got := d.openssl("pkey", "-in", "ours.pem", "-passin", "pass:secret", "-pubout"); !bytes.Equal(got, public) {
				t.Error("OpenSSL reads another key from ours")
			}
			text := string(d.openssl("asn1parse", "-in", "ours.pem"))
			for _, word := range []string{"PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc", fmt.Sprintf("%X", rounds)} {
				if !strings.Contains(text, word) {
					t.Errorf("ours has no %s:\n%s", word, text)
				}
			}
		})
	}
}

// TestRefusedKeys: kinds of keys that TLS in browsers does not have are named.
func TestRefusedKeys(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	d.openssl("genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024", "-out", "dsaparam.pem")
	d.openssl("genpkey", "-paramfile", "dsaparam.pem", "-out", "dsa.pem")
	keys := map[string][]byte{
		"DSA key":                d.read("dsa.pem"),
		"DSA private key":        d.openssl("pkey", "-in", "dsa.pem", "-traditional"),
		"Ed25519":                d.openssl("genpkey", "-algorithm", "ED25519"),
		"Ed448":                  d.openssl("genpkey", "-algorithm", "ED448"),
		"X25519":                 d.openssl("genpkey", "-algorithm", "X25519"),
		"RSASSA-PSS":             d.openssl("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
		"1024 bits":              d.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
		"expected RSA":           d.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"),
		"kind that is not suppo": d.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
	}
	for word, data := range keys {
		if _, err := Read(data, "", nil); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
		d.write("key.pem", data)
		if _, err := Read(d.openssl("pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:x"), "", []byte("x")); err == nil {
			t.Errorf("%s: read when encrypted", word)
		}
	}
	for kind, word := range map[string]string{"dsa.pem": "a DSA key", "ed.pem": "an Ed25519 key"} {
		d.write("ed.pem", keys["Ed25519"])
		c, err := Read(d.openssl("req", "-x509", "-key", kind, "-subj", "/CN=x", "-days", "2"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckPublic(c.Certificates[0].PublicKey); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("a certificate of %s: %v", word, err)
		}
	}
}
