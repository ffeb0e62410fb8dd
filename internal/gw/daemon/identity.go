package daemon

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"moongate/client"
	"moongate/internal/durable"
	"moongate/internal/gw/vault"
)

// hostKeys are the keys that the SSH listener proves itself by: Ed25519, and
// ECDSA for clients that may use the NIST curves alone. They are sealed by the
// device key.
var hostKeys = []struct {
	file string
	make func() (crypto.PrivateKey, error)
}{
	{"ssh_host_ed25519_key", func() (crypto.PrivateKey, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}},
	{"ssh_host_ecdsa_key", func() (crypto.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }},
}

// loadHostKeys returns the SSH host keys, and makes those that are missing. One
// that is there and cannot be read is an error, and never replaced: clients
// have pinned it.
func loadHostKeys(files Files, device *vault.Device) ([]ssh.Signer, error) {
	var signers []ssh.Signer
	for _, k := range hostKeys {
		path := filepath.Join(files.Management(), k.file)
		raw, err := device.ReadFile(path, vault.SSHHostKey)
		if errors.Is(err, fs.ErrNotExist) {
			raw, err = makeHostKey(path, device, k.make)
		}
		if err != nil {
			return nil, fmt.Errorf("the SSH host key: %w", err)
		}
		signer, err := ssh.ParsePrivateKey(raw)
		clear(raw)
		if err != nil {
			return nil, fmt.Errorf("the SSH host key %s is damaged: %w; put it back, or remove it and let clients learn a new one", path, err)
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

func makeHostKey(path string, device *vault.Device, generate func() (crypto.PrivateKey, error)) ([]byte, error) {
	key, err := generate()
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(block)
	return raw, device.WriteFile(path, vault.SSHHostKey, raw)
}

// loadWebCertificate returns the certificate that the HTTPS listener has where
// the configuration names none, and makes it at the first start. One file holds
// the certificate with its key, so that no crash leaves one without the other.
func loadWebCertificate(files Files, device *vault.Device, hostname string) (*tls.Certificate, error) {
	raw, err := device.ReadFile(files.WebKey(), vault.WebKey)
	if errors.Is(err, fs.ErrNotExist) {
		var cert, key []byte
		if cert, key, err = client.NewCertificate("moongate", "localhost", "127.0.0.1", "::1", hostname); err != nil {
			return nil, fmt.Errorf("making the management's certificate: %w", err)
		}
		raw = append(cert, key...)
		err = device.WriteFile(files.WebKey(), vault.WebKey, raw)
	}
	if err != nil {
		return nil, fmt.Errorf("the management's certificate: %w", err)
	}
	defer clear(raw)
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, fmt.Errorf("the management's certificate %s is damaged: %w; put it back, or remove it for a new one", files.WebKey(), err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	if there, err := os.ReadFile(files.WebCertificate()); err == nil && bytes.Equal(there, public) {
		return &pair, nil
	}
	if err := durable.WriteFile(files.WebCertificate(), public, 0o644); err != nil {
		return nil, fmt.Errorf("writing a copy of the management's certificate: %w", err)
	}
	return &pair, nil
}

// loadSerial returns the gateway's serial number: digits, made at the first
// start and kept.
func loadSerial(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the serial number: %w", err)
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1e12))
	if err != nil {
		return "", err
	}
	serial := fmt.Sprintf("007%012d", n)
	if err := durable.WriteFile(path, []byte(serial+"\n"), 0o644); err != nil {
		return "", fmt.Errorf("writing the serial number: %w", err)
	}
	return serial, nil
}
