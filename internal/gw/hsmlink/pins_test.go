package hsmlink

import (
	"bytes"
	"testing"

	"moongate/client"
)

// FuzzServerCertificate: what is taken for a certificate is one, and nothing
// else; its encoding as a pin is read back.
func FuzzServerCertificate(f *testing.F) {
	text, key, err := client.NewCertificate("127.0.0.1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(key)
	f.Add(append(bytes.Clone(text), text...))
	f.Fuzz(func(t *testing.T, text []byte) {
		cert, err := parseServerCertificate(text)
		if err != nil {
			return
		}
		again, err := parseServerCertificate(encodePin(cert))
		if err != nil || !again.Equal(cert) || bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%q was taken: %v", text, err)
		}
	})
}
