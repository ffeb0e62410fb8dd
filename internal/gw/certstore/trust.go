package certstore

import (
	"fmt"
	"time"

	"moongate/internal/gw/config"
)

// rootsPath is the list of roots that servers' chains may end in.
const rootsPath = config.SharedPath + "/ssl-decrypt/trusted-root-CA"

// Trust makes the edits by which chains of servers may end in a certificate of
// the configuration.
func Trust(root *config.Node, name string, now time.Time) ([]config.Edit, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, err
	}
	switch {
	case len(f.chain) == 0:
		err = fmt.Errorf("it is a request, not a certificate yet")
	case f.revoked:
		err = fmt.Errorf("it is revoked")
	case !f.chain[0].BasicConstraintsValid || !f.chain[0].IsCA:
		err = fmt.Errorf("it is no CA's")
	case now.After(f.chain[0].NotAfter):
		err = fmt.Errorf("it expired on %s", f.chain[0].NotAfter.UTC().Format(opensslTime))
	}
	if err != nil {
		return nil, fmt.Errorf("trusting certificate %q: %w", name, err)
	}
	edit, err := config.SetEdit(rootsPath, name)
	if err != nil {
		return nil, err
	}
	return []config.Edit{edit}, nil
}

// Distrust makes the edits that take a certificate from the trusted roots.
func Distrust(root *config.Node, name string) ([]config.Edit, error) {
	members, err := config.Select(root, rootsPath+"/member")
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Text == name {
			return []config.Edit{{Op: config.OpDelete, Path: fmt.Sprintf("%s/member[text()='%s']", rootsPath, name)}}, nil
		}
	}
	return nil, fmt.Errorf("certificate %q: %w: it is no trusted root", name, config.ErrNotPresent)
}

// TrustedRoots are the names of the roots that a tree trusts, besides the
// system's.
func TrustedRoots(root *config.Node) ([]string, error) {
	members, err := config.Select(root, rootsPath+"/member")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range members {
		names = append(names, m.Text)
	}
	return names, nil
}
