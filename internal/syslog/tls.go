package syslog

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tlsConfig refuses what cannot work or would verify nothing. It returns nil
// where the transport is not TLS.
func (o *Options) tlsConfig() (*tls.Config, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("address %q: expected host and port, such as collector.example:6514", o.Address)
	}
	if o.Transport != TLS {
		return nil, o.plain()
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: o.ServerName}
	if config.ServerName == "" {
		config.ServerName = host
	}
	known := 0
	for _, given := range []bool{o.CAFile != "", o.Fingerprint != "", o.Roots != nil, o.SystemRoots} {
		if given {
			known++
		}
	}
	switch {
	case known == 0:
		return nil, errors.New("neither a CA file nor a fingerprint is given: the collector could be anybody")
	case known > 1:
		return nil, errors.New("a CA file and a fingerprint are given, or other roots; expected one of them")
	case o.SystemRoots: // which RootCAs without a value means
	case o.Roots != nil:
		config.RootCAs = o.Roots
	case o.CAFile != "":
		if config.RootCAs, err = readPool(o.CAFile); err != nil {
			return nil, err
		}
	default:
		want, err := hex.DecodeString(o.Fingerprint)
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("fingerprint %q: expected the 64 hexadecimal digits of a SHA-256", o.Fingerprint)
		}
		config.InsecureSkipVerify = true // the very certificate is known instead, RFC 5425, section 5.1
		config.VerifyConnection = func(state tls.ConnectionState) error {
			got := sha256.Sum256(state.PeerCertificates[0].Raw)
			if !bytes.Equal(got[:], want) {
				return fmt.Errorf("the collector's certificate has the SHA-256 %x, not the one that was given", got)
			}
			return nil
		}
	}
	if (o.Certificate == "") != (o.Key == "") {
		return nil, errors.New("a certificate and its key go together, and one of them is not given")
	}
	if o.ClientCertificate != nil {
		if o.Certificate != "" {
			return nil, errors.New("two certificates of ours are given; expected one of them")
		}
		config.Certificates = []tls.Certificate{*o.ClientCertificate}
	}
	if o.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
		if err != nil {
			return nil, fmt.Errorf("our certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func readPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("CA file %s: no certificate in it; expected PEM", path)
	}
	return pool, nil
}

// userTimeout sets TCP_USER_TIMEOUT (RFC 5482) on a socket: unacknowledged
// data, or a closed window, ends the connection after d.
func userTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
		return errors.Join(err, set)
	}
}
