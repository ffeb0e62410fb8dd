package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
)

// More than any real chain has.
const (
	maxChain     = 16       // certificates
	maxChainSize = 64 << 10 // bytes of PEM
)

// parseChain reads certificates in PEM (RFC 7468), each the issuer of the one
// before, nothing between them. It returns what is wrong otherwise. Lines may
// be indented, since they stand within an indented document. What is wrong
// never repeats the text, which may be a private key.
func parseChain(s string) ([]*x509.Certificate, string) {
	if len(s) > maxChainSize {
		return nil, fmt.Sprintf("more than %d bytes", maxChainSize)
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	rest := bytes.TrimSpace([]byte(strings.Join(lines, "\n")))
	var chain []*x509.Certificate
	for len(rest) > 0 {
		number := len(chain) + 1
		if number > maxChain {
			return nil, fmt.Sprintf("more than %d certificates", maxChain)
		}
		if !bytes.HasPrefix(rest, []byte("-----BEGIN ")) {
			return nil, fmt.Sprintf("not PEM at certificate %d", number)
		}
		block, after := pem.Decode(rest)
		switch {
		case block == nil || bytes.Count(rest[:len(rest)-len(after)], []byte("-----BEGIN ")) != 1:
			// Decode skips what it cannot read; nothing is skipped here.
			return nil, fmt.Sprintf("not PEM at certificate %d", number)
		case block.Type != "CERTIFICATE" && strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, "a private key, which must not be here"
		case block.Type != "CERTIFICATE" || len(block.Headers) > 0:
			return nil, fmt.Sprintf("another kind of PEM at certificate %d", number)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Sprintf("certificate %d is damaged (%v)", number, err)
		}
		if len(chain) > 0 {
			if err := chain[len(chain)-1].CheckSignatureFrom(c); err != nil {
				return nil, fmt.Sprintf("certificate %d is not the issuer of the one before (%v)", number, err)
			}
		}
		chain = append(chain, c)
		rest = bytes.TrimSpace(after)
	}
	if len(chain) == 0 {
		return nil, "no certificate"
	}
	return chain, ""
}

// certificateRequest is a request in PEM (RFC 2986, RFC 7468).
func certificateRequest() *value {
	return &value{
		doc:    "a certificate request in PEM",
		secret: true, // somebody will put a private key here
		find: func(s string) string {
			if len(s) > maxChainSize {
				return fmt.Sprintf("more than %d bytes", maxChainSize)
			}
			text := bytes.TrimSpace([]byte(s))
			block, rest := pem.Decode(text)
			if block == nil || block.Type != "CERTIFICATE REQUEST" || len(block.Headers) > 0 ||
				len(bytes.TrimSpace(rest)) > 0 || !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
				return "not a request in PEM"
			}
			if _, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
				return fmt.Sprintf("the request is damaged (%v)", err)
			}
			return ""
		},
	}
}
