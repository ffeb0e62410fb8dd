package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"moongate/client"
	"moongate/internal/durable"
)

// maxPIN bounds a PIN in bytes, as the protocol does a password.
const maxPIN = 256

// askPIN reads the PIN's line; from a person without showing it.
func askPIN(in *os.File, out io.Writer) ([]byte, error) {
	var line []byte
	var err error
	if term.IsTerminal(int(in.Fd())) {
		fmt.Fprint(out, "Please enter the token's PIN: ")
		line, err = term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(out)
	} else {
		line, err = bufio.NewReaderSize(in, maxPIN+2).ReadSlice('\n')
		if err == io.EOF && len(line) > 0 {
			err = nil
		}
	}
	line = bytes.TrimRight(line, "\r\n")
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxPIN:
		return nil, fmt.Errorf("reading the PIN: it has more than %d bytes", maxPIN)
	case err == io.EOF || err == nil && len(line) == 0:
		return nil, errors.New("reading the PIN: standard input is empty; its first line should be the PIN, or -pin-file name a file that has it")
	case err != nil:
		return nil, fmt.Errorf("reading the PIN: %w", err)
	}
	return bytes.Clone(line), nil
}

// standAlone makes what both sides need in the socket's directory, or takes what
// is there: certificates with their keys, and a configuration for cmu.
func standAlone(socket, token string) (secrets, error) {
	dir := filepath.Dir(socket)
	if err := ownDir(dir); err != nil {
		return secrets{}, err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := ensurePair(in("server.pem"), in("server-key.pem"), "moongate-p11"); err != nil {
		return secrets{}, err
	}
	if err := ensurePair(in("client.pem"), in("client-key.pem"), clientName); err != nil {
		return secrets{}, err
	}
	config := fmt.Sprintf("[server]\naddress = %s\ncertificate = \"server.pem\"\n\n[client]\nname = %s\ncertificate = \"client.pem\"\nkey = \"client-key.pem\"\n",
		quoted("unix:"+socket), quoted(clientName))
	if token != "" {
		config = "partition = " + quoted(token) + "\n\n" + config
	}
	if err := durable.WriteFile(in("client.toml"), []byte(config), 0o600); err != nil {
		return secrets{}, err
	}
	certificate, err := tls.LoadX509KeyPair(in("server.pem"), in("server-key.pem"))
	if err != nil {
		return secrets{}, fmt.Errorf("reading the certificate of this side: %w; remove %s and %s, and new ones are made", err, in("server.pem"), in("server-key.pem"))
	}
	list, err := client.LoadCertificates(in("client.pem"))
	if err != nil {
		return secrets{}, fmt.Errorf("reading the client's certificate: %w; remove %s and %s, and new ones are made", err, in("client.pem"), in("client-key.pem"))
	}
	return secrets{certificate: certificate, client: list[0].Raw}, nil
}

const clientName = "moongate-p11-client"

// quoted writes a TOML basic string.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// ownDir makes the directory, or sees that it is this user's and nobody else's.
func ownDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the socket's directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, is := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !is || int(stat.Uid) != os.Getuid() || info.Mode().Perm() != 0o700 {
		return fmt.Errorf("the socket's directory %s is not this user's alone: it should be a directory of mode 0700 that the user owns; name another with -socket, or chmod 700 it", dir)
	}
	return nil
}

// ensurePair makes a certificate and its key where one of the files is missing.
func ensurePair(certificate, key, name string) error {
	_, first := os.Stat(certificate)
	_, second := os.Stat(key)
	if first == nil && second == nil {
		return nil
	}
	public, private, err := client.NewCertificate(name)
	if err != nil {
		return err
	}
	defer clear(private)
	if err := durable.WriteFile(key, private, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(certificate, public, 0o600)
}
