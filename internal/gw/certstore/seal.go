package certstore

import (
	"errors"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/keyfile"
)

// SealPEM seals a private key in PEM, not encrypted, for the private-key of an
// entry.
func SealPEM(vault Vault, text string) (string, error) {
	c, err := keyfile.Read(unindented(text), keyfile.PEM, nil)
	if errors.Is(err, keyfile.ErrPassphraseMissing) {
		return "", errors.New("private-key: it is encrypted: import it as a file, with its passphrase")
	}
	if err != nil {
		return "", fmt.Errorf("private-key: %w", err)
	}
	if c.Key == nil || len(c.Certificates) > 0 {
		return "", errors.New("private-key: expected one private key in PEM, and nothing else")
	}
	place, err := sealKey(vault, c.Key)
	return place.sealed, err
}

// SealEdits returns edits as they may be kept: private keys in PEM that a
// client put into certificates are sealed. The edits that were given stay as
// they are, and so does everything that is no PEM: Apply refuses what is not
// sealed.
func SealEdits(vault Vault, edits []config.Edit) ([]config.Edit, error) {
	out := make([]config.Edit, len(edits))
	for i, e := range edits {
		out[i] = e
		if len(e.Elements) == 0 {
			continue
		}
		out[i].Elements = make([]*config.Node, len(e.Elements))
		for j, n := range e.Elements {
			sealed, err := sealNode(vault, n)
			if err != nil {
				return nil, err
			}
			out[i].Elements[j] = sealed
		}
	}
	return out, nil
}

// sealNode copies what it changes. An element of the name private-key holds a
// private key wherever it is.
func sealNode(vault Vault, n *config.Node) (*config.Node, error) {
	if n.Name == "private-key" && strings.Contains(n.Text, "-----BEGIN ") {
		sealed, err := SealPEM(vault, n.Text)
		if err != nil {
			return nil, err
		}
		copied := *n
		copied.Text = sealed
		return &copied, nil
	}
	same := n
	for i, c := range n.Children {
		sealed, err := sealNode(vault, c)
		if err != nil {
			return nil, err
		}
		if sealed == c {
			continue
		}
		if same == n {
			copied := *n
			copied.Children = append([]*config.Node(nil), n.Children...)
			same = &copied
		}
		same.Children[i] = sealed
	}
	return same, nil
}
