package daemon

import (
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
)

// reconnect bounds how long a gateway goes without its HSM after the HSM is
// back.
const reconnect = time.Second

// link opens the connection to the configured HSM. It does not wait for it: a
// gateway starts without its HSM and names the cause.
func link(server *config.HSMServer, files Files, version string, logger *slog.Logger) (*client.Client, error) {
	pair, err := tls.LoadX509KeyPair(files.ClientCertificate(), files.ClientKey())
	if err != nil {
		return nil, fmt.Errorf("reading the gateway's certificate for the HSM: %w", err)
	}
	servers, err := client.LoadCertificates(files.ServerCertificate(server.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the certificate of HSM server %s is not pinned: copy the HSM's server.pem to %s", server.Name, files.ServerCertificate(server.Name))
	} else if err != nil {
		return nil, fmt.Errorf("reading the certificate of HSM server %s: %w", server.Name, err)
	}
	partition, err := os.ReadFile(files.Partition())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the partition's name: %w", err)
	}
	return client.Open(client.Config{
		Address:            net.JoinHostPort(server.Address, strconv.Itoa(int(server.Port))),
		ServerCertificates: servers, Certificate: pair,
		Partition: strings.TrimSpace(string(partition)), Role: client.RoleCryptoOfficer,
		Password: client.PasswordFile(files.Password()), MaxBackoff: reconnect,
		Software: "moongate " + version, Logger: logger,
	})
}
