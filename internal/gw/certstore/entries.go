package certstore

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

// ListPath is the list of certificates in the configuration.
const ListPath = config.SharedPath + "/certificate"

// entryPath is the path of one of them.
func entryPath(name string) string { return ListPath + "/" + config.EntryStep(name) }

// found is an entry of a tree, read.
type found struct {
	name    string
	chain   []*x509.Certificate      // empty for a request
	request *x509.CertificateRequest // nil without one
	key     keyPlace
	revoked bool
}

// public is the key that the entry's private key belongs to.
func (f found) public() crypto.PublicKey {
	if len(f.chain) > 0 {
		return f.chain[0].PublicKey
	}
	return f.request.PublicKey
}

// findEntry reads the entry of a name. Its error wraps config.ErrNotPresent
// where there is none.
func findEntry(root *config.Node, name string) (found, error) {
	nodes, err := config.Select(root, entryPath(name))
	if err != nil {
		return found{}, err
	}
	if len(nodes) == 0 {
		return found{}, fmt.Errorf("certificate %q: %w: no certificate has the name", name, config.ErrNotPresent)
	}
	f, err := readEntry(nodes[0])
	if err != nil {
		return found{}, fmt.Errorf("certificate %q: %w", name, err)
	}
	return f, nil
}

func readEntry(n *config.Node) (found, error) {
	f := found{name: n.Entry}
	for _, c := range n.Children {
		switch c.Name {
		case "public-key":
			contents, err := keyfile.Read(unindented(c.Text), keyfile.PEM, nil)
			if err != nil {
				return f, fmt.Errorf("its public-key: %w", err)
			}
			f.chain = contents.Certificates
		case "csr":
			block, _ := pem.Decode(unindented(c.Text))
			if block == nil {
				return f, fmt.Errorf("its csr is no PEM")
			}
			var err error
			if f.request, err = x509.ParseCertificateRequest(block.Bytes); err != nil {
				return f, fmt.Errorf("its csr is damaged (%v)", err)
			}
		case "private-key":
			f.key.sealed = c.Text
		case "private-key-on-hsm":
			f.key.onHSM = c.Text == "yes"
		case "status":
			f.revoked = c.Text == statusRevoked
		}
	}
	if len(f.chain) == 0 && f.request == nil {
		return f, fmt.Errorf("it has neither public-key nor csr")
	}
	return f, nil
}

// unindented takes the white space off that PEM has in an indented document.
func unindented(text string) []byte {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return []byte(strings.Join(lines, "\n"))
}

// all reads every entry of a tree; what cannot be read is passed over, as it is
// Compile's to refuse.
func all(root *config.Node) ([]found, error) {
	nodes, err := config.Select(root, ListPath+"/entry")
	if err != nil {
		return nil, err
	}
	var list []found
	for _, n := range nodes {
		if f, err := readEntry(n); err == nil {
			list = append(list, f)
		}
	}
	return list, nil
}

// nameFits requires that an entry can have the name, before anything is done
// that cannot be undone.
func nameFits(root *config.Node, name string) error {
	_, err := config.Apply(root, config.Edit{
		Op: config.OpSet, Path: ListPath, Elements: []*config.Node{{Name: "entry", Entry: name}},
	})
	return err
}

// put is the edit that makes an entry, in the place of another of its name.
func put(entry *config.Node) []config.Edit {
	return []config.Edit{{Op: config.OpEdit, Path: entryPath(entry.Entry), Elements: []*config.Node{entry}}}
}
