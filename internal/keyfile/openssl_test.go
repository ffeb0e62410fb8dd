package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// dir is a directory in which programs are run.
type dir struct {
	t    *testing.T
	path string
}

func newDir(t *testing.T) dir { return dir{t, t.TempDir()} }

func (d dir) file(name string) string { return filepath.Join(d.path, name) }

func (d dir) write(name string, data []byte) string {
	d.t.Helper()
	if err := os.WriteFile(d.file(name), data, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return name
}

func (d dir) read(name string) []byte {
	d.t.Helper()
	data, err := os.ReadFile(d.file(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return data
}

// run runs a program of scripts/test-packages and returns what it prints.
func (d dir) run(program string, args ...string) []byte {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), program, args...)
	cmd.Dir = d.path
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("%s %q: %v\n%s", program, args, err, &stderr)
	}
	return out
}

func (d dir) openssl(args ...string) []byte { d.t.Helper(); return d.run("openssl", args...) }

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p party) keyDER(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (p party) keyPEM(t testing.TB) []byte {
	t.Helper()
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p.keyDER(t)})
}

// issue makes a certificate; without an issuer a self-signed one.
func issue(t testing.TB, issuer *party, name string, key crypto.Signer) *party {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// rsaKey is one key for all tests, which RSA takes its time for.
var rsaKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// family is a leaf with an RSA key, its issuer and their root.
func newParties(t testing.TB) (leaf, middle, root *party) {
	t.Helper()
	root = issue(t, nil, "root", ecKey(t))
	middle = issue(t, root, "middle", ecKey(t))
	return issue(t, middle, "leaf", rsaKey()), middle, root
}
