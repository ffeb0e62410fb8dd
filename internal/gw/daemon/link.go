package daemon

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"moongate/client"
	"moongate/internal/gw/config"
	"moongate/internal/gw/vault"
)

// reconnect bounds how long a gateway goes without its HSM after the HSM is
// back.
const reconnect = time.Second

// linker opens connections to HSMs. The client key and the partition's password
// are sealed under the device key; those that are not yet, because an earlier
// version or an administrator wrote them, are sealed when they are first used.
type linker struct {
	files   Files
	device  *vault.Device
	version string
	logger  *slog.Logger
}

// open opens the connection to the configured HSM. It does not wait for it: a
// gateway starts without its HSM and names the cause.
func (l *linker) open(hsm *config.HSM) (*client.Client, error) {
	server := hsm.Servers[0]
	pair, err := l.pair()
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's certificate for the HSM: %w", err)
	}
	servers, err := client.LoadCertificates(l.files.ServerCertificate(server.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the certificate of HSM server %s is not pinned: copy the HSM's server.pem to %s", server.Name, l.files.ServerCertificate(server.Name))
	} else if err != nil {
		return nil, fmt.Errorf("reading the certificate of HSM server %s: %w", server.Name, err)
	}
	partition, err := os.ReadFile(l.files.Partition())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the partition's name: %w", err)
	}
	return client.Open(client.Config{
		Address:            net.JoinHostPort(server.Address, strconv.Itoa(int(server.Port))),
		ServerCertificates: servers, Certificate: pair,
		Partition: strings.TrimSpace(string(partition)), Role: client.RoleCryptoOfficer,
		Password: l.password, MaxBackoff: reconnect,
		Software: "moongate " + l.version, Logger: l.logger,
	})
}

// pair is the gateway's own certificate with its key.
func (l *linker) pair() (tls.Certificate, error) {
	cert, err := os.ReadFile(l.files.ClientCertificate())
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := l.secret(l.files.ClientKey(), vault.HSMClientKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(key)
	return tls.X509KeyPair(cert, key)
}

// maxPassword bounds a partition's password in bytes.
const maxPassword = 255

// password reads the partition's password: the first line of its file, so that
// an administrator may write one in the clear.
func (l *linker) password() ([]byte, error) {
	raw, err := l.secret(l.files.Password(), vault.PartitionPassword)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(line) > maxPassword {
		return nil, fmt.Errorf("%s: its first line should be a password of 1 to %d bytes", l.files.Password(), maxPassword)
	}
	return bytes.Clone(line), nil
}

// secret opens a file, and seals it first where it is in the clear.
func (l *linker) secret(path, name string) ([]byte, error) {
	if err := l.device.Protect(path, name); err != nil {
		return nil, err
	}
	return l.device.ReadFile(path, name)
}

// protect seals what is in the clear, so that it does not lie there until it is
// used. What fails is told when it is used.
func (l *linker) protect() {
	for path, name := range map[string]string{l.files.ClientKey(): vault.HSMClientKey, l.files.Password(): vault.PartitionPassword} {
		if err := l.device.Protect(path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.logger.Error("a secret of the link to the HSM cannot be sealed", "file", path, "err", err)
		}
	}
}
