package certstore

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

// ExportRequest is what is written to a file.
type ExportRequest struct {
	Name   string
	Format keyfile.Format // "" is PEM
	// IncludeKey: the private key as well, encrypted under Passphrase.
	IncludeKey bool
	// KeyOnly, of IncludeKey: the private key alone, as encrypted PKCS #8.
	KeyOnly    bool
	Passphrase []byte
}

// MinPassphrase is the shortest passphrase of a private key that leaves the
// gateway, in characters. The derivation behind it is slow, and what is written
// can be tried at leisure by whoever has it.
const MinPassphrase = 8

// Export returns a file and a name for it. A certificate is written with its
// chain, in DER alone. A private key is written encrypted (PBES2 with AES-256)
// or not at all; one on the HSM never leaves it.
func (e *Editor) Export(root *config.Node, r ExportRequest) (data []byte, fileName string, err error) {
	f, err := findEntry(root, r.Name)
	if err != nil {
		return nil, "", err
	}
	data, suffix, err := e.export(f, r)
	if err != nil {
		return nil, "", fmt.Errorf("exporting certificate %q: %w", r.Name, err)
	}
	return data, "cert_" + strings.ReplaceAll(r.Name, " ", "_") + suffix, nil
}

func (e *Editor) export(f found, r ExportRequest) (data []byte, suffix string, err error) {
	switch r.Format {
	case keyfile.PEM, keyfile.DER, keyfile.PKCS12, "":
	default:
		return nil, "", fmt.Errorf("the format %q, expected %s, %s or %s", r.Format, keyfile.PEM, keyfile.DER, keyfile.PKCS12)
	}
	switch {
	case len(f.chain) == 0 && !r.KeyOnly:
		return nil, "", errors.New("it is a request, not a certificate yet: export that (pkcs10)")
	case r.KeyOnly && !r.IncludeKey:
		return nil, "", errors.New("the key alone, and no key: say that the key is included")
	case r.IncludeKey:
		return e.exportKey(f, r)
	case r.Format == keyfile.PKCS12:
		return nil, "", errors.New("PKCS #12 is for a certificate with its private key: include the key, or take pem")
	case r.Format == keyfile.DER:
		return f.chain[0].Raw, ".crt", nil
	}
	return keyfile.EncodePEM(f.chain...), ".crt", nil
}

func (e *Editor) exportKey(f found, r ExportRequest) (data []byte, suffix string, err error) {
	switch {
	case f.key.onHSM:
		return nil, "", errors.New("its private key resides on the HSM, which it never leaves: export the certificate without it")
	case f.key.none():
		return nil, "", errors.New("it has no private key here: export the certificate without it")
	case len(r.Passphrase) == 0:
		return nil, "", errors.New("a private key is exported under a passphrase only: give one")
	case !utf8.Valid(r.Passphrase) || utf8.RuneCount(r.Passphrase) < MinPassphrase:
		return nil, "", fmt.Errorf("the passphrase is too short for a private key that leaves the gateway, expected at least %d characters", MinPassphrase)
	case r.Format == keyfile.DER && !r.KeyOnly:
		return nil, "", errors.New("DER holds one thing: export the key alone, or take pem or pkcs12")
	case r.Format == keyfile.PKCS12 && r.KeyOnly:
		return nil, "", errors.New("PKCS #12 holds the certificate and the key: take pem or der for the key alone")
	}
	key, err := openKey(e.vault, f.key.sealed, f.public())
	if err != nil {
		return nil, "", err
	}
	if r.Format == keyfile.PKCS12 {
		data, err := keyfile.EncodePKCS12(key, f.chain, r.Passphrase)
		return data, ".p12", err
	}
	der, err := keyfile.EncryptKey(key, r.Passphrase)
	if err != nil {
		return nil, "", err
	}
	switch {
	case r.Format == keyfile.DER:
		return der, ".p8", nil
	case r.KeyOnly:
		return keyfile.EncryptedKeyPEM(der), ".key", nil
	}
	return append(keyfile.EncodePEM(f.chain...), keyfile.EncryptedKeyPEM(der)...), ".pem", nil
}
