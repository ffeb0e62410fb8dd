package sshd

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"moongate/internal/durable"
)

// hostKeys are the keys that a server proves itself by: Ed25519, and ECDSA for
// clients that may use the NIST curves alone. RSA would only serve clients that
// are older than what else is asked of them here.
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

// HostKeys returns the host keys that a directory holds, in OpenSSH's format
// and mode 0600, and makes those that are missing. One that is there and cannot
// be read is an error, and never replaced: clients have pinned it.
func HostKeys(dir string) ([]ssh.Signer, error) {
	var signers []ssh.Signer
	for _, k := range hostKeys {
		path := filepath.Join(dir, k.file)
		signer, err := readHostKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			signer, err = makeHostKey(path, k.make)
		}
		if err != nil {
			return nil, err
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

func readHostKey(path string) (ssh.Signer, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the SSH host key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("the SSH host key %s has mode %v; run `chmod 600 %s`, and make a new one if others could read it", path, info.Mode(), path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the SSH host key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	clear(raw)
	if err != nil {
		return nil, fmt.Errorf("the SSH host key %s is damaged: %w; put it back, or remove it and let clients learn a new one", path, err)
	}
	return signer, nil
}

func makeHostKey(path string, generate func() (crypto.PrivateKey, error)) (ssh.Signer, error) {
	key, err := generate()
	if err != nil {
		return nil, fmt.Errorf("making the SSH host key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, fmt.Errorf("encoding the SSH host key: %w", err)
	}
	if err := durable.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, fmt.Errorf("writing the SSH host key: %w", err)
	}
	return ssh.NewSignerFromKey(key)
}

// Fingerprints are those of host keys as ssh-keygen -l prints them: type, a
// space, SHA256:... Administrators compare them at their first login.
func Fingerprints(keys []ssh.Signer) []string {
	var list []string
	for _, k := range keys {
		list = append(list, k.PublicKey().Type()+" "+ssh.FingerprintSHA256(k.PublicKey()))
	}
	return list
}
