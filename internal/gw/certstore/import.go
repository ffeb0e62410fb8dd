package certstore

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"moongate/internal/gw/config"
	"moongate/internal/gw/keys"
	"moongate/internal/keyfile"
)

// Part is what of a file is imported.
type Part string

const (
	Certificate Part = "certificate" // the certificate, and its key where the file has it
	PrivateKey  Part = "private-key" // the key of a certificate that is there
	KeyPair     Part = "keypair"     // both
)

// ImportRequest is a file that is imported.
type ImportRequest struct {
	Name string
	Part Part // "" is Certificate
	// Format is "" where it shall be found out.
	Format     keyfile.Format
	Data       []byte
	Passphrase []byte // of what is encrypted; nil for none
	// KeyOnHSM: the private key resides on the HSM, and is looked for there.
	KeyOnHSM bool
}

// Import makes the edits that take in a file. A certificate takes the place of
// another of its name: it keeps that one's private key where the public key is
// the same, as in a CA's answer to a request, or in a renewal.
func (e *Editor) Import(ctx context.Context, root *config.Node, r ImportRequest) ([]config.Edit, error) {
	if err := nameFits(root, r.Name); err != nil {
		return nil, err
	}
	contents, err := keyfile.Read(r.Data, r.Format, r.Passphrase)
	if err != nil {
		return nil, fmt.Errorf("importing %q: %w", r.Name, err)
	}
	edits, err := e.imported(ctx, root, r, contents)
	if err != nil {
		return nil, fmt.Errorf("importing %q: %w", r.Name, err)
	}
	return edits, nil
}

func (e *Editor) imported(ctx context.Context, root *config.Node, r ImportRequest, c keyfile.Contents) ([]config.Edit, error) {
	if r.KeyOnHSM && (c.Key != nil || r.Part == PrivateKey) {
		return nil, errors.New("the private key is in the file, and is said to reside on the HSM: import the certificate alone, or do not say so")
	}
	switch r.Part {
	case Certificate, "":
	case KeyPair:
		if c.Key == nil && !r.KeyOnHSM {
			return nil, errors.New("the file has no private key: import it as a certificate, or say that the key resides on the HSM")
		}
	case PrivateKey:
		if c.Key == nil {
			return nil, errors.New("the file has no private key")
		}
		return e.keyFor(root, r.Name, c.Key)
	default:
		return nil, fmt.Errorf("importing a %q, expected %s, %s or %s", r.Part, Certificate, PrivateKey, KeyPair)
	}
	var public crypto.PublicKey
	if c.Key != nil {
		public = c.Key.Public()
	}
	if len(c.Certificates) == 0 {
		return nil, errors.New("the file has no certificate; a private key alone is imported for a certificate that is there")
	}
	chain, err := keyfile.Chain(c.Certificates, public)
	if err != nil {
		return nil, err
	}
	if err := chainFits(chain); err != nil {
		return nil, err
	}
	if err := keyfile.CheckPublic(chain[0].PublicKey); err != nil {
		return nil, fmt.Errorf("the certificate has %w", err)
	}
	key, err := e.placeOf(ctx, root, r, c.Key, chain[0].PublicKey)
	if err != nil {
		return nil, err
	}
	return put(certificateEntry(r.Name, chain, key)), nil
}

// placeOf finds the private key of a certificate that comes in: in the file, on
// the HSM, or with the entry that it replaces.
func (e *Editor) placeOf(ctx context.Context, root *config.Node, r ImportRequest, key crypto.Signer, public crypto.PublicKey) (keyPlace, error) {
	switch {
	case key != nil:
		return sealKey(e.vault, key)
	case r.KeyOnHSM:
		if _, err := e.onHSM(ctx, public); err != nil {
			return keyPlace{}, fmt.Errorf("its private key on the HSM: %w", err)
		}
		return keyPlace{onHSM: true}, nil
	}
	before, err := findEntry(root, r.Name)
	if errors.Is(err, config.ErrNotPresent) {
		return keyPlace{}, nil
	}
	if err == nil && keyfile.SamePublic(before.public(), public) {
		return before.key, nil
	}
	return keyPlace{}, nil
}

// keyFor makes the edits that give a certificate its private key.
func (e *Editor) keyFor(root *config.Node, name string, key crypto.Signer) ([]config.Edit, error) {
	f, err := findEntry(root, name)
	if errors.Is(err, config.ErrNotPresent) {
		return nil, fmt.Errorf("%w: import the certificate first", err)
	}
	if err != nil {
		return nil, err
	}
	if !keyfile.SamePublic(f.public(), key.Public()) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	place, err := sealKey(e.vault, key)
	if err != nil {
		return nil, err
	}
	return setKey(root, name, place), nil
}

// setKey is the edit that changes where an entry's private key is, and nothing
// else of it.
func setKey(root *config.Node, name string, key keyPlace) []config.Edit {
	nodes, err := config.Select(root, entryPath(name))
	if err != nil || len(nodes) == 0 {
		return nil // its callers have found it
	}
	n := entryNode{&config.Node{Name: "entry", Entry: name}}
	for _, c := range nodes[0].Children {
		if !strings.HasPrefix(c.Name, "private-key") {
			n.node.Children = append(n.node.Children, c)
		}
	}
	n.key(key)
	return put(n.node)
}

// ResideOnHSM makes the edits that say that the private key of a certificate
// that is there resides on the HSM, after it was found there and works.
func (e *Editor) ResideOnHSM(ctx context.Context, root *config.Node, name string) ([]config.Edit, error) {
	f, err := findEntry(root, name)
	if err != nil {
		return nil, err
	}
	if _, err := e.onHSM(ctx, f.public()); err != nil {
		return nil, fmt.Errorf("private key of certificate %q on the HSM: %w", name, err)
	}
	return setKey(root, name, keyPlace{onHSM: true}), nil
}

// KeyProblem is what is wrong with the private key of a certificate.
type KeyProblem struct {
	Certificate string
	Err         error // keys.ErrUnavailable, keys.ErrNotFound, or what came of using it
}

func (p *KeyProblem) Error() string { return p.Err.Error() }
func (p *KeyProblem) Unwrap() error { return p.Err }

// CheckOnHSM asks the HSM for the keys of every certificate of a tree that says
// so, and proves that they work. With an HSM that is away, each of them is a
// problem.
func (e *Editor) CheckOnHSM(ctx context.Context, root *config.Node) ([]*KeyProblem, error) {
	list, err := all(root)
	if err != nil {
		return nil, err
	}
	var problems []*KeyProblem
	var away error // once the HSM is known to be, it is asked no more
	for _, f := range list {
		if !f.key.onHSM {
			continue
		}
		err := away
		if err == nil {
			_, err = e.onHSM(ctx, f.public())
		}
		if errors.Is(err, keys.ErrUnavailable) {
			away = err
		}
		if err != nil {
			problems = append(problems, &KeyProblem{f.name, fmt.Errorf("private key of certificate %q: %w", f.name, err)})
		}
	}
	return problems, nil
}
