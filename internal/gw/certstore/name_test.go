package certstore

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
)

// TestNames compares hashes and texts of names with OpenSSL's.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem")
	for _, test := range []struct{ subject, options string }{
		{"/CN=localhost", ""},
		{"/C=DE/ST=Bayern/L=München/O=Müller \\+ Söhne/OU=A  B/OU=  c /CN=Straße", "-utf8"},
		{"/CN=UPPER lower/emailAddress=Me@Example.COM/serialNumber=12 34/UID=u/DC=Example/DC=com", ""},
		{"/C=US/CN=a+OU=b+O=a", "-multivalue-rdn"},
		{`/O=a\/b/CN=c`, ""},
		{"/O=tab\tin it/CN=/1.2.3.4=own", ""},
		{"/GN=g/SN=s/title=t/initials=i/street=x/postalCode=1/businessCategory=b/CN=ÄÖÜ", ""},
		{"/description=d/organizationIdentifier=x/pseudonym=p/dnQualifier=q/name=n/jurisdictionC=DE", ""},
		{"/CN=日本語", "-utf8"},
	} {
		for _, mask := range []string{"utf8only", "default", "MASK:0x800"} { // 0x800: BMPString
			args := []string{"req", "-x509", "-key", "key.pem", "-subj", test.subject, "-days", "2", "-config", w.write("cnf", []byte("string_mask="+mask+"\n[req]\nstring_mask="+mask+"\ndistinguished_name=d\n[d]\n"))}
			if test.options != "" {
				args = append(args, test.options)
			}
			out, failed := w.try(args...)
			if failed {
				continue // a name that the mask cannot hold
			}
			block, _ := pem.Decode(out)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Errorf("%s, %s: %v", test.subject, mask, err)
				continue
			}
			w.write("cert.pem", out)
			hash, err := NameHash(cert.RawSubject)
			if want := strings.TrimSpace(string(w.openssl("x509", "-in", "cert.pem", "-noout", "-subject_hash"))); err != nil || hash != want {
				t.Errorf("%s, %s: hash %s, %v; OpenSSL's is %s", test.subject, mask, hash, err, want)
			}
			text, err := NameText(cert.RawSubject)
			want := strings.TrimPrefix(strings.TrimSuffix(string(w.openssl("x509", "-in", "cert.pem", "-noout", "-subject", "-nameopt", "compat")), "\n"), "subject=")
			if err != nil || text != want {
				t.Errorf("%s, %s: text %s, %v; OpenSSL's is %s", test.subject, mask, text, err, want)
			}
		}
	}
	for _, damaged := range [][]byte{nil, {0x30}, {0x30, 2, 0x31, 0, 0}, {0x30, 2, 0x30, 0}, {0x30, 4, 0x31, 2, 0x30, 0}} {
		if hash, err := NameHash(damaged); err == nil {
			t.Errorf("%x has the hash %s", damaged, hash)
		}
		if text, err := NameText(damaged); err == nil {
			t.Errorf("%x has the text %s", damaged, text)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add([]byte{0x30, 15, 0x31, 13, 0x30, 11, 6, 3, 0x55, 4, 3, 0x0c, 4, 'A', ' ', ' ', 'b'})
	f.Add([]byte{0x30, 13, 0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 3, 0x1e, 2, 0xd8, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		hash, err := NameHash(der)
		if err == nil && len(hash) != 8 {
			t.Errorf("the hash %q", hash)
		}
		if _, textErr := NameText(der); (err == nil) != (textErr == nil) && textErr != nil {
			t.Errorf("the hash: %v, the text: %v", err, textErr)
		}
	})
}
