package certstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"time"

	"moongate/internal/gw/config"
)

// Place is where a certificate's private key is.
type Place string

const (
	OnHSM   Place = "hsm"
	Here    Place = "software"
	Nowhere Place = "none"
)

// Info is a certificate of a tree, for people.
type Info struct {
	Name       string
	Algorithm  string // RSA or EC
	CA         bool
	CommonName string
	Subject    string // /C=DE/CN=name
	Issuer     string // "" of a request
	Serial     string // hexadecimal
	SHA256     string // the certificate's fingerprint, hexadecimal
	Names      []string
	NotBefore  time.Time // zero of a request
	NotAfter   time.Time
	Key        Place
	Revoked    bool
	Request    bool     // a request for a certificate, which is not there yet
	Chain      int      // certificates, itself among them
	Users      []string // paths that refer to it
	Expiry     Expiry
}

// List returns the certificates of a tree in its order.
func List(root *config.Node, now time.Time) ([]Info, error) {
	list, err := all(root)
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(list))
	for _, f := range list {
		i := Info{
			Name: f.name, Algorithm: algorithmName(f.public()), Key: Nowhere, Revoked: f.revoked,
			Request: len(f.chain) == 0, Chain: len(f.chain), Users: config.References(root, ListPath, f.name),
		}
		switch {
		case f.key.onHSM:
			i.Key = OnHSM
		case f.key.sealed != "":
			i.Key = Here
		}
		if i.Request {
			i.CommonName, i.Subject = f.request.Subject.CommonName, nameNote(f.request.RawSubject)
			i.Names = hostNames(f.request.DNSNames, f.request.IPAddresses)
		} else {
			c := f.chain[0]
			sum := sha256.Sum256(c.Raw)
			i.CA, i.CommonName, i.Subject, i.Issuer = c.IsCA, c.Subject.CommonName, nameNote(c.RawSubject), nameNote(c.RawIssuer)
			i.Serial, i.SHA256 = fmt.Sprintf("%x", c.SerialNumber), hex.EncodeToString(sum[:])
			i.Names = hostNames(c.DNSNames, c.IPAddresses)
			i.NotBefore, i.NotAfter = c.NotBefore, c.NotAfter
			i.Expiry = expiry(f, now)
		}
		out = append(out, i)
	}
	return out, nil
}

func hostNames(names []string, addresses []net.IP) []string {
	out := append([]string(nil), names...)
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}
