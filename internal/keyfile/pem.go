package keyfile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// maxBlocks bounds what a PEM file holds, text between its blocks aside.
const maxBlocks = MaxCertificates + 8

// certificateTypes are the labels of certificates: RFC 7468, and two that
// OpenSSL reads (one with trust settings behind the certificate is not read).
var certificateTypes = []string{"CERTIFICATE", "X509 CERTIFICATE"}

// readPEM reads every block. Text around blocks is passed over, as OpenSSL
// writes it (RFC 7468, section 5.2); a block that cannot be read is not.
func readPEM(data, passphrase []byte) (Contents, error) {
	var c Contents
	begins := bytes.Count(data, []byte("-----BEGIN "))
	if begins > maxBlocks {
		return c, fmt.Errorf("%d blocks, expected at most %d", begins, maxBlocks)
	}
	for number := 1; ; number++ {
		block, rest := pem.Decode(data)
		if block == nil {
			if number <= begins {
				return c, fmt.Errorf("block %d is damaged", number)
			}
			return c, nil
		}
		// Decode skips what it cannot read.
		if bytes.Count(data[:len(data)-len(rest)], []byte("-----BEGIN ")) != 1 {
			return c, fmt.Errorf("block %d is damaged", number)
		}
		if err := c.block(block, passphrase); err != nil {
			return c, fmt.Errorf("block %d: %w", number, err)
		}
		data = rest
	}
}

func (c *Contents) block(block *pem.Block, passphrase []byte) error {
	defer clear(block.Bytes)
	if slices.Contains(certificateTypes, block.Type) {
		return c.add(slices.Clone(block.Bytes)) // a certificate keeps its bytes
	}
	if len(block.Bytes) > maxKey {
		return fmt.Errorf("%d bytes, expected at most %d", len(block.Bytes), maxKey)
	}
	der, parse := block.Bytes, parsePKCS8
	switch block.Type {
	case "PRIVATE KEY":
	case "ENCRYPTED PRIVATE KEY":
		clearDER, err := decryptPKCS8(block.Bytes, passphrase, newWork())
		if err != nil {
			return err
		}
		defer clear(clearDER)
		der = clearDER
	case "RSA PRIVATE KEY":
		parse = parsePKCS1
	case "EC PRIVATE KEY":
		parse = parseSEC1
	case "EC PARAMETERS":
		return nil // openssl ecparam writes it before the key, which says it again
	case "DSA PRIVATE KEY":
		return errors.New("a DSA private key, which TLS has given up: expected RSA or ECDSA")
	case "OPENSSH PRIVATE KEY":
		return errors.New("a private key in OpenSSH's own format: convert it with `ssh-keygen -p -m PKCS8`")
	case "TRUSTED CERTIFICATE":
		return errors.New("a certificate with OpenSSL's trust settings: convert it with `openssl x509`")
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		return errors.New("a signing request, not the certificate that the CA made of it")
	case "PKCS7":
		return errors.New("PKCS #7: convert it with `openssl pkcs7 -print_certs`")
	default:
		return errors.New("neither a certificate nor a private key")
	}
	//lint:ignore SA1019 keys that OpenSSL encrypted before version 1.0 are still about
	if x509.IsEncryptedPEMBlock(block) {
		if len(passphrase) == 0 {
			return ErrPassphraseMissing
		}
		//lint:ignore SA1019 the same
		clearDER, err := x509.DecryptPEMBlock(block, passphrase)
		switch {
		case errors.Is(err, x509.IncorrectPasswordError):
			return ErrPassphraseWrong
		case err != nil:
			return fmt.Errorf("its encryption is damaged or not supported (%v)", err)
		}
		defer clear(clearDER)
		if !isSequence(clearDER) {
			return ErrPassphraseWrong // its padding was right by chance
		}
		der = clearDER
	}
	key, err := parse(der)
	if err != nil {
		return err
	}
	return c.setKey(key)
}
